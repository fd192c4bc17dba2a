"""Reads the answers of endpoints that do not converse: transcripts, sound, judgements and sorted documents. (Contract §4.3.)

Sources: OpenAI's API reference (audio, moderations), https://docs.cohere.com/reference/rerank, https://jina.ai/reranker,
https://docs.voyageai.com/reference/reranker-api, https://docs.mistral.ai/api (moderations), read in 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.quantities import MAX_MS, MAX_SEARCHES_BILLED, Quantities
from kyma_proxy.core.accounts.usage import NO_USAGE, MeasuredUsage, Usage
from kyma_proxy.dialect.answers.facts import ANSWER, NOTHING, End, Facts, error_in, no_answer
from kyma_proxy.dialect.answers.usage import lenient_json

_TRANSCRIPTS: Final = frozenset({"audio/transcriptions", "audio/translations"})
_SOUND: Final = "audio/speech"
OPAQUE: Final = frozenset({*_TRANSCRIPTS, _SOUND})
"""The endpoints whose answers may be sound or plain text, and are no JSON then."""
_LISTS: Final = frozenset({"moderations", "rerank"})
ENDPOINTS: Final = OPAQUE | _LISTS
EVENTS: Final = ("transcript.", "speech.")
"""The beginnings of the types of events of their streams."""
_PAGE: Final = re.compile(rb"[\s\xef\xbb\xbf]*<(?:!doctype|html|head|\?xml)", re.IGNORECASE)
_LAST_EVENTS: Final = frozenset({"transcript.text.done", "speech.audio.done"})
_NULL: Final = Raw(b"null")
UsageOf = Callable[[Mapping[str, Any]], Usage]


class _Whole(msgspec.Struct, gc=False):
    text: Raw = _NULL
    results: Raw = _NULL
    data: Raw = _NULL
    duration: Any = None
    usage: Any = None
    meta: Any = None
    error: Any = None
    type: Any = None
    object: Any = None


_whole: Final = msgspec.json.Decoder(_Whole).decode


def refuse_page(beginning: bytes) -> None:
    """Raises BadAnswer if a body that begins so is a page of some server on the way, and neither sound nor a transcript."""
    if _PAGE.match(beginning) is not None:
        raise no_answer("its answer is a web page")


def read_measured(endpoint: str, body: bytes, usage_of: UsageOf) -> Facts:
    """Read a whole answer at one of ENDPOINTS. Without what was asked for it is no answer."""
    try:
        whole = _whole(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _read_odd(endpoint, body)
    if whole.error or "error" in (whole.type, whole.object):
        return Facts(error=error_in(lenient_json(body)))
    if endpoint in _TRANSCRIPTS:
        is_answer = bytes(whole.text).startswith(b'"')
    elif endpoint == _SOUND:
        is_answer = False
    else:
        is_answer = _is_list(whole.results) or (endpoint == "rerank" and _is_list(whole.data))
    return Facts(is_answer, None, End.LAST, None, _used(whole, usage_of))


def read_measured_event(kind: str, usage: Any) -> Facts:
    """Read an event of a stream of sound, or of a transcript."""
    if kind not in _LAST_EVENTS:
        return ANSWER
    return Facts(True, None, End.LAST, usage if isinstance(usage, dict) and usage else None)


def usage_beside_tokens(usage: Mapping[str, Any]) -> Usage:
    """The usage in an object without tokens; NO_USAGE if that is nothing."""
    milliseconds = _milliseconds(usage.get("seconds"))
    return NO_USAGE if milliseconds is None else MeasuredUsage(None, None, None, "reported", Quantities(0, 0, milliseconds))


def _read_odd(endpoint: str, body: bytes) -> Facts:
    """It is no JSON object: sound or plain text, unless it is a page, or an error that something was wrapped around."""
    if endpoint not in OPAQUE or not body.strip():
        return NOTHING
    refuse_page(body)
    value = lenient_json(body) if body.startswith(b"[") else None
    inner = value[0] if isinstance(value, list) and value else value
    if isinstance(inner, dict) and inner.get("error"):
        return Facts(error=error_in(inner))
    return Facts(True, None, End.LAST)


def _is_list(value: Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b"["


def _used(whole: _Whole, usage_of: UsageOf) -> Usage:
    usage = whole.usage if isinstance(whole.usage, dict) else {}
    tokens = usage_of(usage) if usage else NO_USAGE
    milliseconds = _milliseconds(usage.get("seconds", whole.duration))
    searches = _searches(whole.meta)
    if milliseconds is None and searches is None:
        return tokens
    quantities = Quantities(0, 0, milliseconds, None, searches)
    return MeasuredUsage(tokens.prompt, tokens.completion, tokens.cached, "reported", quantities)


def _milliseconds(seconds: Any) -> int | None:
    """The length of a sound; some write the seconds as a text."""
    if isinstance(seconds, str) and len(seconds) <= 32:
        try:
            seconds = float(seconds)
        except ValueError:
            return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_MS // 1000:
        return None
    return round(seconds * 1000)


def _searches(meta: Any) -> int | None:
    billed = meta.get("billed_units") if isinstance(meta, dict) else None
    units = billed.get("search_units") if isinstance(billed, dict) else None
    if isinstance(units, float) and units.is_integer():
        units = int(units)
    return units if type(units) is int and 0 <= units <= MAX_SEARCHES_BILLED else None
