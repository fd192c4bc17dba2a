"""This file says what a dialect must be able to tell. Each dialect's file makes one `Dialect` of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.errors import GatewayError


class Dialect(NamedTuple):
    """What the gateway says and reads in one dialect. (Contract §5.)"""

    name: str
    error_body: Callable[[GatewayError, str], bytes]
    """The JSON body of an error, given the request id."""
    error_event: Callable[[GatewayError, str, bool], bytes]
    """The in-band error event of a stream; the flag says whether the stream stands between two events."""
    is_error: Callable[[bytes], bool]
    """Whether the data of an event is an error."""
    is_finished: Callable[[bytes, bool], bool]
    """Whether an answer that ends with these bytes is whole, as far as bytes can tell; the flag says if it streams."""
    read_usage: Callable[[bytes, bytes], Usage]
    """Usage from the first and last bytes of an answer's body, streamed or whole."""
    id_field: bytes = b""
    """The field in which its clients look for the request id, where that is not `x-request-id`."""
