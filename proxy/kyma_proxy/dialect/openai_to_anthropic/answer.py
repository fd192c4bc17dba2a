"""Translates answers of Anthropic to OpenAI's dialect: messages, finish reasons, usage.

The text blocks are joined to `content`. Thinking becomes `reasoning_content`. Signed or redacted thinking blocks, which a later
request must repeat, go unchanged into the extension `thinking_blocks`: a caller who sends the message back keeps the thinking.
Other blocks, such as those of the provider's own tools, are dropped, and so are citations; both are reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.core.accounts.usage import NO_USAGE
from kyma_proxy.dialect.answers.anthropic import usage_in, usage_of
from kyma_proxy.dialect.answers.usage import part, repaired, token_count
from kyma_proxy.dialect.encoding import encode_json
from kyma_proxy.dialect.json_mode import unfenced
from kyma_proxy.dialect.sse import encode_event
from kyma_proxy.dialect.tool_names import NO_NAMES
from kyma_proxy.dialect.translation import TranslatedAnswer

_TRANSLATED_TYPES: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_FINISH_REASONS: Final = {
    "end_turn": "stop", "max_tokens": "length", "model_context_window_exceeded": "length", "pause_turn": "stop",
    "refusal": "content_filter", "stop_sequence": "stop", "tool_use": "tool_calls",
}  # fmt: skip
_LOGGABLE: Final = re.compile(r"[a-z_]{1,40}")
_encode: Final = msgspec.json.encode


class AnswerOptions(NamedTuple):
    """The properties of an answer that its request determines.

    `model` and `created` (Unix seconds) stand in the answer as they are. `is_legacy` is True if calls are written as
    `function_call`, and `wants_usage` if a stream ends with its usage. `tool_names` has the caller's names of tools by those
    that the source got, where they differ. `is_unfenced` is True if a fence around the text is taken away.
    """

    model: str
    created: int
    is_legacy: bool = False
    wants_usage: bool = False
    tool_names: Mapping[str, str] = NO_NAMES
    is_unfenced: bool = False


class StopDetails(msgspec.Struct, gc=False):
    """The reason of a refusal."""

    explanation: str | None = None


class ContentBlock(msgspec.Struct, gc=False):
    """A block of content, of a type that is translated."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    citations: msgspec.Raw = msgspec.Raw(b"null")


class _TypeMember(msgspec.Struct, gc=False):
    type: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[msgspec.Raw]
    type: str = "message"
    id: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


_message: Final = msgspec.json.Decoder(_Message).decode
_type_member: Final = msgspec.json.Decoder(_TypeMember).decode
_block: Final = msgspec.json.Decoder(ContentBlock).decode


def translate_answer(body: bytes, options: AnswerOptions) -> TranslatedAnswer:
    """Translate a message to a `chat.completion`. Raises ValueError if the body is no message."""
    message = _read_message(body)
    if message.type != "message":
        raise ValueError(f"the answer is of the type {message.type[:32]}")
    dropped: list[str] = []
    choice = {"index": 0, "message": _completion_message(message, options, dropped), "logprobs": None}
    choice["finish_reason"] = finish_reason(message.stop_reason, options)
    answer: dict[str, object] = {
        "id": completion_id(message.id, options), "object": "chat.completion", "created": options.created,
        "model": options.model, "system_fingerprint": None, "choices": [choice],
    }  # fmt: skip
    usage = usage_object(usage_in(message.usage))
    if usage is not None:
        answer["usage"] = usage
    return TranslatedAnswer(200, encode_json(answer), tuple(dropped))


def _read_message(body: bytes) -> _Message:
    try:
        return _message(body)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    except msgspec.DecodeError:
        better = repaired(body)
        if better is None:
            raise
        return _message(better)


def completion_id(message_id: str, options: AnswerOptions) -> str:
    """Return the id of an answer in OpenAI's form, also if its source gives none."""
    return f"chatcmpl-{message_id.removeprefix('msg_') or options.created}"


def answer_as_stream(body: bytes) -> bytes:
    """Return a message as a stream with one event per block. Raises ValueError if the body is no message."""
    message = _read_message(body)
    events: list[dict[str, object]] = [{"type": "message_start", "message": {"id": message.id, "usage": message.usage}}]
    for index, block in enumerate(message.content):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message.stop_reason, "stop_details": message.stop_details}
    events += [{"type": "message_delta", "delta": delta, "usage": message.usage}, {"type": "message_stop"}]
    return b"".join([encode_event(b"", _encode(event)) for event in events])


