"""Reads the answers of OpenAI's dialect, as its many providers write them. (Contract §4.3, §4.4, §8.)

Sources: OpenAI's API reference (chat and completion chunks, `responses` events, embeddings); and where others differ, the
documentation or reports named beside the rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.dialect.answers.facts import (
    ANSWER,
    LAST,
    NOTHING,
    UNNAMED_ERROR,
    End,
    Facts,
    error_in,
    has_member_beside,
    reported_error,
)
from kyma_proxy.dialect.answers.measured import ENDPOINTS, EVENTS, read_measured, read_measured_event, usage_beside_tokens
from kyma_proxy.dialect.answers.openai_members import (
    NULL,
    Event,
    Response,
    decode_event,
    decode_items,
    decode_response,
    decode_whole,
)
from kyma_proxy.dialect.answers.openai_usual import read_usual
from kyma_proxy.dialect.answers.usage import first_count, lenient_json, part, repaired, token_count

INCOMPLETE_REASONS: Final = ("error", "insufficient_system_resource")
"""Finish reasons that mark an incomplete answer: OpenRouter's and DeepSeek's. No set: a reason may be what can't be hashed."""
_WITH_CHOICES: Final = ("chat/completions", "completions")
_DONE: Final = b"[DONE]"
_EMPTY_ARRAY: Final = re.compile(rb"\[[ \t\r\n]*+\]")
_SILENT_EVENTS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_ADDED_EVENTS: Final = frozenset({"response.output_item.added", "response.content_part.added"})
_SILENT_ITEMS: Final = ("message", "reasoning", "output_text", "reasoning_text")
_LAST_EVENTS: Final = frozenset({"response.completed", "response.incomplete"})
_FAILED_EVENT: Final = "response.failed"
_UNFINISHED_STATUSES: Final = frozenset({"queued", "in_progress"})
_SEARCH: Final = "web_search_call"
_SEARCH_MARK: Final = b'"web_search_call"'
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def read_event(name: bytes, data: bytes) -> Facts:
    """Read one event of a stream: of chat completions, completions or `responses`."""
    if data == _DONE or data.strip() == _DONE:
        return LAST
    try:
        event: Event = decode_event(data)
    except _UNREADABLE:
        return _read_odd(name, data)
    kind = event.type
    if (
        name == b"error"  # DashScope, llama.cpp and others name the event, and put no `error` into it
        or event.error
        or kind == "error"
        or event.object == "error"  # vLLM
    ):
        return Facts(error=error_in(lenient_json(data)))
    if isinstance(kind, str):
        if kind.startswith("response."):
            return _read_responses_event(kind, event)
        if kind.startswith(EVENTS):
            return read_measured_event(kind, event.usage)
    usage = event.usage
    if not usage or event.x_groq or event.service_tier:
        usage = _usage_with(usage, event.x_groq, event.service_tier)
        if isinstance(event.x_groq, dict) and event.x_groq.get("error"):  # Groq reports a failed generation there
            return Facts(error=error_in(event.x_groq["error"]), usage=usage)
    return _read_choices(event.choices, usage if isinstance(usage, dict) else None)


def _read_odd(name: bytes, data: bytes) -> Facts:
    """Read an event that is not quite JSON, or has not the members of an event: it is an error, or says nothing."""
    value = lenient_json(data) if data.lstrip().startswith((b"{", b"[")) else None
    if value is not None:
        better = repaired(data)
        if better is not None:
            return read_event(name, better)
    inner = value[0] if isinstance(value, list) and value else value  # Gemini's compatible endpoint
    if name == b"error" or (isinstance(inner, dict) and (inner.get("error") or inner.get("type") == "error")):
        return Facts(error=error_in(inner))
    return NOTHING


