"""Reads the answers of Anthropic's dialect. (Contract §4.3, §4.4, §8.)

Sources: https://docs.claude.com/en/docs/build-with-claude/streaming (events), …/prompt-caching (usage), …/compaction (usage of
iterations), and the types of Anthropic's SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.answers.facts import ANSWER, LAST, NOTHING, UNNAMED_ERROR, End, Facts, error_in
from kyma_proxy.dialect.answers.usage import part, token_count

USAGE_MARKS: Final = (b'"usage":{', b'"usage": {')
ERROR_MARKS: Final = (b'"error"', b"event: error", b"event:error", b"\nerror:")
_NULL: Final = Raw(b"null")
_EMPTY: Final = (b"null", b"{}", b"[]", b'""', b"false")
_MESSAGE: Final = "messages"
_COUNT: Final = "messages/count_tokens"
_SILENT_BLOCKS: Final = ("text", "thinking")
_OWN_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_COMPACTION: Final = "compaction"
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class _Event(msgspec.Struct, gc=False):
    type: Raw = _NULL
    error: Raw = _NULL
    message: Raw = _NULL
    delta: Raw = _NULL
    content_block: Raw = _NULL
    usage: Raw = _NULL


class _Message(msgspec.Struct, gc=False):
    type: Raw = _NULL
    error: Raw = _NULL
    content: Raw = _NULL
    input_tokens: Raw = _NULL
    usage: Raw = _NULL


_event: Final = msgspec.json.Decoder(_Event).decode
_message: Final = msgspec.json.Decoder(_Message).decode
_anything: Final = msgspec.json.Decoder().decode


def read_event(name: bytes, data: bytes) -> Facts:
    """Read one event of a stream. `message_start`, pings and the start of an empty block say nothing yet."""
    try:
        event = _event(data)
    except _UNREADABLE:
        return Facts(error=UNNAMED_ERROR) if name == b"error" else NOTHING
    kind = bytes(event.type)
    if kind == b'"content_block_delta"':
        return ANSWER if _says_something(_object(event.delta)) else NOTHING
    if name == b"error" or kind == b'"error"' or bytes(event.error) not in _EMPTY:
        return Facts(error=error_in(_decoded(data)))
    if kind == b'"message_start"':
        usage = without_output(part(_object(event.message), "usage"))
        return Facts(usage=usage) if usage else NOTHING
    if kind == b'"message_delta"':
        reason = _object(event.delta).get("stop_reason")
        return Facts(bool(reason), end=End.REASON if reason else End.NO, usage=usage_in(event.usage))
    if kind == b'"message_stop"':
        return LAST
    if kind == b'"content_block_start"':
        block = _object(event.content_block)
        return NOTHING if block.get("type") in _SILENT_BLOCKS and not _says_something(block) else ANSWER
    return NOTHING


def _says_something(value: Mapping[str, Any]) -> bool:
    return any(member for name, member in value.items() if name != "type")


def read_whole(endpoint: str, body: bytes) -> Facts:
    """Read a whole answer. A message has a list of content, which may be empty; a count has its number."""
    try:
        message = _message(body)
    except _UNREADABLE:
        return NOTHING
    if bytes(message.type) == b'"error"' or bytes(message.error) not in _EMPTY:
        return Facts(error=error_in(_decoded(body)))
    if endpoint == _COUNT:
        return Facts(token_count(_decoded(bytes(message.input_tokens))) is not None, end=End.LAST)
    is_answer = endpoint != _MESSAGE or bytes(message.content).startswith(b"[")
    return Facts(is_answer, end=End.LAST, usage=usage_in(message.usage))


def usage_in(usage: Raw) -> Mapping[str, Any] | None:
    """A usage object that is not empty."""
    return _object(usage) or None


def without_output(usage: Mapping[str, Any]) -> Mapping[str, Any]:
    """The usage that `message_start` reports, without its output tokens: those are the first few, never the answer's."""
    return {name: value for name, value in usage.items() if name != "output_tokens"}


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """The tokens of a usage object; see `Usage`. The prompt includes what was read from a cache or written to it.

    The totals at the top are those of all iterations but compactions, which are added; an advisor is another model, and a
    declined iteration is not paid for, so neither is in them.
    """
    output = token_count(usage.get("output_tokens"))
    if token_count(usage.get("input_tokens")) is None and output is None:
        return NO_USAGE
    paid = [usage]
    iterations = usage.get("iterations")
    if isinstance(iterations, list):
        paid += [one for one in iterations if isinstance(one, dict) and one.get("type") == _COMPACTION]
        output = sum((token_count(one.get("output_tokens")) or 0 for one in paid[1:]), output or 0) if paid[1:] else output
    parts = [_input_of(one) for one in paid]
    owns = [own for own, _, _, _ in parts if own is not None]
    reads = [cached for _, cached, _, _ in parts if cached is not None]
    minutes, hour = sum(minutes for _, _, minutes, _ in parts), sum(hour for _, _, _, hour in parts)
    tier = usage.get("service_tier")
    return Usage(
        sum(owns) + sum(reads) + minutes + hour if owns else None,
        output,
        sum(reads) if reads else None,
        "reported",
        cache_write_5m=minutes,
        cache_write_1h=hour,
        searches=token_count(part(usage, "server_tool_use").get("web_search_requests")),
        service_tier=tier if isinstance(tier, str) else None,
    )


def _input_of(usage: Mapping[str, Any]) -> tuple[int | None, int | None, int, int]:
    """The tokens of a prompt that no cache has to do with, those that were read from one, and those that were written to it.

    The latter are those for five minutes, which is the usual lifetime, and for an hour.
    """
    own, cached, written = (token_count(usage.get(name)) for name in _OWN_INPUT)
    creation = part(usage, "cache_creation")
    hour = token_count(creation.get("ephemeral_1h_input_tokens")) or 0
    minutes = token_count(creation.get("ephemeral_5m_input_tokens")) or 0
    if written is not None:
        hour = min(hour, written)
        minutes = written - hour
    return own, cached, minutes, hour


def _object(raw: Raw) -> Mapping[str, Any]:
    if not bytes(raw).startswith(b"{"):
        return {}
    value = _decoded(bytes(raw))
    return value if isinstance(value, dict) else {}


def _decoded(data: bytes) -> Any:
    """The decoded value; None if it can't be read."""
    try:
        return _anything(data)
    except _UNREADABLE:
        return None
