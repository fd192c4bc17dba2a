"""Reads an OpenAI chat request, and lists the members that can't be translated for Anthropic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from kyma_proxy.dialect.utf_8 import check_utf_8
from kyma_proxy.errors import GatewayError, Kind

NULL: Final = msgspec.Raw(b"null")
MAX_DROPPED: Final = 100
"""Dropped members that are reported at most: the list goes to the log."""
_LOGGABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NEUTRAL: Final = {
    "frequency_penalty": (b"0", b"0.0"), "logit_bias": (b"{}",), "metadata": (b"{}",), "presence_penalty": (b"0", b"0.0"),
    "store": (b"false",), "top_logprobs": (b"0",),
}  # fmt: skip
"""Members that can't be translated, with the values that have no effect and are dropped without a report."""
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class ImageUrl(msgspec.Struct, gc=False):
    """The URL of an image; a `data:` URL holds the image itself."""

    url: str


class File(msgspec.Struct, gc=False):
    """An inline file, or the id of one that OpenAI stores."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(msgspec.Struct, gc=False):
    """A part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    file: File | None = None
    cache_control: msgspec.Raw = NULL
    prompt_cache_breakpoint: msgspec.Raw = NULL


class FunctionCall(msgspec.Struct, gc=False):
    """A call of a function; `arguments` is a string that holds JSON."""

    name: str
    arguments: msgspec.Raw = NULL


class ToolCall(msgspec.Struct, gc=False):
    """A tool call of an assistant message."""

    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None


class ThinkingBlock(msgspec.Struct, gc=False):
    """A thinking block of an earlier answer: signed text, or redacted data."""

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
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    tool_call_id: str | None = None
    is_error: bool | None = None
    reasoning_content: msgspec.Raw = NULL
    thinking_blocks: list[ThinkingBlock] | None = None
    cache_control: msgspec.Raw = NULL


class Function(msgspec.Struct, gc=False):
    """The definition of a function."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None
    cache_control: msgspec.Raw = NULL


class Tool(msgspec.Struct, gc=False):
    """The definition of a tool; only functions can be translated."""

    type: str | None = None
    function: Function | None = None
    cache_control: msgspec.Raw = NULL


class FunctionName(msgspec.Struct, gc=False):
    """A reference to a function."""

    name: str


class AllowedTool(msgspec.Struct, gc=False):
    """A reference to a tool."""

    function: FunctionName | None = None


class AllowedTools(msgspec.Struct, gc=False):
    """The tools that may be called, or of which one must be."""

    mode: str = "auto"
    tools: list[AllowedTool] = []


class ToolChoice(msgspec.Struct, gc=False):
    """The `tool_choice`: the tool that must be called, or the tools that may be."""

    type: str
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(msgspec.Struct, gc=False):
    """The schema of a structured answer."""

    schema: msgspec.Raw = NULL


class ResponseFormat(msgspec.Struct, gc=False):
    """The `response_format`."""

    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, gc=False):
    """The `stream_options`."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, gc=False):
    """A chat request, with the members that the translation reads."""

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
    response_format: ResponseFormat | None = None
    n: int | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    audio: msgspec.Raw = NULL
    moderation: msgspec.Raw = NULL
    web_search_options: msgspec.Raw = NULL
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None
    function_call: str | FunctionName | None = None
    service_tier: str | None = None
    cache_control: msgspec.Raw = NULL
    inference_geo: msgspec.Raw = NULL
    output_config: msgspec.Raw = NULL
    speed: msgspec.Raw = NULL
    thinking: msgspec.Raw = NULL

    @property
    def is_legacy(self) -> bool:
        """True if the caller uses `functions`, which came before `tools`."""
        return bool(self.functions) and not self.tools


_Spec = Mapping[str, "_Spec | None"]


def _spec(struct: type[msgspec.Struct], **inner: _Spec) -> _Spec:
    return {name: inner.get(name) for name in struct.__struct_fields__}


_FUNCTION: Final = _spec(Function)
_TRANSLATED: Final = _spec(
    ChatRequest,
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
"""Every member that is translated, or whose value decides whether it is."""
_decode: Final = msgspec.json.Decoder(ChatRequest).decode


def read_request(body: bytes) -> ChatRequest:
    """Decode a caller's request. Raises GatewayError if it is malformed."""
    try:
        check_utf_8(body)
        return _decode(body)
    except msgspec.ValidationError as error:
        raise GatewayError(Kind.INVALID_REQUEST, f"The body is no chat request: {error}.") from None
    except (ValueError, RecursionError):
        raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON.") from None


def unsupported(message: str, param: str) -> GatewayError:
    """Return the error for a member that can't be translated; `param` is its path."""
    return GatewayError(Kind.INVALID_REQUEST, message, param=param)


def is_present(value: msgspec.Raw) -> bool:
    """True if a member is present and not null."""
    return bytes(value) != b"null"


def loggable(name: str) -> str:
    """Return a caller's name for use in an error or a log; a placeholder if it is no plain identifier."""
    return name if _LOGGABLE.fullmatch(name) else "(unnamed)"


def untranslated_members(body: bytes) -> Iterator[str]:
    """Yield the paths of the first MAX_DROPPED members of a decoded request that can't be translated."""
    return islice(_untranslated_members(msgspec.Raw(body), _TRANSLATED, ""), MAX_DROPPED)


def _untranslated_members(value: msgspec.Raw, spec: _Spec, path: str) -> Iterator[str]:
    opening = bytes(memoryview(value)[:1])
    if opening == b"[":
        for index, element in enumerate(_list(value)):
            yield from _untranslated_members(element, spec, f"{path}[{index}]")
    elif opening in b"{ \t\r\n":
        for name, member in _object(value).items():
            if name not in spec:
                if is_present(member) and (path or bytes(member) not in _NEUTRAL.get(name, ())):
                    yield f"{path}.{loggable(name)}" if path else loggable(name)
            elif (inner := spec[name]) is not None:
                yield from _untranslated_members(member, inner, f"{path}.{name}" if path else name)
