"""Declares what the gateway needs of a dialect. Each dialect's module makes one `Dialect`, which `registry` lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from kyma_proxy.config.snapshot import ErrorRule, Source
from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect.answers.facts import Facts
from kyma_proxy.errors import GatewayError, Kind


class Cleaning(NamedTuple):
    """Removes from a conversation what translations left in it and this dialect's providers refuse. (Contract §3.3.)"""

    may_be_needed: Callable[[bytes], bool]
    """True if a request's body must be searched; rarely the case, and cheap to tell."""
    cleaned: Callable[[bytes], tuple[bytes, tuple[str, ...]]]
    """Returns the cleaned body, and the paths of what was removed."""


class Dialect(NamedTuple):
    """One HTTP API for models: what its callers send and what its providers answer."""

    name: str
    endpoints: tuple[Endpoint, ...]
    """The endpoints at which its callers are served; the first is the main one."""
    credential: Callable[[str], tuple[str, str]]
    """Returns the header field, name and value, that carries a provider's API key."""
    error_body: Callable[[GatewayError, str], bytes]
    """The JSON body of an error, given the request id. (Contract §5.)"""
    error_schema: tuple[str, Mapping[str, object]]
    """The name and the JSON schema of that body, for the OpenAPI document."""
    error_event: Callable[[GatewayError, str, bool], bytes]
    """The in-band error event of a stream; the flag is True if the stream so far ends between two events."""
    read_event: Callable[[bytes, bytes], Facts]
    """What an event of a stream says, given its name and data."""
    read_whole: Callable[[str, bytes], Facts]
    """What a whole answer says, given the name of its endpoint."""
    usage_of: Callable[[Mapping[str, Any]], Usage]
    """The tokens in a usage object, which has the members of all that the answer reported."""
    read_whole_at: frozenset[str]
    """The endpoints whose large answers must be read as a whole: what is charged does not all stand near their end."""
    always_ends: bool
    """True if every stream has the dialect's last event; False if some providers leave it out."""
    operators_errors: tuple[ErrorRule, ...]
    """Errors of its providers that are about the operator's account, quota or key, though their status does not say so."""
    health_check: Callable[[Source], tuple[bytes, bytes]]
    """Returns the path and body of a health check: a request for one token."""
    id_field: bytes = b""
    """The header field in which its client libraries look for the request id, if that is not `x-request-id`."""
    own_fields: frozenset[bytes] = frozenset()
    """Request header fields, in lower case, that only its providers understand."""
    default_fields: tuple[tuple[bytes, bytes], ...] = ()
    """Request header fields that its providers require, with the values to send if neither caller nor provider sets them."""
    error_events: Mapping[bytes, Callable[[GatewayError, str, bool], bytes]] = MappingProxyType({})
    """The in-band error events of endpoints whose streams have others, by the paths at which callers reach them."""
    statuses: Mapping[Kind, int] = MappingProxyType({})
    """The statuses of kinds for which its clients expect another one than the kind's own."""
    version_path: str = ""
    """The part of every path that its client libraries add to a base URL; the base URL of a provider may lack it."""
    whole_list: bytes = b""
    """The parameters of a query that ask a provider for all of its models at once, where it would list only some."""

    def status_of(self, kind: Kind) -> int:
        """The HTTP status that its callers get for a kind of failure."""
        return self.statuses.get(kind, kind.status)

    def error_event_at(self, path: bytes) -> Callable[[GatewayError, str, bool], bytes]:
        """The in-band error event for callers at this path."""
        return self.error_events.get(path, self.error_event)
