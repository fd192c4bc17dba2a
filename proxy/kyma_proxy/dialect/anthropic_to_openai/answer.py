"""Translates whole answers of OpenAI to Anthropic's dialect. (Contract §4.)

Thinking comes first, then the text, then the tool calls, as in Anthropic's own answers. Thinking is marked as unsigned.
Arguments that are no JSON object are kept as one member of the input (`tool_arguments.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.usage import NO_USAGE
from kyma_proxy.dialect.answers.openai import INCOMPLETE_REASONS, usage_in, usage_of
from kyma_proxy.dialect.answers.usage import part, repaired, token_count
from kyma_proxy.dialect.anthropic_to_openai.request_reader import Json
from kyma_proxy.dialect.anthropic_to_openai.thought_reader import ThoughtReader
from kyma_proxy.dialect.encoding import encode_json
from kyma_proxy.dialect.sse import encode_event
from kyma_proxy.dialect.think_tags import ANSWER, THOUGHT
from kyma_proxy.dialect.tool_arguments import input_of
from kyma_proxy.dialect.tool_ids import encode_tool_id
from kyma_proxy.dialect.tool_names import NO_NAMES
from kyma_proxy.dialect.translation import ThoughtRules, TranslatedAnswer

T = TypeVar("T")

_STOP_REASONS: Final = MappingProxyType(
    {"length": "max_tokens", "model_length": "max_tokens", "content_filter": "refusal"}  # all others are natural ends
)
_NULL: Final = b"null"
_EMPTY: Final = (_NULL, b"[]", b"{}")
_MAX_REPAIRED_BYTES: Final = 512 * 1024
MAX_CALLS: Final = 1024
"""The most tool calls of one answer."""
CALLER: Final = {"type": "direct"}
"""The caller of every tool call: the model itself, and no program that it has written."""
NO_EXTRA: Final = Raw(_NULL)
"""The `extra_content` of a call that has none."""
_COMPLETION_ID_PREFIX: Final = "chatcmpl-"
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
"""An escape in a string. A surrogate pair is one match of twelve characters; a match of six is a lone surrogate."""


class Function(msgspec.Struct, gc=False):
    """The function of a call. Some sources send its arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Raw] | None = None


class ToolCall(msgspec.Struct, gc=False):
    """A tool call; in a stream, `index` identifies it."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: Raw = NO_EXTRA


class Part(msgspec.Struct, gc=False):
    """A part of a content that is no plain string."""

    text: str | None = None
    thinking: str | list[Part] | None = None


class Delta(msgspec.Struct, gc=False):
    """The delta of a stream's event; a whole message has the same members."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls; a `function_call`, which came before tools, is one of them."""
        if self.function_call is not None and not self.tool_calls:
            return [ToolCall(0, None, self.function_call)]
        return self.tool_calls or []


class _Message(Delta, gc=False):
    """A whole message, with the members that are dropped."""

    annotations: Raw = Raw(_NULL)
    audio: Raw = Raw(_NULL)
    images: Raw = Raw(_NULL)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The paths of the dropped members."""
        members = {"annotations": self.annotations, "audio": self.audio, "images": self.images}
        return tuple([f"answer.message.{name}" for name, value in members.items() if bytes(value) not in _EMPTY])


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    index: int | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    usage: Raw = Raw(_NULL)


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice]
    id: str | None = None
    created: Any = None
    usage: Raw = Raw(_NULL)
    x_groq: Raw = Raw(_NULL)


class _RawAnswer(msgspec.Struct, gc=False):
    """An answer whose members are not decoded."""

    choices: list[dict[str, Raw]]
    id: Raw = Raw(_NULL)
    created: Raw = Raw(_NULL)
    usage: Raw = Raw(_NULL)
    x_groq: Raw = Raw(_NULL)


_answer: Final = msgspec.json.Decoder(_Answer).decode
_raw_answer: Final = msgspec.json.Decoder(_RawAnswer).decode
_encode: Final = msgspec.json.encode


def decode(decoder: Callable[[bytes], T], data: bytes) -> T:
    """Decode JSON of a source. Raises ValueError if it can't be read.

    Some sources cut a text within a character and send it in two events. Each half of the character becomes U+FFFD.
    """
    try:
        return decoder(data)
    except msgspec.ValidationError as error:
        better = repaired(data)  # a number may be more than any machine holds
        if better is None:
            raise ValueError(str(error)) from None
        return decode(decoder, better)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        if len(data) > _MAX_REPAIRED_BYTES:
            raise ValueError("the JSON has broken characters") from None
        mended = data.decode(errors="replace").encode()
    except msgspec.DecodeError as error:
        if len(data) > _MAX_REPAIRED_BYTES:
            raise ValueError(str(error)) from None
        mended = _ESCAPE.sub(lambda escape: b"\\ufffd" if len(escape[0]) == 6 else escape[0], data)
        if mended == data:
            raise ValueError(str(error)) from None
    return decode(decoder, mended)


def translate_answer(
    status: int, body: bytes, public_model: str, stop_sequences: frozenset[str], thoughts: ThoughtRules, *,
    tool_names: Mapping[str, str] = NO_NAMES,
) -> TranslatedAnswer:  # fmt: skip
    """Translate a whole answer to a message, given the request's stop sequences and the caller's names of tools.

    Raises ValueError if it is no answer.
    """
    answer = decode(_answer, body)
    choice = next((choice for choice in answer.choices if not choice.index), None)
    if choice is None or choice.finish_reason in INCOMPLETE_REASONS:
        raise ValueError("the answer has no complete choice")
    delta = choice.message
    if len(delta.calls) > MAX_CALLS:
        raise ValueError("the answer has too many tool calls")
    message_id = make_message_id(answer.id, answer.created)
    content: list[Json] = []
    reader = ThoughtReader(thoughts)
    parts = [*reader.read(thinking_of(delta), text_of(delta), delta.reasoning_details), *reader.flush()]
    if thinking := "".join([part for kind, part in parts if kind == THOUGHT]):
        content.append({"type": "thinking", "thinking": thinking, "signature": reader.signature(len(thinking))})
    if text := "".join([part for kind, part in parts if kind == ANSWER]) + (delta.refusal or ""):
        content.append({"type": "text", "text": text, "citations": None})
    for index, call in enumerate(delta.calls):
        function = call.function or Function()
        name, arguments = function.name or "", arguments_of(function)
        call_id = call.id or make_tool_id(message_id, index)
        use_id = reader.packed_call(call_id, call.extra_content) or encode_tool_id(call_id)
        name = tool_names.get(name, name)
        content.append({"type": "tool_use", "id": use_id, "caller": CALLER, "name": name, "input": input_of(arguments)})
    reason, sequence = stop_reason(
        choice.finish_reason, choice.stop_reason, stop_sequences, has_calls=bool(delta.calls), has_refusal=bool(delta.refusal)
    )
    reported = usage_in(answer.usage, answer.x_groq) or usage_in(choice.usage)
    message = message_object(message_id, public_model, reported, content, reason, sequence)
    return TranslatedAnswer(status, encode_json(message), delta.dropped)


def message_object(  # noqa: PLR0917
    message_id: str, public_model: str, reported: Mapping[str, Any] | None, content: list[Json], reason: str | None = None,
    sequence: str | None = None,
) -> Json:  # fmt: skip
    """Return a message with all members that the dialect requires, given a source's usage."""
    return {
        "id": message_id, "type": "message", "role": "assistant", "model": public_model, "content": content,
        "stop_reason": reason, "stop_sequence": sequence, "stop_details": None, "container": None, "diagnostics": None,
        "usage": usage_object(reported),
    }  # fmt: skip


