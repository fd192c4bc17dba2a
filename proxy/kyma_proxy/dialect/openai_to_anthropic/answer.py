"""This file gives an answer of Anthropic's the form of OpenAI's: a message, its end, its usage, an error.

The text blocks are joined to `content`. Thinking becomes `reasoning_content`. Its blocks that a later request must bring back,
signed or redacted, are the extension `thinking_blocks` as they came: a caller who sends the message back keeps the thinking.
Blocks that have no place, such as those of the provider's own tools, are left out, and so are citations; both are named.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, NamedTuple

import msgspec

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.error_message import first_line, message_in
from kyma_proxy.dialect.openai import error_type
from kyma_proxy.dialect.sse import emitted
from kyma_proxy.dialect.translation import TranslatedAnswer
from kyma_proxy.dialect.usage import Counts
from kyma_proxy.errors import Kind

_PLACED: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_FINISHED: Final = {
    "end_turn": "stop", "max_tokens": "length", "model_context_window_exceeded": "length", "pause_turn": "stop",
    "refusal": "content_filter", "stop_sequence": "stop", "tool_use": "tool_calls",
}  # fmt: skip
_KINDS: Final = {
    "api_error": Kind.PROVIDER_ERROR, "authentication_error": Kind.INVALID_API_KEY, "billing_error": Kind.INSUFFICIENT_CREDITS,
    "conflict_error": Kind.CONFLICT, "invalid_request_error": Kind.INVALID_REQUEST, "not_found_error": Kind.NOT_FOUND,
    "overloaded_error": Kind.OVERLOADED, "permission_error": Kind.FORBIDDEN, "rate_limit_error": Kind.PROVIDER_RATE_LIMITED,
    "request_too_large": Kind.BODY_TOO_LARGE, "timeout_error": Kind.PROVIDER_TIMEOUT,
}  # fmt: skip
_KINDS_OF_STATUS: Final = {
    401: Kind.INVALID_API_KEY, 402: Kind.INSUFFICIENT_CREDITS, 403: Kind.FORBIDDEN, 404: Kind.NOT_FOUND,
    408: Kind.REQUEST_TIMEOUT, 409: Kind.CONFLICT, 413: Kind.BODY_TOO_LARGE, 429: Kind.PROVIDER_RATE_LIMITED,
    503: Kind.OVERLOADED, 504: Kind.PROVIDER_TIMEOUT, 529: Kind.OVERLOADED,
}  # fmt: skip
_KIND: Final = re.compile(r"[a-z_]{1,40}")
_OVERLOADED: Final = 529
_encode: Final = msgspec.json.encode


class Shown(NamedTuple):
    """What the caller sees of an answer whatever the source says.

    `model` and `created` (Unix seconds) are told as they are; `is_legacy` says that calls are told as `function_call`, and
    `wants_usage` that a stream ends with its usage.
    """

    model: str
    created: int
    is_legacy: bool = False
    wants_usage: bool = False


class _Details(msgspec.Struct, gc=False):
    thinking_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**40)] | None = None


class Tokens(Counts, gc=False):
    """What Anthropic tells of an answer's tokens."""

    output_tokens_details: _Details | None = None


class StopDetails(msgspec.Struct, gc=False):
    """Why the model refused."""

    explanation: str | None = None