def finish_reason(stop_reason: str | None, options: AnswerOptions) -> str:
    """Return OpenAI's finish reason for a stop reason; `stop` for an unknown one."""
    reason = _FINISH_REASONS.get(stop_reason or "", "stop")
    return "function_call" if reason == "tool_calls" and options.is_legacy else reason


def read_block(value: msgspec.Raw) -> ContentBlock | None:
    """Decode a block of content; None if its type is not translated. Raises ValueError if it is malformed."""
    return _block(value) if _type_member(value).type in _TRANSLATED_TYPES else None


def arguments_of(call: ContentBlock) -> str:
    """Return the arguments of a call as the JSON text that the source wrote. Raises ValueError if it is not UTF-8."""
    text = bytes(call.input)
    return "{}" if text == b"null" else text.decode()


def thinking_block_of(block: ContentBlock) -> dict[str, object] | None:
    """Return the thinking block that a later request must repeat; None if it is unsigned, and so can't be."""
    if block.type == "redacted_thinking" and block.data:
        return {"type": "redacted_thinking", "data": block.data}
    if block.type == "thinking" and block.signature:
        return {"type": "thinking", "thinking": block.thinking, "signature": block.signature}
    return None


def usage_object(reported: Mapping[str, Any] | None) -> dict[str, object] | None:
    """Return a source's usage as an object of OpenAI's dialect; None if it reported no tokens."""
    usage = NO_USAGE if reported is None else usage_of(reported)
    if reported is None or usage is NO_USAGE:
        return None
    prompt, completion = usage.prompt or 0, usage.completion or 0
    translated: dict[str, object] = {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
    }  # fmt: skip
    cached, written = usage.cached, usage.cache_write_5m + usage.cache_write_1h
    if usage.prompt is not None and (cached is not None or written):
        translated["prompt_tokens_details"] = {"cached_tokens": cached or 0, "cache_write_tokens": written}
    thinking = token_count(part(reported, "output_tokens_details").get("thinking_tokens"))
    if thinking is not None:
        translated["completion_tokens_details"] = {"reasoning_tokens": thinking}
    return translated


def _completion_message(message: _Message, options: AnswerOptions, dropped: list[str]) -> dict[str, object]:
    blocks: list[ContentBlock] = []
    for index, value in enumerate(message.content):
        block = read_block(value)
        if block is None:
            dropped.append(f"answer.content[{index}].{_loggable_type(_type_member(value).type)}")
            continue
        if bytes(block.citations) not in (b"null", b"[]"):
            dropped.append(f"answer.content[{index}].citations")
        if block.type == "tool_use" and options.is_legacy and any(block.type == "tool_use" for block in blocks):
            dropped.append(f"answer.content[{index}].tool_use")  # `function_call` holds one call only
        blocks.append(block)
    texts = [block.text for block in blocks if block.type == "text"]
    text = unfenced("".join(texts)) if options.is_unfenced else "".join(texts)
    translated: dict[str, object] = {"role": "assistant", "content": text or None, "refusal": None, "annotations": []}
    if message.stop_reason == "refusal" and message.stop_details is not None:
        translated["refusal"] = message.stop_details.explanation
    reasoning = "".join(block.thinking for block in blocks if block.type == "thinking")
    if reasoning:
        translated["reasoning_content"] = reasoning
    thinking = [repeated for block in blocks if (repeated := thinking_block_of(block)) is not None]
    if thinking:
        translated["thinking_blocks"] = thinking
    calls = [block for block in blocks if block.type == "tool_use"]
    if calls and options.is_legacy:
        translated["function_call"] = _function(calls[0], options)
    elif calls:
        translated["tool_calls"] = [{"id": call.id, "type": "function", "function": _function(call, options)} for call in calls]
    return translated


def _loggable_type(kind: str | None) -> str:
    return kind if kind is not None and _LOGGABLE.fullmatch(kind) else "unknown"


def _function(call: ContentBlock, options: AnswerOptions) -> dict[str, object]:
    return {"name": options.tool_names.get(call.name, call.name), "arguments": arguments_of(call)}
