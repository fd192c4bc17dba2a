"""Encodes a request to a source that speaks the caller's dialect. (Contract §3.3–3.6)"""

from __future__ import annotations

from typing import Final

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import NO_OPTIONS, RoutingFields, absent_members, patched, replaced
from kyma_proxy.core.http.headers import encode_request_head

_STREAM_OPTIONS: Final = b'{"include_usage":true}'
_ASKS_FOR_USAGE: Final = b'"stream_options":%b,' % _STREAM_OPTIONS


def asks_for_usage(exchange: Exchange, source: Source) -> bool:
    """True if the gateway asks this source for a stream's usage, of which the caller will see nothing. (Contract §3.6.)"""
    routing = exchange.routing
    return (
        routing is not None
        and routing.written is not None
        and routing.streams
        and source.stream_usage
        and exchange.endpoint.takes_stream_options
        and (exchange.reservation is not None or exchange.snapshot.asks_usage)
        and routing.written.stream_options in NO_OPTIONS
    )


def request_bytes(
    exchange: Exchange, source: Source, body: bytes, routing: RoutingFields, *, with_usage: bool
) -> list[bytes | memoryview]:
    """The request's head, and the caller's body with one value replaced; `routing` are the fields of that body.

    `with_usage` asks for a stream's usage. Options that are null are replaced, as no member may be there twice.
    """
    inbound, endpoint = exchange.inbound, exchange.endpoint
    insertion = b""
    if with_usage:
        written = exchange.routing.written if exchange.routing is not None else None
        if written is not None and written.stream_options:
            body, routing = replaced(body, routing, "stream_options", _STREAM_OPTIONS)
        else:
            insertion = _ASKS_FOR_USAGE
    max_tokens = exchange.snapshot.max_tokens
    if max_tokens is not None and endpoint.takes_max_tokens and not routing.has_max_tokens:
        member = source.max_tokens_field if endpoint.renames_max_tokens else None
        insertion += b'"%b":%d,' % ((member or "max_tokens").encode(), max_tokens)
    if source.body:
        insertion += absent_members(body, source.body)
    pieces = patched(body, routing, source.model_json, insertion)
    if len(pieces) == 1:
        return [b"".join((encode_request_head(inbound, endpoint.path, source, len(pieces[0])), pieces[0]))]
    return [encode_request_head(inbound, endpoint.path, source, sum(map(len, pieces))), *pieces]


def form_bytes(exchange: Exchange, source: Source, total: int | None) -> list[bytes | memoryview]:
    """The request's head, and the caller's form with one value replaced. Nothing is inserted into a form.

    `total` is its size if only its beginning is there.
    """
    inbound, routing = exchange.inbound, exchange.routing
    assert routing is not None  # noqa: S101  (routed)
    view, model = memoryview(inbound.body), source.model.encode()
    size = (len(view) if total is None else total) - (routing.end - routing.start) + len(model)
    head = encode_request_head(inbound, exchange.endpoint.path, source, size)
    return [head, view[: routing.start], model, view[routing.end :]]