class ContentBlock(msgspec.Struct, gc=False):
    """A block of content, of a type that has a place with OpenAI."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    citations: msgspec.Raw = msgspec.Raw(b"null")


class Fault(NamedTuple):
    """An error as a source tells it."""

    type: str | None = None
    message: str = ""


class _Typed(msgspec.Struct, gc=False):
    type: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[msgspec.Raw]
    type: str = "message"
    id: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


_message: Final = msgspec.json.Decoder(_Message).decode
_anything: Final = msgspec.json.Decoder().decode
_typed: Final = msgspec.json.Decoder(_Typed).decode
_block: Final = msgspec.json.Decoder(ContentBlock).decode
_tokens: Final = msgspec.json.Decoder(Tokens | None).decode


def whole(body: bytes, shown: Shown) -> TranslatedAnswer:
    """A message of Anthropic's as a `chat.completion`. Raises ValueError for what is no message."""
    message = _message(body)
    if message.type != "message":
        raise ValueError(f"an answer of the type {message.type[:32]}")
    tokens = tokens_of(message.usage)
    dropped: list[str] = []
    choice = {"index": 0, "message": _told(message, shown, dropped), "logprobs": None}
    choice["finish_reason"] = finish_reason(message.stop_reason, shown)
    ident = message.id or made_id(shown)
    answer: dict[str, object] = {"id": ident, "object": "chat.completion", "created": shown.created, "model": shown.model}
    answer["choices"] = [choice]
    if tokens is not None:
        answer["usage"] = told_usage(tokens, tokens)
    return TranslatedAnswer(200, _encode(answer), usage_of(tokens, tokens), tuple(dropped))


def made_id(shown: Shown) -> str:
    """The id of an answer whose source gives none."""
    return f"msg_{shown.created}"


def streamed(body: bytes) -> bytes:
    """The events that a message amounts to, each block in one. Raises ValueError for what is no message."""
    message = _message(body)
    events: list[dict[str, object]] = [{"type": "message_start", "message": {"id": message.id, "usage": message.usage}}]
    for at, block in enumerate(message.content):
        events.append({"type": "content_block_start", "index": at, "content_block": block})
        events.append({"type": "content_block_stop", "index": at})
    delta = {"stop_reason": message.stop_reason, "stop_details": message.stop_details}
    events += [{"type": "message_delta", "delta": delta, "usage": message.usage}, {"type": "message_stop"}]
    return b"".join([emitted(b"", _encode(event)) for event in events])


def failed(status: int, body: bytes) -> TranslatedAnswer:
    """An answer with an error's status, whatever it says. OpenAI's clients know no 529: it is told as a 503."""
    fault = fault_of(body)
    if not fault.message:
        fault = Fault(fault.type, first_line(body))
    return TranslatedAnswer(503 if status == _OVERLOADED else status, _encode({"error": told_error(fault, status)}), NO_USAGE)


def fault_of(data: bytes) -> Fault:
    """What an error says, however it is written; nothing where it can't be read."""
    try:
        value = _anything(data)
    except (ValueError, RecursionError):
        return Fault()
    within = value.get("error") if isinstance(value, dict) else None
    kind = within.get("type") if isinstance(within, dict) else None
    return Fault(kind if isinstance(kind, str) else None, message_in(value))


def told_error(fault: Fault, status: int) -> dict[str, object]:
    """An error in OpenAI's words; `status` tells its kind where the source's word for it is not known."""
    other = Kind.PROVIDER_ERROR if status >= 500 else Kind.INVALID_REQUEST
    kind = _KINDS.get(fault.type or "") or _KINDS_OF_STATUS.get(status, other)
    message = fault.message or f"The provider answered {status} without saying why; try again later."
    return {"message": message, "type": error_type(kind), "param": None, "code": kind.code}


def finish_reason(stop_reason: str | None, shown: Shown) -> str:
    """Why the answer ended, as OpenAI says it. What is not known counts as a natural end."""
    finished = _FINISHED.get(stop_reason or "", "stop")
    return "function_call" if finished == "tool_calls" and shown.is_legacy else finished


def block_of(value: msgspec.Raw) -> ContentBlock | None:
    """A block of content, None where its type has no place with OpenAI. Raises ValueError where it is not of its type."""
    return _block(value) if _typed(value).type in _PLACED else None


def arguments_of(call: ContentBlock) -> str:
    """The arguments of a call as the JSON text that they came as. Raises ValueError for what is no text."""
    written = bytes(call.input)
    return "{}" if written == b"null" else written.decode()