def _read_responses_event(kind: str, event: Event) -> Facts:
    if kind in _LAST_EVENTS:
        response = _response_of(event)
        return Facts(
            is_answer=True, end=End.LAST, usage=_usage_of_response(response.usage, response.service_tier, response.output)
        )
    if kind == _FAILED_EVENT:
        response = _response_of(event)
        return Facts(error=error_in(response.error), usage=_usage_with(response.usage, None, response.service_tier))
    if kind in _SILENT_EVENTS:
        return NOTHING
    if kind in _ADDED_EVENTS:
        added = event.part if event.item is None else event.item
        return NOTHING if isinstance(added, dict) and added.get("type") in _SILENT_ITEMS else ANSWER
    return ANSWER


def _response_of(event: Event) -> Response:
    try:
        response: Response = decode_response(event.response)
    except _UNREADABLE:
        return Response()
    return response


def _read_choices(choices: Any, usage: Mapping[str, Any] | None) -> Facts:
    """Read the choices of a chunk. A role alone, or an empty text, says nothing."""
    if not choices:
        return NOTHING if usage is None else Facts(usage=usage)
    is_answer = False
    end = End.NO
    for choice in choices:
        reason = choice.finish_reason
        if reason or choice.error:
            if choice.error or reason in INCOMPLETE_REASONS:  # OpenRouter puts the error into the choice
                return Facts(error=_error_of(choice.error, reason), usage=usage)
            is_answer, end = True, End.REASON
        if usage is None and isinstance(choice.usage, dict) and choice.usage:  # Moonshot
            usage = choice.usage
        if not is_answer:
            is_answer = bool(choice.text) or has_member_beside(choice.delta, "role")
    if is_answer and end is End.NO and usage is None:
        return ANSWER
    return Facts(is_answer, None, end, usage)


def _error_of(error: Any, reason: Any) -> Any:
    found = error_in(error)
    return found if found.code else reported_error(reason)


def read_whole(endpoint: str, body: bytes) -> Facts:
    """Read a whole answer. Without the member that was asked for it is no answer."""
    if endpoint in _WITH_CHOICES:
        usual = read_usual(body, INCOMPLETE_REASONS)
        return read_any(endpoint, body) if usual is None else usual
    return read_measured(endpoint, body, usage_of) if endpoint in ENDPOINTS else read_any(endpoint, body)


def read_any(endpoint: str, body: bytes) -> Facts:
    """Read a whole answer in whatever form."""
    try:
        whole = decode_whole(body)
    except _UNREADABLE:
        return _read_odd_whole(endpoint, body)
    choices = whole.choices
    if whole.error or (choices is None and "error" in (whole.type, whole.object)):
        return Facts(error=error_in(lenient_json(body)))
    usage, tier = whole.usage, whole.service_tier
    if not usage or tier:
        usage = _usage_with(usage, whole.x_groq, tier)
    if not isinstance(usage, dict):
        usage = None
    if choices is not None or endpoint in _WITH_CHOICES:
        return _read_whole_choices(choices, usage)
    if endpoint == "responses":
        status = whole.status
        if status == "failed":
            return Facts(error=UNNAMED_ERROR)
        is_answer = bytes(whole.output).startswith(b"[") or (isinstance(status, str) and status in _UNFINISHED_STATUSES)
        return Facts(is_answer, None, End.LAST, _usage_of_response(usage, None, whole.output))
    if endpoint == "embeddings":
        data = bytes(whole.data)
        return Facts(data.startswith(b"[") and not _EMPTY_ARRAY.match(data), None, End.LAST, usage)
    return Facts(True, None, End.LAST, usage)


def _read_odd_whole(endpoint: str, body: bytes) -> Facts:
    """It may be not quite JSON. Some wrap an error in a list (Gemini's compatible endpoint); anything else is no answer."""
    better = repaired(body)
    if better is not None:
        return read_any(endpoint, better)
    value = lenient_json(body)
    inner = value[0] if isinstance(value, list) and value else value
    return Facts(error=error_in(inner)) if isinstance(inner, dict) and inner.get("error") else NOTHING


