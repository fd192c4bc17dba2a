"""Says what the gateway must know of a dialect. Each dialect's module makes one `Dialect`, which `registry` lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.errors import GatewayError


class Cleaning(NamedTuple):
    """What translations leave in a conversation, and this dialect's providers refuse. (Contract §3.3.)"""

    may_be_needed: Callable[[bytes], bool]
    """True if a request's body is worth a look; nearly never."""
    cleaned: Callable[[bytes], tuple[bytes, tuple[str, ...]]]
    """The body without it, and the paths of what was taken out."""


class Dialect(NamedTuple):
    """One way to speak of models over HTTP: what its callers send, what its providers answer."""

    name: str
    endpoints: tuple[Endpoint, ...]
    """Where its callers are served."""
    credential: Callable[[str], tuple[str, str]]
    """The header field, name and value, in which its providers want their key."""
    error_body: Callable[[GatewayError, str], bytes]
    """The JSON body of an error, given the request id. (Contract §5.)"""
    error_event: Callable[[GatewayError, str, bool], bytes]
    """The in-band error event of a stream; the flag says whether the stream stands between two events."""
    is_error: Callable[[bytes], bool]
    """True if the data of an event is an error."""
    is_finished: Callable[[bytes, bool], bool]
    """True if an answer that ends with these bytes is whole, as far as bytes can tell; the flag says if it streams."""
    read_usage: Callable[[bytes, bytes], Usage]
    """Usage from the first and last bytes of an answer's body, streamed or whole."""
    check: Callable[[Source], tuple[bytes, bytes]]
    """The path and body of a health check: a request for one token."""
    id_field: bytes = b""
    """The field in which its clients look for the request id, if that is not `x-request-id`."""
    own_fields: frozenset[bytes] = frozenset()
    """Request fields, in lower case, that only its providers understand."""
    default_fields: tuple[tuple[bytes, bytes], ...] = ()
    """Request fields that its providers require, with the values to send if the caller and the provider name none."""
    cleaning: Cleaning | None = None
