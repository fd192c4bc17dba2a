"""Reads the answers of OpenAI's dialect, as its many providers write them. (Contract §4.3, §4.4, §8.)

Sources: OpenAI's API reference (chat and completion chunks, `responses` events, embeddings); and where others differ, the
documentation or reports named beside the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.answers.facts import (
    ANSWER,
    LAST,
    NOTHING,
    UNNAMED_ERROR,
    End,
    Facts,
    error_in,
    reported_error,
)
from kyma_proxy.dialect.answers.usage import first_count, part, token_count

INCOMPLETE_REASONS: Final = ("error", "insufficient_system_resource")
"""Finish reasons that mark an incomplete answer: OpenRouter's and DeepSeek's. No set: a reason may be what can't be hashed."""
USAGE_MARKS: Final = (b'"usage":{', b'"usage": {')
ERROR_MARKS: Final = (b'"error"', b"event: error", b"event:error", b"\nerror:", b'"response.failed"')
MESSAGE_MEMBERS: Final = {"chat/completions": "choices", "completions": "choices", "responses": "output", "embeddings": "data"}
"""The member of a whole answer that holds what was asked for, at each endpoint."""

_NULL: Final = Raw(b"null")
_EMPTY: Final = (b"null", b"{}", b"[]", b'""', b"false")
_DONE: Final = b"[DONE]"
_SILENT_EVENTS: Final = frozenset({b'"response.created"', b'"response.in_progress"', b'"response.queued"'})
_ADDED_EVENTS: Final = frozenset({b'"response.output_item.added"', b'"response.content_part.added"'})
_SILENT_ITEMS: Final = (b'"message"', b'"reasoning"', b'"output_text"', b'"reasoning_text"')
_LAST_EVENTS: Final = frozenset({b'"response.completed"', b'"response.incomplete"'})
_FAILED_EVENT: Final = b'"response.failed"'
_SEARCH: Final = b'"web_search_call"'
_UNFINISHED_STATUSES: Final = ("queued", "in_progress")


class _Event(msgspec.Struct, gc=False):
    choices: Raw = _NULL
    usage: Raw = _NULL
    error: Raw = _NULL
    type: Raw = _NULL
    object: Raw = _NULL
    code: Raw = _NULL
    response: Raw = _NULL
    item: Raw = _NULL
    part: Raw = _NULL
    x_groq: Raw = _NULL
    service_tier: Raw = _NULL


class _TypeMember(msgspec.Struct, gc=False):
    type: Raw = _NULL


class _Response(msgspec.Struct, gc=False):
    usage: Raw = _NULL
    service_tier: Raw = _NULL
    output: Raw = _NULL
    error: Raw = _NULL


class _Choice(msgspec.Struct, gc=False):
    delta: Raw = _NULL
    text: Raw = _NULL
    finish_reason: Raw = _NULL
    error: Raw = _NULL
    usage: Raw = _NULL


class _Whole(msgspec.Struct, gc=False):
    choices: Raw = _NULL
    output: Raw = _NULL
    data: Raw = _NULL
    usage: Raw = _NULL
    error: Raw = _NULL
    type: Raw = _NULL
    object: Raw = _NULL
    status: Raw = _NULL
    x_groq: Raw = _NULL
    service_tier: Raw = _NULL


