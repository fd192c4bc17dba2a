"""This file tells a caller in Anthropic's words what a source answered in OpenAI's, whole or with an error. (Contract §4, §5.)

Thinking comes first, then the text, then the tools, as Anthropic has them. The signature of a thought is UNSIGNED.
Arguments of which the model made no JSON object are kept as they are, under one member of the input (`RAW_ARGUMENTS`), from
where they find their way back in the next request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.anthropic_to_openai.messages import RAW_ARGUMENTS, Json
from kyma_proxy.dialect.error_message import first_line, message_in
from kyma_proxy.dialect.sse import emitted
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.tool_ids import fit_id
from kyma_proxy.dialect.translation import TranslatedAnswer
from kyma_proxy.dialect.usage import Counts

T = TypeVar("T")

BROKEN_OFF: Final = frozenset({"error", "insufficient_system_resource"})
"""Reasons for which some sources stop that say that the answer is not whole."""
_STOP_REASONS: Final = MappingProxyType(
    {"length": "max_tokens", "model_length": "max_tokens", "content_filter": "refusal"}  # all others are ends
)
_ERROR_TYPES: Final = MappingProxyType({
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
})  # fmt: skip
_STATUS_OF_WORD: Final = MappingProxyType({
    "invalid_request_error": 400, "context_length_exceeded": 400, "authentication_error": 401, "invalid_api_key": 401,
    "billing_error": 402, "permission_error": 403, "not_found_error": 404, "request_too_large": 413,
    "rate_limit_error": 429, "rate_limit_exceeded": 429, "insufficient_quota": 429,
    "overloaded": 529, "overloaded_error": 529, "server_overloaded": 529, "engine_overloaded_error": 529,
})  # fmt: skip
_UNAUTHORISED: Final = 401
_NULL: Final = b"null"
_EMPTY: Final = (_NULL, b"[]", b"{}")
_MADE_BY_OPENAI: Final = "chatcmpl-"
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
"""An escape in a string; a whole surrogate pair is one, and of six characters is only half a pair that is alone."""


class Function(msgspec.Struct, gc=False):
    """What is called, and with which arguments; some sources send these as an object."""

    name: str | None = None
    arguments: str | dict[str, Raw] | None = None


class ToolCall(msgspec.Struct, gc=False):
    """A call of a tool; `index` tells in a stream which one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Part(msgspec.Struct, gc=False):
    """A piece of content, where a source sends more than a string."""

    text: str | None = None
    thinking: str | list[Part] | None = None


class Said(msgspec.Struct, gc=False):
    """A message, or what an event of a stream adds to one."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None

    @property
    def calls(self) -> list[ToolCall]:
        """What is called; before there were tools it was one function."""
        if self.function_call is not None and not self.tool_calls:
            return [ToolCall(0, None, self.function_call)]
        return self.tool_calls or []


class _Message(Said, gc=False):
    """A message, with what has no place in Anthropic's."""

    annotations: Raw = Raw(_NULL)
    audio: Raw = Raw(_NULL)
    images: Raw = Raw(_NULL)

    @property
    def lost(self) -> tuple[str, ...]:
        """The names of what has no place."""
        given = {"annotations": self.annotations, "audio": self.audio, "images": self.images}
        return tuple([f"answer.message.{name}" for name, value in given.items() if bytes(value) not in _EMPTY])


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    index: int | None = None
    finish_reason: str | None = None
    stop_reason: Any = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice]
    id: str | None = None
    created: Any = None
    usage: Raw = Raw(_NULL)


class _Whole(msgspec.Struct, gc=False):
    """An answer, none of which is looked into."""

    choices: list[dict[str, Raw]]
    id: Any = None
    created: Any = None
    usage: Raw = Raw(_NULL)


