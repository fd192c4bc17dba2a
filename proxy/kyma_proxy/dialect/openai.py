"""This file speaks OpenAI: its errors, its error events, its usage."""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.sse import ends_between_events, last_data
from kyma_proxy.dialect.usage import counts_from_end
from kyma_proxy.errors import GatewayError

_encode: Final = msgspec.json.encode
_LAST_OF_RESPONSES: Final = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"')


class _Opening(msgspec.Struct, gc=False):
    error: msgspec.Raw = msgspec.Raw(b"null")
    type: msgspec.Raw = msgspec.Raw(b"null")


_opening: Final = msgspec.json.Decoder(_Opening).decode


def _error(error: GatewayError) -> dict[str, object]:
    row = error.kind.value
    return {"message": error.message, "type": row.openai_type, "param": error.param, "code": row.code}


def _error_body(error: GatewayError, request_id: str) -> bytes:
    return _encode({"error": _error(error)})


def _error_event(error: GatewayError, request_id: str, between_events: bool) -> bytes:
    event = b"data: " + _encode({"error": _error(error)}) + b"\n\n"
    return event if between_events else b"\n\n" + event


def _is_error(data: bytes) -> bool:
    if b'"error"' not in data:
        return False
    try:
        opening = _opening(data)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return bytes(opening.type) == b'"error"' or bytes(opening.error) != b"null"


def _is_finished(tail: bytes, streams: bool) -> bool:
    if not streams:
        return tail.rstrip().endswith((b"}", b"]"))
    if last_data(tail) == b"[DONE]":
        return True
    # The name stands at the beginning of the last and largest event, so its end must be there too.
    return any(name in tail for name in _LAST_OF_RESPONSES) and ends_between_events(tail)


def _read_usage(opening: bytes, tail: bytes) -> Usage:
    for text in (tail, opening):
        for counts in counts_from_end(text):
            details = counts.prompt_tokens_details or counts.input_tokens_details
            cached = details.cached_tokens if details is not None else counts.prompt_cache_hit_tokens
            prompt = counts.input_tokens if counts.prompt_tokens is None else counts.prompt_tokens
            completion = counts.output_tokens if counts.completion_tokens is None else counts.completion_tokens
            return Usage(prompt, completion, cached, "reported")
    return NO_USAGE


OPENAI: Final = Dialect("openai", _error_body, _error_event, _is_error, _is_finished, _read_usage)