def answer_as_stream(body: bytes) -> bytes:
    """Return a whole answer as a stream: one event with all its content, and `[DONE]`. Raises ValueError if it is no answer."""
    answer = decode(_raw_answer, body)
    choices = [{"delta" if name == "message" else name: value for name, value in choice.items()} for choice in answer.choices]
    document = {
        "id": answer.id, "created": answer.created, "choices": choices, "usage": answer.usage, "x_groq": answer.x_groq,
    }  # fmt: skip
    return encode_event(b"", _encode(document)) + encode_event(b"", b"[DONE]")


def make_message_id(source_id: str | None, created: object) -> str:
    """Return a message's id, made of the source's id, or else of its timestamp, if that is one."""
    timestamp = str(created) if isinstance(created, int | float | str) and created else "0"
    return f"msg_{(source_id or timestamp).removeprefix(_COMPLETION_ID_PREFIX).removeprefix('msg_')}"


def make_tool_id(message_id: str, index: int) -> str:
    """Return an id for a tool call that has none."""
    return f"toolu_{message_id.removeprefix('msg_')}_{index}"


def text_of(delta: Delta) -> str:
    """Return the text of a delta or message."""
    content = delta.content
    return content if isinstance(content, str) else "".join(part.text or "" for part in content or ())


def thinking_of(delta: Delta) -> str:
    """Return the thinking of a delta or message. Some sources send it twice, under both names."""
    if delta.reasoning_content:
        return delta.reasoning_content
    if isinstance(delta.reasoning, str) and delta.reasoning:
        return delta.reasoning
    return "".join(map(_thinking_text, delta.content)) if isinstance(delta.content, list) else ""


def _thinking_text(part: Part) -> str:
    thinking = part.thinking
    return thinking if isinstance(thinking, str) else "".join(part.text or "" for part in thinking or ())


def arguments_of(function: Function) -> str:
    """Return a call's arguments as text."""
    arguments = function.arguments
    return arguments or "" if not isinstance(arguments, dict) else _encode(arguments).decode()


def stop_reason(
    finish_reason: str | None, sequence: object, stop_sequences: frozenset[str], *, has_calls: bool, has_refusal: bool
) -> tuple[str, str | None]:
    """Return the stop reason, and the stop sequence if the source reports it.

    An answer with calls ends with `tool_use`, whatever its finish reason: not all sources send `tool_calls`.
    """
    reason = _STOP_REASONS.get(finish_reason or "")
    if reason is not None:
        return reason, None
    if has_calls:
        return "tool_use", None
    if has_refusal:
        return "refusal", None
    return ("stop_sequence", sequence) if isinstance(sequence, str) and sequence in stop_sequences else ("end_turn", None)


def usage_object(reported: Mapping[str, Any] | None) -> Json:
    """Return a source's usage as an object of Anthropic's dialect, whose input tokens exclude those of a cache."""
    unknown = {"cache_creation": None, "inference_geo": None, "service_tier": None, "speed": None}
    return usage_at_end(reported) | unknown


def usage_at_end(reported: Mapping[str, Any] | None) -> Json:
    """Return the same as a stream has it in its last event but one."""
    usage = NO_USAGE if reported is None else usage_of(reported)
    prompt = usage.prompt or 0
    cached = min(usage.cached or 0, prompt)
    written = min(usage.cache_write, prompt - cached)
    details = part(reported or {}, "completion_tokens_details", "output_tokens_details")
    reasoning = token_count(details.get("reasoning_tokens"))
    return {
        "input_tokens": prompt - cached - written, "cache_creation_input_tokens": written, "cache_read_input_tokens": cached,
        "output_tokens": usage.completion or 0,
        "output_tokens_details": None if reasoning is None else {"thinking_tokens": reasoning}, "server_tool_use": None,
    }  # fmt: skip
