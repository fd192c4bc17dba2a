"""This file speaks Anthropic: its errors, its error events, its usage."""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.sse import ends_between_events
from kyma_proxy.dialect.usage import Counts, counts_from_end
from kyma_proxy.errors import GatewayError

_encode: Final = msgspec.json.encode


class _Opening(msgspec.Struct, gc=False):
    type: str | None = None


_opening: Final = msgspec.json.Decoder(_Opening).decode


def _error_body(error: GatewayError, request_id: str) -> bytes:
    row = error.kind.value
    words = {"type": row.anthropic_type, "message": error.message}
    return _encode({"type": "error", "error": words, "request_id": request_id})


def _error_event(error: GatewayError, request_id: str, between_events: bool) -> bytes:
    # In the middle of an event its type is made `error`, so that a client reads the unfinished one as what it is.
    start = b"" if between_events else b"\n"
    return start + b"event: error\ndata: " + _error_body(error, request_id) + b"\n\n"


def _is_error(data: bytes) -> bool:
    try:
        return _opening(data).type == "error"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _is_finished(tail: bytes, streams: bool) -> bool:
    return b'"message_stop"' in tail[-256:] and ends_between_events(tail) if streams else tail.rstrip().endswith(b"}")


def _read_usage(opening: bytes, tail: bytes) -> Usage:
    """The prompt's counts stand in the first event and, with newer models, again in the last; output in the last."""
    first = next(iter([*counts_from_end(opening)][::-1]), None)
    last = next(counts_from_end(tail), None)
    if first is None and last is None:
        return NO_USAGE
    first = first or last or Counts()
    last = last or first
    prompt = last if last.input_tokens is not None else first
    parts = (prompt.input_tokens, prompt.cache_read_input_tokens, prompt.cache_creation_input_tokens)
    total = sum(part or 0 for part in parts) if prompt.input_tokens is not None else None
    return Usage(total, last.output_tokens, prompt.cache_read_input_tokens, "reported")


ANTHROPIC: Final = Dialect("anthropic", _error_body, _error_event, _is_error, _is_finished, _read_usage, b"request-id")