_event: Final = msgspec.json.Decoder(_Event).decode
_type_member: Final = msgspec.json.Decoder(_TypeMember).decode
_response: Final = msgspec.json.Decoder(_Response).decode
_choices: Final = msgspec.json.Decoder(list[_Choice]).decode
_whole: Final = msgspec.json.Decoder(_Whole).decode
_items: Final = msgspec.json.Decoder(list[_TypeMember]).decode
_anything: Final = msgspec.json.Decoder().decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def read_event(name: bytes, data: bytes) -> Facts:
    """Read one event of a stream: of chat completions, completions or `responses`."""
    if data == _DONE or data.strip() == _DONE:
        return LAST
    try:
        event = _event(data)
    except _UNREADABLE:
        return Facts(error=UNNAMED_ERROR) if name == b"error" else NOTHING
    kind = bytes(event.type)
    if (
        name == b"error"  # DashScope, llama.cpp and others name the event, and put no `error` into it
        or kind == b'"error"'
        or bytes(event.object) == b'"error"'  # vLLM
        or bytes(event.error) not in _EMPTY
    ):
        return Facts(error=error_in(_decoded(data)))
    if kind.startswith(b'"response.'):
        return _read_responses_event(kind, event)
    usage = usage_in(event.usage, event.x_groq, tier=event.service_tier)
    facts = _read_choices(event.choices, usage)
    if facts.error is None and bytes(event.x_groq) not in _EMPTY:  # Groq reports a failed generation in x_groq.error
        error = _object(event.x_groq).get("error")
        if error:
            return Facts(error=error_in(error), usage=facts.usage)
    return facts


def _read_responses_event(kind: bytes, event: _Event) -> Facts:
    if kind in _LAST_EVENTS:
        response = _response_of(event)
        usage = usage_in(response.usage, tier=response.service_tier, output=response.output)
        return Facts(is_answer=True, end=End.LAST, usage=usage)
    if kind == _FAILED_EVENT:
        response = _response_of(event)
        return Facts(error=error_in(_decoded(bytes(response.error))), usage=usage_in(response.usage))
    if kind in _SILENT_EVENTS:
        return NOTHING
    if kind in _ADDED_EVENTS:
        added = event.part if bytes(event.item) == b"null" else event.item
        try:
            return NOTHING if bytes(_type_member(added).type) in _SILENT_ITEMS else ANSWER
        except _UNREADABLE:
            return NOTHING
    return ANSWER


def _response_of(event: _Event) -> _Response:
    try:
        return _response(event.response)
    except _UNREADABLE:
        return _Response()


def _read_choices(raw: Raw, usage: Mapping[str, Any] | None) -> Facts:
    """Read the choices of a chunk. A role alone, or an empty text, says nothing."""
    written = bytes(raw)
    if written in _EMPTY:
        return NOTHING if usage is None else Facts(usage=usage)
    try:
        choices = _choices(written)
    except _UNREADABLE:
        return NOTHING
    is_answer = False
    end = End.NO
    for choice in choices:
        reason = _decoded(bytes(choice.finish_reason))
        if bytes(choice.error) not in _EMPTY or reason in INCOMPLETE_REASONS:  # OpenRouter puts the error into the choice
            error = error_in(_decoded(bytes(choice.error)))
            return Facts(error=error if error.code else reported_error(reason), usage=usage)
        if reason:
            is_answer, end = True, End.REASON
        if usage is None and bytes(choice.usage) not in _EMPTY:  # Moonshot
            usage = usage_in(choice.usage)
        is_answer = is_answer or bytes(choice.text) not in _EMPTY or _says_something(choice.delta)
    if is_answer and end is End.NO and usage is None:
        return ANSWER
    return Facts(is_answer=is_answer, end=end, usage=usage)


def _says_something(delta: Raw) -> bool:
    if bytes(delta) in _EMPTY:
        return False
    value = _decoded(bytes(delta))
    return isinstance(value, dict) and any(member for name, member in value.items() if name != "role")


def read_whole(endpoint: str, body: bytes) -> Facts:
    """Read a whole answer. Without the member that was asked for it is no answer."""
    try:
        whole = _whole(body)
    except _UNREADABLE:
        return _read_unreadable(body)
    if bytes(whole.error) not in _EMPTY or b'"error"' in (bytes(whole.type), bytes(whole.object)):
        return Facts(error=error_in(_decoded(body)))
    usage = usage_in(whole.usage, whole.x_groq, tier=whole.service_tier, output=whole.output)
    member = MESSAGE_MEMBERS.get(endpoint)
    if member == "choices":
        return _read_whole_choices(whole.choices, usage)
    if member == "output":
        status = _decoded(bytes(whole.status))
        if status == "failed":
            return Facts(error=UNNAMED_ERROR)
        return Facts(bytes(whole.output).startswith(b"[") or status in _UNFINISHED_STATUSES, end=End.LAST, usage=usage)
    is_answer = member is None or bytes(whole.data) not in _EMPTY
    return Facts(is_answer, end=End.LAST, usage=usage)