def _read_whole_choices(choices: Any, usage: Mapping[str, Any] | None) -> Facts:
    if choices is None:
        return NOTHING
    for choice in choices:
        reason = choice.finish_reason
        if choice.error or reason in INCOMPLETE_REASONS:
            return Facts(error=_error_of(choice.error, reason), usage=usage)
        if usage is None and isinstance(choice.usage, dict) and choice.usage:
            usage = choice.usage
    # Without a choice there must be a usage at least: then the provider has made something, and is paid for it.
    return Facts(bool(choices) or (usage is not None and not _is_zero(usage)), None, End.LAST, usage)


def _is_zero(usage: Mapping[str, Any]) -> bool:
    """True if a usage says that nothing was used."""
    counts = [token_count(value) for value in usage.values()]
    return 0 in counts and not any(counts)


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """The tokens of a usage object; see `Usage`.

    - Completion: some leave reasoning out of `completion_tokens` but not out of the total (xAI, Gemini); so it is at least the
      total less the prompt.
    - Cached: in the prompt's details (OpenAI), at the top as `cached_tokens` (Moonshot), `prompt_cache_hit_tokens` (DeepSeek),
      or `cache_read_input_tokens` (gateways in front of Anthropic).
    """
    get = usage.get
    prompt = token_count(get("prompt_tokens")) or first_count(usage, "prompt_tokens", "input_tokens")
    completion = token_count(get("completion_tokens")) or first_count(usage, "completion_tokens", "output_tokens")
    total = token_count(get("total_tokens"))
    if prompt is None and completion is None and total is None:
        return usage_beside_tokens(usage)
    if total is not None:
        if prompt is None:
            prompt = max(total - (completion or 0), 0)
        elif total - prompt > (completion or 0):
            completion = total - prompt
        if len(usage) == 3:
            return Usage(prompt, completion, None, "reported")  # as most write it
    else:
        reasoning = token_count(part(usage, "completion_tokens_details", "output_tokens_details").get("reasoning_tokens"))
        if completion is not None and reasoning is not None and reasoning > completion:
            completion += reasoning  # more than all: it was not counted
    details = part(usage, "prompt_tokens_details", "input_tokens_details")
    cached = token_count(details.get("cached_tokens"))
    if not cached:
        other = first_count(usage, "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
        cached = other if other is not None else cached
    tier = get("service_tier")
    return Usage(
        prompt,
        completion,
        cached,
        "reported",
        0,
        0,
        token_count(details.get("cache_write_tokens")) or token_count(get("cache_creation_input_tokens")) or 0,
        _searches_of(usage),
        tier if isinstance(tier, str) else None,
    )


def _searches_of(usage: Mapping[str, Any]) -> int | None:
    tools = usage.get("server_tool_use")
    searches = token_count(tools.get("web_search_requests")) if isinstance(tools, dict) else None
    return token_count(usage.get("num_search_queries")) if searches is None else searches


def usage_in(usage: Raw, x_groq: Raw = NULL) -> Mapping[str, Any] | None:
    """A usage object as its source wrote it, in `usage` or in Groq's `x_groq`; None if there is none, or an empty one."""
    return _usage_with(lenient_json(bytes(usage)), lenient_json(bytes(x_groq)), None)


def _usage_with(usage: Any, x_groq: Any, tier: Any) -> dict[str, Any] | None:
    """A usage object that is not empty, with the service tier that stands beside it; Groq once put it into `x_groq`."""
    if not isinstance(usage, dict) or not usage:
        usage = x_groq.get("usage") if isinstance(x_groq, dict) else None
        if not isinstance(usage, dict) or not usage:
            return None
    return {**usage, "service_tier": tier} if tier else usage


def _usage_of_response(usage: Any, tier: Any, output: Any) -> dict[str, Any] | None:
    """The same, with the number of searches among the items of a response."""
    found = _usage_with(usage, None, tier)
    written = bytes(output)
    if found is None or _SEARCH_MARK not in written:
        return found
    try:
        searches = sum([item.type == _SEARCH for item in decode_items(written)])
    except _UNREADABLE:
        return found
    return {**found, "num_search_queries": searches}