class _Reasoning(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class Reported(Counts, gc=False):
    """The tokens that a source reports."""

    completion_tokens_details: _Reasoning | None = None

    @property
    def cached_tokens(self) -> int | None:
        """How many of the prompt's came from a cache."""
        details = self.prompt_tokens_details
        return self.prompt_cache_hit_tokens if details is None else details.cached_tokens


_answer: Final = msgspec.json.Decoder(_Answer).decode
_whole: Final = msgspec.json.Decoder(_Whole).decode
_reported: Final = msgspec.json.Decoder(Reported).decode
_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_anything: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


def decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    """What a source has sent. Raises ValueError where it can't be read.

    A text that was cut in the middle of a character, to be sent in two events, is no text: what is left of the character at the
    cut stands for one that is not known.
    """
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        mended = data.decode(errors="replace").encode()
    except msgspec.DecodeError as error:
        mended = _ESCAPE.sub(lambda escape: b"\\ufffd" if len(escape[0]) == 6 else escape[0], data)
        if mended == data:
            raise ValueError(str(error)) from None
    return decoded(decode, mended)


def answered(status: int, body: bytes, shown_model: str, stops: frozenset[str]) -> TranslatedAnswer:
    """A whole answer as a message; `stops` are the request's stop sequences. Raises ValueError where it is none."""
    answer = decoded(_answer, body)
    choice = next((choice for choice in answer.choices if not choice.index), None)
    if choice is None or choice.finish_reason in BROKEN_OFF:
        raise ValueError("the answer has no choice that is whole")
    said = choice.message
    ident = message_id(answer.id, answer.created)
    content: list[Json] = []
    if thought := thinking_of(said):
        content.append({"type": "thinking", "thinking": thought, "signature": UNSIGNED})
    if text := text_of(said) + (said.refusal or ""):
        content.append({"type": "text", "text": text})
    for at, call in enumerate(said.calls):
        function = call.function or Function()
        name, arguments = function.name or "", arguments_of(function)
        use_id = fit_id(call.id or tool_id(ident, at))
        content.append({"type": "tool_use", "id": use_id, "name": name, "input": input_of(arguments)})
    reason, sequence = stop_reason(
        choice.finish_reason, choice.stop_reason, stops, calls=bool(said.calls), refuses=bool(said.refusal)
    )
    reported = reported_by(answer.usage)
    message: Json = {
        "id": ident, "type": "message", "role": "assistant", "model": shown_model, "content": content,
        "stop_reason": reason, "stop_sequence": sequence, "usage": usage_json(reported),
    }  # fmt: skip
    return TranslatedAnswer(status, _encode(message), usage_of(reported), said.lost)


def streamed(body: bytes) -> bytes:
    """The events that a whole answer amounts to: all that it says, why it ended, and its usage. Raises ValueError for none."""
    answer = decoded(_whole, body)
    choices = [{"delta" if name == "message" else name: value for name, value in choice.items()} for choice in answer.choices]
    told = {"id": answer.id, "created": answer.created, "choices": choices, "usage": answer.usage}
    return emitted(b"", _encode(told)) + emitted(b"", b"[DONE]")


def refused(status: int, body: bytes, request_id: str) -> TranslatedAnswer:
    """A source's error as Anthropic's, with the same status; `request_id` is "" where it is not to be told."""
    try:
        value = decoded(_anything, body)
    except ValueError:
        value = None
    return TranslatedAnswer(status, error_json(status, message_in(value) or first_line(body), request_id), NO_USAGE)


def error_json(status: int, message: str, request_id: str) -> bytes:
    """The body, and a stream's data, of an error; `message` is empty where the source gave none."""
    kind = _ERROR_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    if status == _UNAUTHORISED:  # the source may quote the credential, which is the operator's
        message = "The source does not accept the gateway's credential; tell the gateway's operator."
    words = message or f"The source answered with the status {status}, and did not say why."
    told: Json = {"type": "error", "error": {"type": kind, "message": words}}
    return _encode(told | {"request_id": request_id} if request_id else told)


def error_in_stream(error: object, request_id: str) -> bytes:
    """The data of the event that says what a source said in its stream: its status is as good as its words."""
    code, kind = (error.get("code"), error.get("type")) if isinstance(error, dict) else (None, None)
    status = code if isinstance(code, int) and 400 <= code <= 599 else 0
    for word in (code, kind):
        status = status or (_STATUS_OF_WORD.get(word, 0) if isinstance(word, str) else 0)
    words = message_in(error) or "The source ended its answer with an error, and did not say why."
    return error_json(status or 500, words, request_id)


def message_id(source_id: str | None, created: object) -> str:
    """A message's id, made of the source's, or of the time that it gives."""
    return f"msg_{(source_id or str(created or 0)).removeprefix(_MADE_BY_OPENAI).removeprefix('msg_')}"


def tool_id(ident: str, at: int) -> str:
    """The id of a message's tool call that has none."""
    return f"toolu_{ident.removeprefix('msg_')}_{at}"


def text_of(said: Said) -> str:
    """The text that is said."""
    content = said.content
    return content if isinstance(content, str) else "".join(part.text or "" for part in content or ())


def thinking_of(said: Said) -> str:
    """What is thought before it is said. Some sources send it twice, under both names."""
    if said.reasoning_content:
        return said.reasoning_content
    if isinstance(said.reasoning, str) and said.reasoning:
        return said.reasoning
    return "".join(map(_thought, said.content)) if isinstance(said.content, list) else ""


def _thought(part: Part) -> str:
    thinking = part.thinking
    return thinking if isinstance(thinking, str) else "".join(one.text or "" for one in thinking or ())


def arguments_of(function: Function) -> str:
    """The arguments as a text."""
    arguments = function.arguments
    return arguments or "" if not isinstance(arguments, dict) else _encode(arguments).decode()


def input_of(arguments: str) -> object:
    """A tool's input; none at all is an empty one."""
    if not arguments or arguments.isspace():
        return {}
    try:
        _object(arguments)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {RAW_ARGUMENTS: arguments}
    return Raw(arguments.encode())


def stop_reason(
    finish: str | None, stop: object, stops: frozenset[str], *, calls: bool, refuses: bool
) -> tuple[str, str | None]:
    """Why the answer ended, and at which stop sequence, where the source tells that (`stop`).

    An answer with calls waits for their results, whatever the source says of its end: not all of them say `tool_calls`.
    """
    reason = _STOP_REASONS.get(finish or "")
    if reason is not None:
        return reason, None
    if calls:
        return "tool_use", None
    if refuses:
        return "refusal", None
    return ("stop_sequence", stop) if isinstance(stop, str) and stop in stops else ("end_turn", None)


def reported_by(usage: Raw) -> Reported | None:
    """A source's usage; None where there is none that can be believed."""
    if bytes(usage) == _NULL:
        return None
    try:
        return _reported(usage)
    except (msgspec.MsgspecError, RecursionError):
        return None


def usage_of(reported: Reported | None) -> Usage:
    """What was used, as the gateway counts it."""
    if reported is None or (reported.prompt_tokens is None and reported.completion_tokens is None):
        return NO_USAGE
    return Usage(reported.prompt_tokens, reported.completion_tokens, reported.cached_tokens, "reported")


def usage_json(reported: Reported | None) -> Json:
    """What was used, as Anthropic counts it: the input without what came from a cache."""
    if reported is None:
        return {"input_tokens": 0, "output_tokens": 0}
    prompt = reported.prompt_tokens or 0
    usage: Json = {"input_tokens": prompt}
    if reported.cached_tokens is not None:
        cached = min(reported.cached_tokens, prompt)
        usage = {"input_tokens": prompt - cached, "cache_read_input_tokens": cached}
    usage["output_tokens"] = reported.completion_tokens or 0
    details = reported.completion_tokens_details
    if details is not None and details.reasoning_tokens is not None:
        usage["output_tokens_details"] = {"thinking_tokens": details.reasoning_tokens}
    return usage
