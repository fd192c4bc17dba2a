"""Makes the gateway's own answers, and the header lines that it adds to every answer."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from kyma_proxy.errors import GatewayError

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_NAME: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,80}")
_MAX_NAMES: Final = 20
_EXPOSED: Final = (
    b"access-control-expose-headers: x-request-id, x-kyma-model, x-kyma-alias, x-kyma-fallback, "
    b"x-kyma-fallback-layer, x-kyma-dropped, x-kyma-estimated, retry-after\r\n"
)


def cors_lines(origin: bytes) -> bytes:
    """The lines that let a web page of this origin read the answer."""
    return b"access-control-allow-origin: %b\r\nvary: origin\r\n%b" % (origin, _EXPOSED)


def relay_lines(request_id: str, model_id: str, alias: str | None, layer: int, dropped: tuple[str, ...]) -> bytes:
    """The lines that the gateway adds to the head of every relayed answer. (Contract §4.2.)"""
    more = b"" if alias is None else b"x-kyma-alias: %b\r\n" % alias.encode()
    if layer:
        more += b"x-kyma-fallback: true\r\nx-kyma-fallback-layer: %d\r\n" % layer
    if dropped:
        more += b"x-kyma-dropped: %b\r\n" % listed(dropped)
    return b"x-request-id: %b\r\nx-kyma-model: %b\r\n%b" % (request_id.encode(), model_id.encode(), more)


def json_answer(status: int, body: bytes, added: bytes, *, close: bool) -> bytes:
    """A whole answer with a JSON body. `added` holds lines of the head."""
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        status,
        _REASONS.get(status, b"Error"),
        len(body),
        added,
        b"connection: close\r\n" if close else b"",
        body,
    )


def listed(names: tuple[str, ...]) -> bytes:
    """Names as a field's value. They may be a caller's words, so only harmless ones are listed, and not too many."""
    fit = [name for name in names if _NAME.fullmatch(name)][:_MAX_NAMES]
    return ", ".join([*fit, "..."] if len(fit) < len(names) else fit).encode()


def id_lines(request_id: str, own_field: bytes) -> bytes:
    """The request id, also in the dialect's own field if it has one: its clients look nowhere else."""
    identity = request_id.encode()
    own = b"%b: %b\r\n" % (own_field, identity) if own_field else b""
    return b"x-request-id: %b\r\n%b" % (identity, own)


def error_lines(error: GatewayError, request_id: str, own_field: bytes = b"") -> bytes:
    """The lines of every error: the request id, when to come back if that is known, and the methods if it is about them."""
    lines = id_lines(request_id, own_field)
    if error.retry_after is not None:
        lines += b"retry-after: %d\r\n" % error.retry_after
    if error.allowed:
        lines += b"allow: %b\r\n" % ", ".join(error.allowed).encode()
    return lines
