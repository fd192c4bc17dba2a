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
from kyma_proxy.dialect.answers.anthropic_members import decode_event, decode_message
from kyma_proxy.dialect.answers.anthropic_usual import read_usual
from kyma_proxy.dialect.answers.facts import ANSWER, LAST, NOTHING, End, Facts, error_in, has_member_beside
from kyma_proxy.dialect.answers.usage import lenient_json, part, repaired, token_count

_MESSAGE: Final = "messages"
_COUNT: Final = "messages/count_tokens"
_SILENT_BLOCKS: Final = ("text", "thinking")
_OWN_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_COMPACTION: Final = "compaction"
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def read_event(name: bytes, data: bytes) -> Facts:
    """Read one event of a stream. `message_start`, pings and the start of an empty block say nothing yet."""
    try:
        event = decode_event(data)
    except _UNREADABLE:
        value = lenient_json(data) if data.lstrip().startswith(b"{") else None
        better = None if value is None else repaired(data)
        if better is not None:
            return read_event(name, better)
        return Facts(error=error_in(value)) if name == b"error" else NOTHING
    kind = event.type
    if kind == "content_block_delta":
        return ANSWER if has_member_beside(event.delta, "type") else NOTHING
    if name == b"error" or kind == "error" or event.error:
        return Facts(error=error_in(lenient_json(data)))
    if kind == "message_start":
        usage = without_output(part(event.message, "usage")) if isinstance(event.message, dict) else {}
        return Facts(usage=usage) if usage else NOTHING
    if kind == "message_delta":
        reason = event.delta.get("stop_reason") if isinstance(event.delta, dict) else None
        usage_object = event.usage if isinstance(event.usage, dict) and event.usage else None
        return Facts(bool(reason), None, End.REASON if reason else End.NO, usage_object)
    if kind == "message_stop":
        return LAST
    if kind == "content_block_start":
        block = event.content_block if isinstance(event.content_block, dict) else {}
        return NOTHING if block.get("type") in _SILENT_BLOCKS and not has_member_beside(block, "type") else ANSWER
    return NOTHING


def read_whole(endpoint: str, body: bytes) -> Facts:
    """Read a whole answer. A message has a list of content, which may be empty; a count has its number."""
    usual = read_usual(body) if endpoint == _MESSAGE else None
    return read_any(endpoint, body) if usual is None else usual


def read_any(endpoint: str, body: bytes) -> Facts:
    """Read a whole answer in whatever form."""
    try:
        message = decode_message(body)
    except _UNREADABLE:
        better = repaired(body)
        return NOTHING if better is None else read_any(endpoint, better)
    if message.type == "error" or message.error:
        return Facts(error=error_in(lenient_json(body)))
    if endpoint == _COUNT:
        return Facts(token_count(message.input_tokens) is not None, end=End.LAST)
    is_answer = endpoint != _MESSAGE or bytes(message.content).startswith(b"[")
    return Facts(is_answer, None, End.LAST, message.usage if isinstance(message.usage, dict) and message.usage else None)


def usage_in(usage: Raw) -> Mapping[str, Any] | None:
    """A usage object as its source wrote it; None if there is none, or an empty one."""
    value = lenient_json(bytes(usage))
    return value if isinstance(value, dict) and value else None


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
