"""Lists every dialect, and the translations from one endpoint to another. A new one is a folder of its own and rows here.

A translation belongs to two endpoints, not to two dialects: OpenAI has two APIs for conversations, and a source of its dialect
that has only one of them is asked there for callers of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from kyma_proxy.config.snapshot import IMAGES
from kyma_proxy.core.http.answers import error_lines, json_answer
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect import anthropic_to_openai, openai_to_anthropic, responses
from kyma_proxy.dialect.anthropic import ANTHROPIC, MESSAGES
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.images.contract import ImageDialect
from kyma_proxy.dialect.images.fal_queue import FAL_QUEUE
from kyma_proxy.dialect.images.openai_images import OPENAI_IMAGES
from kyma_proxy.dialect.openai import CHAT, OPENAI, RESPONSES
from kyma_proxy.dialect.translation import Order, Translation
from kyma_proxy.errors import GatewayError

Translator = Callable[[Order], Translation]
"""Makes the translation of one request for one source. Raises GatewayError if the source's endpoint can't express it."""

_dialects: Final[dict[str, Dialect]] = {}
_relayed: Final[dict[bytes, Endpoint]] = {}
_main_endpoints: Final[dict[str, Endpoint]] = {}
_by_key: Final[dict[str, Endpoint]] = {}
_translators: Final[dict[tuple[str, str], Translator]] = {}

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(_dialects)
"""All dialects by name. Callers whose path belongs to none are answered in OPENAI."""
RELAYED: Final[Mapping[bytes, Endpoint]] = MappingProxyType(_relayed)
"""Every relayed endpoint by the path at which callers reach it; the method is always POST."""
TRANSLATORS: Final[Mapping[tuple[str, str], Translator]] = MappingProxyType(_translators)
"""All translators, by the keys of the caller's endpoint and of that at which the source is asked."""
MAIN_ENDPOINTS: Final[Mapping[str, Endpoint]] = MappingProxyType(_main_endpoints)
"""The endpoint to suggest to callers of each dialect."""
IMAGE_DIALECTS: Final[Mapping[str, ImageDialect]] = MappingProxyType({one.name: one for one in (OPENAI_IMAGES, FAL_QUEUE)})
"""All image dialects by name."""


def register(dialect: Dialect, translators: Mapping[tuple[str, str], Translator]) -> None:
    """Add a dialect; its first endpoint is its main one. `translators` go from and to its endpoints."""
    _dialects[dialect.name] = dialect
    _main_endpoints[dialect.name] = dialect.endpoints[0]
    _relayed.update({path: endpoint for endpoint in dialect.endpoints for path in _paths(endpoint)})
    _by_key.update({endpoint.key: endpoint for endpoint in dialect.endpoints})
    _translators.update(translators)


def _paths(endpoint: Endpoint) -> tuple[bytes, ...]:
    path = b"/v1" + endpoint.path
    return (path, endpoint.also_at) if endpoint.also_at else (path,)


def unregister(name: str) -> None:
    """Remove a dialect, with its endpoints and all translations from and to it."""
    del _main_endpoints[name]
    for endpoint in _dialects.pop(name).endpoints:
        for path in _paths(endpoint):
            del _relayed[path]
        del _by_key[endpoint.key]
        for pair in [pair for pair in _translators if endpoint.key in pair]:
            del _translators[pair]


register(OPENAI, {(RESPONSES.key, CHAT.key): responses.to_chat})
register(
    ANTHROPIC,
    {
        (MESSAGES.key, CHAT.key): anthropic_to_openai.translate,
        (CHAT.key, MESSAGES.key): openai_to_anthropic.translate,
        (RESPONSES.key, MESSAGES.key): responses.to_messages,
    },
)


def endpoint_of(key: str) -> Endpoint:
    """The endpoint with this key."""
    return _by_key[key]


def asked_endpoints(endpoint: Endpoint) -> dict[str, tuple[str, ...]]:
    """The keys of the endpoints at which sources can be asked for callers of this one, by the dialects of the sources.

    The caller's own endpoint comes first: a source that has it needs no translation.
    """
    asked: dict[str, tuple[str, ...]] = {endpoint.dialect: (endpoint.key,)}
    for caller, source in _translators:
        if caller == endpoint.key:
            dialect = _by_key[source].dialect
            asked[dialect] = (*asked.get(dialect, ()), source)
    return asked


def endpoints_of(dialect: str) -> tuple[str, ...]:
    """The keys of all endpoints of a dialect that its sources may have, the main one first."""
    relayed = _dialects.get(dialect)
    return (IMAGES,) if relayed is None else tuple([endpoint.key for endpoint in relayed.endpoints])


def dialect_at(path: bytes) -> Dialect:
    """Return the dialect in which to answer at a path of the public listener, relayed or not."""
    for dialect in _dialects.values():
        for endpoint in dialect.endpoints:
            if path.startswith(b"/v1" + endpoint.path):
                return dialect
    return OPENAI


def error_answer(error: GatewayError, request_id: str, path: bytes = b"", added: bytes = b"") -> bytes:
    """Return the whole answer to a request at this path that is refused, behind which the connection is closed.

    `added` holds further lines of its head.
    """
    dialect = dialect_at(path)
    lines = error_lines(error, request_id, dialect.id_field) + added
    return json_answer(error.kind.status, dialect.error_body(error, request_id), lines, close=True)


def credential_of(dialect: str) -> Callable[[str], tuple[str, str]]:
    """The header field, name and value, that carries an API key to a provider of this dialect."""
    relayed = _dialects.get(dialect)
    return IMAGE_DIALECTS[dialect].credential if relayed is None else relayed.credential


def default_fields(dialect: str) -> tuple[tuple[bytes, bytes], ...]:
    """The request header fields that providers of this dialect require; see `Dialect`."""
    relayed = _dialects.get(dialect)
    return () if relayed is None else relayed.default_fields


def version_path(dialect: str) -> str:
    """The part of a path that the base URL of a provider of this dialect may lack, or ""."""
    relayed = _dialects.get(dialect)
    return "" if relayed is None else relayed.version_path


def foreign_fields(dialect: str) -> frozenset[bytes]:
    """Return the request header fields that only providers of other dialects understand."""
    return frozenset().union(*(one.own_fields for one in _dialects.values() if one.name != dialect))