def thinking_of(block: ContentBlock) -> dict[str, object] | None:
    """What a later request must bring back of a block of thinking; None where nothing can be."""
    if block.type == "redacted_thinking" and block.data:
        return {"type": "redacted_thinking", "data": block.data}
    if block.type == "thinking" and block.signature:
        return {"type": "thinking", "thinking": block.thinking, "signature": block.signature}
    return None


def tokens_of(value: msgspec.Raw) -> Tokens | None:
    """The counts that a source tells, None where there are none that can be trusted."""
    try:
        tokens = _tokens(value)
    except (ValueError, RecursionError):
        return None
    return None if tokens is None or (tokens.input_tokens is None and tokens.output_tokens is None) else tokens


def usage_of(first: Tokens | None, last: Tokens | None) -> Usage:
    """The usage of an answer whose first and last event told these counts; of a whole one both are the same."""
    last = last or first
    if last is None:
        return NO_USAGE
    prompt = _prompt(first or last, last)
    total = None if prompt.input_tokens is None else _sum(prompt)
    return Usage(total, last.output_tokens, prompt.cache_read_input_tokens, "reported")


def told_usage(first: Tokens, last: Tokens) -> dict[str, object]:
    """The same as OpenAI tells it."""
    prompt = _prompt(first, last)
    total, completion = _sum(prompt), last.output_tokens or 0
    usage: dict[str, object] = {"prompt_tokens": total, "completion_tokens": completion, "total_tokens": total + completion}
    details = {"cached_tokens": prompt.cache_read_input_tokens, "cache_write_tokens": prompt.cache_creation_input_tokens}
    if any(count is not None for count in details.values()):
        usage["prompt_tokens_details"] = {name: count or 0 for name, count in details.items()}
    if last.output_tokens_details is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": last.output_tokens_details.thinking_tokens or 0}
    return usage


def _prompt(first: Tokens, last: Tokens) -> Tokens:
    """Where the prompt is told: newer models tell it again at the end, and then with what their tools added."""
    return first if last.input_tokens is None else last


def _sum(prompt: Tokens) -> int:
    counts = (prompt.input_tokens, prompt.cache_read_input_tokens, prompt.cache_creation_input_tokens)
    return sum(count or 0 for count in counts)


def _told(message: _Message, shown: Shown, dropped: list[str]) -> dict[str, object]:
    blocks: list[ContentBlock] = []
    for at, value in enumerate(message.content):
        block = block_of(value)
        if block is None:
            dropped.append(f"answer.content[{at}].{_plain(_typed(value).type)}")
            continue
        if bytes(block.citations) not in (b"null", b"[]"):
            dropped.append(f"answer.content[{at}].citations")
        if block.type == "tool_use" and shown.is_legacy and any(one.type == "tool_use" for one in blocks):
            dropped.append(f"answer.content[{at}].tool_use")  # there is a place for one
        blocks.append(block)
    texts = [block.text for block in blocks if block.type == "text"]
    told: dict[str, object] = {"role": "assistant", "content": "".join(texts) or None, "refusal": None}
    if message.stop_reason == "refusal" and message.stop_details is not None:
        told["refusal"] = message.stop_details.explanation
    reasoning = "".join(block.thinking for block in blocks if block.type == "thinking")
    if reasoning:
        told["reasoning_content"] = reasoning
    thinking = [one for block in blocks if (one := thinking_of(block)) is not None]
    if thinking:
        told["thinking_blocks"] = thinking
    calls = [block for block in blocks if block.type == "tool_use"]
    if calls and shown.is_legacy:
        told["function_call"] = _function(calls[0])
    elif calls:
        told["tool_calls"] = [{"id": call.id, "type": "function", "function": _function(call)} for call in calls]
    return told


def _plain(kind: str | None) -> str:
    return kind if kind is not None and _KIND.fullmatch(kind) else "unknown"


def _function(call: ContentBlock) -> dict[str, object]:
    return {"name": call.name, "arguments": arguments_of(call)}
