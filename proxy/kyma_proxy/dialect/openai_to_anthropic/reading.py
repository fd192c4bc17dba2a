"""This file reads a chat request of OpenAI's, and names the members that have no place with Anthropic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from kyma_proxy.errors import GatewayError, Kind

NULL: Final = msgspec.Raw(b"null")
MAX_NAMED: Final = 100
"""More members than these are not named: the list goes to the log."""
_SHOWN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NEUTRAL: Final = {
    "frequency_penalty": (b"0", b"0.0"), "logit_bias": (b"{}",), "metadata": (b"{}",), "presence_penalty": (b"0", b"0.0"),
    "store": (b"false",), "top_logprobs": (b"0",),
}  # fmt: skip
"""Members that have no place, with the values that ask for nothing."""
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class ImageUrl(msgspec.Struct, gc=False):
    """Where an image is: a `data:` URL holds it."""

    url: str


class File(msgspec.Struct, gc=False):
    """A file that comes along, or the id of one that OpenAI keeps."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(msgspec.Struct, gc=False):
    """One part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    file: File | None = None
    cache_control: msgspec.Raw = NULL
    prompt_cache_breakpoint: msgspec.Raw = NULL


class Called(msgspec.Struct, gc=False):
    """Which function was called, and with what: a JSON text."""

    name: str
    arguments: msgspec.Raw = NULL


class Call(msgspec.Struct, gc=False):
    """A call of a tool, as an assistant message has it."""

    id: str | None = None
    type: str | None = None
    function: Called | None = None


class Thinking(msgspec.Struct, gc=False):
    """A block of thinking as it went out in an answer: signed, or redacted and then only data."""

    type: str = ""
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class Message(msgspec.Struct, gc=False):
    """A message of any role."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Called | None = None
    tool_call_id: str | None = None
    is_error: bool | None = None
    reasoning_content: msgspec.Raw = NULL
    thinking_blocks: list[Thinking] | None = None
    cache_control: msgspec.Raw = NULL


class Function(msgspec.Struct, gc=False):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None
    cache_control: msgspec.Raw = NULL


class Tool(msgspec.Struct, gc=False):
    """A tool; only functions can be told to Anthropic."""

    type: str | None = None
    function: Function | None = None
    cache_control: msgspec.Raw = NULL


class Named(msgspec.Struct, gc=False):
    """A function by its name."""

    name: str


class NamedTool(msgspec.Struct, gc=False):
    """A tool by its name."""

    function: Named | None = None


class Allowed(msgspec.Struct, gc=False):
    """The tools of which one may, or must, be called."""

    mode: str = "auto"
    tools: list[NamedTool] = []


class Choice(msgspec.Struct, gc=False):
    """Which tool must be called, or which may be."""

    type: str
    function: Named | None = None
    allowed_tools: Allowed | None = None


class Schema(msgspec.Struct, gc=False):
    """The schema that an answer must keep to."""

    schema: msgspec.Raw = NULL


class Format(msgspec.Struct, gc=False):
    """The form that an answer must have."""

    type: str
    json_schema: Schema | None = None


class StreamOptions(msgspec.Struct, gc=False):
    """What a caller wants in a stream beside the answer."""

    include_usage: bool | None = None


class Request(msgspec.Struct, gc=False):
    """The members of a chat request that are read."""

    messages: list[Message]
    model: msgspec.Raw = NULL
    max_tokens: msgspec.Raw = NULL
    max_completion_tokens: msgspec.Raw = NULL
    temperature: int | float | None = None
    top_p: int | float | None = None
    top_k: msgspec.Raw = NULL
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    reasoning_effort: str | None = None
    response_format: Format | None = None
    n: int | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    audio: msgspec.Raw = NULL
    moderation: msgspec.Raw = NULL
    web_search_options: msgspec.Raw = NULL
    tools: list[Tool] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None
    function_call: str | Named | None = None
    service_tier: str | None = None
    cache_control: msgspec.Raw = NULL
    inference_geo: msgspec.Raw = NULL
    output_config: msgspec.Raw = NULL
    speed: msgspec.Raw = NULL
    thinking: msgspec.Raw = NULL

    @property
    def is_legacy(self) -> bool:
        """Whether the caller knows functions only, as they were before there were tools."""
        return bool(self.functions) and not self.tools


_Spec = Mapping[str, "_Spec | None"]


def _spec(struct: type[msgspec.Struct], **inner: _Spec) -> _Spec:
    return {name: inner.get(name) for name in struct.__struct_fields__}


_FUNCTION: Final = _spec(Function)
_PLACED: Final = _spec(
    Request,
    messages={
        "role": None, "name": None, "refusal": None, "tool_call_id": None, "is_error": None, "reasoning_content": None,
        "cache_control": None, "thinking_blocks": None, "function_call": {"name": None, "arguments": None},
        "content": {
            "type": None, "text": None, "refusal": None, "cache_control": None, "prompt_cache_breakpoint": None,
            "image_url": {"url": None}, "file": {"file_data": None, "filename": None},
        },
        "tool_calls": {"id": None, "type": None, "index": None, "function": {"name": None, "arguments": None}},
    },
    tools={"type": None, "cache_control": None, "function": _FUNCTION},
    functions=_FUNCTION,
    stream_options={"include_usage": None},
    response_format={"type": None, "json_schema": {"schema": None, "strict": None}},
)  # fmt: skip
"""Every member that has a place with Anthropic, or whose fate depends on what it says."""
_decode: Final = msgspec.json.Decoder(Request).decode


def read(body: bytes) -> Request:
    """A caller's request. Raises GatewayError for what is none."""
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise GatewayError(Kind.INVALID_REQUEST, f"The body is no chat request: {error}.") from None
    except (ValueError, RecursionError):
        raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON.") from None


def refused(message: str, param: str) -> GatewayError:
    """The error for what can't be said to Anthropic; `param` is where it stands."""
    return GatewayError(Kind.INVALID_REQUEST, message, param=param)


def given(value: msgspec.Raw) -> bool:
    """Whether a member is there at all; null is as good as none."""
    return bytes(value) != b"null"


def shown(word: str) -> str:
    """A caller's word as it may stand in an error or a log: it could be anything, so only plain words are told."""
    return word if _SHOWN.fullmatch(word) else "(unnamed)"


def unplaced(body: bytes) -> Iterator[str]:
    """The first members of a request that was read, and theirs, that have no place with Anthropic."""
    return islice(_unplaced(msgspec.Raw(body), _PLACED, ""), MAX_NAMED)


def _unplaced(value: msgspec.Raw, spec: _Spec, where: str) -> Iterator[str]:
    opening = bytes(memoryview(value)[:1])
    if opening == b"[":
        for at, one in enumerate(_list(value)):
            yield from _unplaced(one, spec, f"{where}[{at}]")
    elif opening in b"{ \t\r\n":
        for name, member in _object(value).items():
            if name not in spec:
                if given(member) and (where or bytes(member) not in _NEUTRAL.get(name, ())):
                    yield f"{where}.{shown(name)}" if where else shown(name)
            elif (inner := spec[name]) is not None:
                yield from _unplaced(member, inner, f"{where}.{name}" if where else name)