def _read_unreadable(body: bytes) -> Facts:
    """Some wrap an error in a list (Gemini's compatible endpoint); anything else is no answer."""
    value = _decoded(body)
    is_error = isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "error" in value[0]
    return Facts(error=error_in(value)) if is_error else NOTHING


def _read_whole_choices(raw: Raw, usage: Mapping[str, Any] | None) -> Facts:
    try:
        choices = _choices(raw)
    except _UNREADABLE:
        return NOTHING
    for choice in choices:
        reason = _decoded(bytes(choice.finish_reason))
        if bytes(choice.error) not in _EMPTY or reason in INCOMPLETE_REASONS:
            error = error_in(_decoded(bytes(choice.error)))
            return Facts(error=error if error.code else reported_error(reason), usage=usage)
        if usage is None and bytes(choice.usage) not in _EMPTY:
            usage = usage_in(choice.usage)
    # Without a choice there must be a usage at least: then the provider has made something, and is paid for it.
    return Facts(bool(choices) or usage is not None, end=End.LAST, usage=usage)


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """The tokens of a usage object; see `Usage`.

    - Completion: some leave reasoning out of `completion_tokens` but not out of the total (xAI, Gemini); so it is at least the
      total less the prompt.
    - Cached: in the prompt's details (OpenAI), at the top as `cached_tokens` (Moonshot), `prompt_cache_hit_tokens` (DeepSeek),
      or `cache_read_input_tokens` (gateways in front of Anthropic).
    """
    prompt = first_count(usage, "prompt_tokens", "input_tokens")
    completion = first_count(usage, "completion_tokens", "output_tokens")
    total = token_count(usage.get("total_tokens"))
    if prompt is None and completion is None and total is None:
        return NO_USAGE
    if total is not None:
        if prompt is None:
            prompt = max(total - (completion or 0), 0)
        elif total - prompt > (completion or 0):
            completion = total - prompt
    else:
        reasoning = token_count(part(usage, "completion_tokens_details", "output_tokens_details").get("reasoning_tokens"))
        if completion is not None and reasoning is not None and reasoning > completion:
            completion += reasoning  # more than all: it was not counted
    details = part(usage, "prompt_tokens_details", "input_tokens_details")
    cached = first_count(details, "cached_tokens")
    if not cached:
        other = first_count(usage, "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
        cached = other if other is not None else cached
    searches = token_count(part(usage, "server_tool_use").get("web_search_requests"))
    tier = usage.get("service_tier")
    return Usage(
        prompt,
        completion,
        cached,
        "reported",
        cache_write=first_count(details, "cache_write_tokens") or first_count(usage, "cache_creation_input_tokens") or 0,
        searches=token_count(usage.get("num_search_queries")) if searches is None else searches,
        service_tier=tier if isinstance(tier, str) else None,
    )


def usage_in(usage: Raw, x_groq: Raw = _NULL, *, tier: Raw = _NULL, output: Raw = _NULL) -> Mapping[str, Any] | None:
    """A usage object that is not empty; Groq once put it into `x_groq`.

    What stands beside it is put into it: the service tier, and as searches the calls among the items of a response's `output`.
    """
    found = _object(usage) or (_object(_object_raw(x_groq)) if bytes(x_groq) not in _EMPTY else {})
    if not found:
        return None
    if bytes(tier) not in _EMPTY:
        found = {**found, "service_tier": _decoded(bytes(tier))}
    if _SEARCH in bytes(output):
        found = {**found, "num_search_queries": _searches_in(output)}
    return found


def _object_raw(x_groq: Raw) -> Raw:
    try:
        return _response(x_groq).usage
    except _UNREADABLE:
        return _NULL


def _searches_in(output: Raw) -> int:
    """The number of web searches among the items of a response."""
    try:
        return sum(bytes(item.type) == _SEARCH for item in _items(output))
    except _UNREADABLE:
        return 0


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
