"""This file puts together the bytes of a request to a source that speaks the caller's dialect. (Contract §3.3–3.6)"""

from __future__ import annotations

from typing import Final

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import RoutingFields, patched
from kyma_proxy.core.http.headers import encode_request_head

_ASKS_FOR_USAGE: Final = b'"stream_options":{"include_usage":true},'


def request_bytes(exchange: Exchange, source: Source, body: bytes, head: RoutingFields) -> list[bytes | memoryview]:
    """The request's head, and the caller's body with one value replaced; `head` is what was read of that body."""
    inbound, endpoint = exchange.inbound, exchange.endpoint
    insertion = _ASKS_FOR_USAGE if exchange.asks_for_usage(source) else b""
    max_tokens = exchange.snapshot.max_tokens
    if max_tokens is not None and endpoint.takes_max_tokens and not head.has_max_tokens:
        member = source.max_tokens_field if endpoint.name == "chat/completions" else None
        insertion += b'"%b":%d,' % ((member or "max_tokens").encode(), max_tokens)
    pieces = patched(body, head, source.model_json, insertion)
    if len(pieces) == 1:
        return [b"".join((encode_request_head(inbound, endpoint.path, source, len(pieces[0])), pieces[0]))]
    return [encode_request_head(inbound, endpoint.path, source, sum(map(len, pieces))), *pieces]
