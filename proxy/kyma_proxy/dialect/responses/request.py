"""Translates a Responses request to a chat request. (Contract §2, §3.4.)

- What needs memory is refused: `previous_response_id`, `conversation`, `prompt`, `store: true`, `background`.
- What only tunes how OpenAI treats a request is dropped and reported; most sources refuse a member that they do not know.
- No limit of tokens is added: this endpoint has none by default.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from kyma_proxy.config.supports import Supports
from kyma_proxy.dialect.anthropic_to_openai.request_reader import Json, RequestReader, present_members
from kyma_proxy.dialect.chat_fitting import ChatFitting
from kyma_proxy.dialect.responses.functions import Tool, Tools
from kyma_proxy.dialect.responses.items import Conversation
from kyma_proxy.dialect.translation import ThoughtRules
from kyma_proxy.dialect.utf_8 import check_utf_8
from kyma_proxy.errors import GatewayError, Kind

_MEMORY: Final = MappingProxyType({
    "previous_response_id": "names an answer that would be stored",
    "conversation": "names a conversation that would be stored",
    "prompt": "names a prompt that would be stored",
    "background": "asks for an answer that would be stored",
})  # fmt: skip
_WITHOUT_EFFECT: Final = MappingProxyType({
    "background": (b"false",), "context_management": (b"[]",), "max_tool_calls": (), "moderation": (), "service_tier":
    (b'"auto"', b'"default"'), "top_logprobs": (b"0",), "truncation": (b'"disabled"',), "metadata": (b"{}",),
    "prompt_cache_key": (), "prompt_cache_retention": (), "prompt_cache_options": (), "client_metadata": (),
    "stream_options": (),
})  # fmt: skip
"""Members that are dropped, with the values that change nothing and are not reported."""
_SILENT: Final = frozenset({"metadata", "stream_options"})  # the answer repeats the one, and has nothing of the other
_INCLUDED: Final = "reasoning.encrypted_content"
_CALLER_NAMES: Final = MappingProxyType({"reasoning_effort": "reasoning.effort", "response_format": "text.format"})
_encode: Final = msgspec.json.encode
_NULL: Final = Raw(b"null")


class _Format(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    schema: Raw = _NULL
    strict: bool | None = None
    description: str | None = None


class _TextOptions(msgspec.Struct, gc=False):
    format: Raw = _NULL
    verbosity: str | None = None


class _Reasoning(msgspec.Struct, gc=False):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class _Request(msgspec.Struct, gc=False):
    input: str | list[Raw] = ""
    model: Raw = _NULL
    instructions: str | None = None
    tools: list[Raw] = []
    tool_choice: Raw = _NULL
    parallel_tool_calls: bool | None = None
    max_output_tokens: Raw = _NULL
    temperature: Raw = _NULL
    top_p: Raw = _NULL
    text: Raw = _NULL
    reasoning: Raw = _NULL
    include: list[str] = []
    store: bool | None = None
    stream: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None


_request: Final = msgspec.json.Decoder(_Request)
_format: Final = msgspec.json.Decoder(_Format)
_text_options: Final = msgspec.json.Decoder(_TextOptions)
_reasoning: Final = msgspec.json.Decoder(_Reasoning)


class ChatRequest(NamedTuple):
    """A translated request, with the facts that its answer needs.

    `members` are those of the request, as written. `tools` are the tools that the functions stand for.
    """

    body: bytes
    dropped: tuple[str, ...]
    members: dict[str, Raw]
    tools: dict[str, Tool]
    summarises: bool
    """True if the caller asks for a summary of the thoughts: then they are given as one."""
    includes_thoughts: bool
    """True if the caller wants the thoughts as a token, to send them back."""
    optional: tuple[str, ...] = ()
    """Members of the request that could be left out."""


class Target(NamedTuple):
    """The source: its model, the members that it takes, and the rules for its thoughts.

    `is_signing` is True if it signs its thoughts, and takes images in the results of tools. With `supports`, what it takes, the
    request is fitted to it; without, another translation follows that does so.
    """

    model: str
    max_tokens_field: str
    max_tokens: int | None
    asks_for_usage: bool
    thoughts: ThoughtRules
    is_signing: bool = False
    supports: Supports | None = None


def translate_request(body: bytes, target: Target) -> ChatRequest:
    """Translate a request. Raises GatewayError for what can't be translated."""
    reader = RequestReader()
    try:
        check_utf_8(body)
        members = present_members(reader.members(body, ""))
        _refuse_memory(members)
        read = [name for name in members if name not in _WITHOUT_EFFECT and name not in _MEMORY]
        request = reader.read(_request, body, "", read)
        return _translate(request, members, reader, target)
    except RecursionError:
        raise GatewayError(Kind.INVALID_JSON, "The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON: it is not UTF-8.") from None


def _refuse_memory(members: dict[str, Raw]) -> None:
    for name, why in _MEMORY.items():
        if name in members and bytes(members[name]) != b"false":
            raise _no_memory(name, why)
    if bytes(members.get("store", b"")) == b"true":
        raise _no_memory("store", "asks for an answer that would be stored")


def _no_memory(name: str, why: str) -> GatewayError:
    message = f"`{name}` {why}; the gateway stores none. Send `store: false`, and the whole conversation in `input`."
    return GatewayError(Kind.INVALID_REQUEST, message, param=name)


def _translate(request: _Request, members: dict[str, Raw], reader: RequestReader, target: Target) -> ChatRequest:
    tools = Tools(reader)
    for index, raw in enumerate(request.tools):
        tools.add(raw, f"tools[{index}]")
    out: Json = {"model": target.model, "messages": _messages(request, tools, reader, target)}
    tools.check()
    out |= _tool_members(request, tools, members)
    out |= {name: members[name] for name in ("temperature", "top_p") if name in members}
    if "max_output_tokens" in members:
        out[target.max_tokens_field] = request.max_output_tokens
    elif target.max_tokens is not None:
        out[target.max_tokens_field] = target.max_tokens
    reasoning = reader.read(_reasoning, request.reasoning, "reasoning") if "reasoning" in members else _Reasoning()
    if reasoning.effort is not None:
        out["reasoning_effort"] = reasoning.effort
    if "text" in members:
        out |= _format_member(reader.read(_text_options, request.text, "text"), reader)
    user = request.safety_identifier or request.user
    if user:
        out["user"] = user
    if request.stream:
        out["stream"] = True
    if target.asks_for_usage and (request.stream or target.is_signing):  # a signing source may stream without being asked to
        out["stream_options"] = {"include_usage": True}
    _report(members, request.include, reader)
    optional: tuple[str, ...] = ()
    if target.supports is not None:
        fitting = ChatFitting(target.supports, _CALLER_NAMES)
        fitting.fit(out, reader.drop)
        optional = fitting.optional
    summarises = (reasoning.summary or reasoning.generate_summary) not in (None, "none")
    return ChatRequest(_encode(out), reader.dropped, members, tools.by_name, summarises, _INCLUDED in request.include, optional)


def _messages(request: _Request, tools: Tools, reader: RequestReader, target: Target) -> list[Json]:
    conversation = Conversation(reader, tools, target.thoughts, takes_rich_results=target.is_signing)
    if request.instructions:
        conversation.system.append(request.instructions)
    if isinstance(request.input, str):
        conversation.add(Raw(_encode({"role": "user", "content": request.input})), "input")
    else:
        for index, raw in enumerate(request.input):
            conversation.add(raw, f"input[{index}]")
    messages = conversation.messages()
    if all(message["role"] == "system" for message in messages):
        messages = [{"role": "user", "content": message["content"]} for message in messages]
    if not messages:
        raise GatewayError(Kind.INVALID_REQUEST, "`input` must hold a message that is not empty.", param="input")
    return messages


def _tool_members(request: _Request, tools: Tools, members: dict[str, Raw]) -> Json:
    choice = tools.choose(members.get("tool_choice"))
    if not tools.functions:
        return {}
    out: Json = {"tools": tools.functions}
    if choice is not None:
        out["tool_choice"] = choice
    if request.parallel_tool_calls is False:
        out["parallel_tool_calls"] = False
    return out


def _report(members: dict[str, Raw], include: list[str], reader: RequestReader) -> None:
    for name, values in _WITHOUT_EFFECT.items():
        if name in members and name not in _SILENT and bytes(members[name]) not in values:
            reader.drop(name)
    for index, name in enumerate(include):
        if name != _INCLUDED:
            reader.drop(f"include[{index}]")


def _format_member(options: _TextOptions, reader: RequestReader) -> Json:
    if options.verbosity not in (None, "medium"):
        reader.drop("text.verbosity")
    if bytes(options.format) == b"null":
        return {}
    written = reader.read(_format, options.format, "text.format")
    if written.type == "text":
        return {}
    if written.type == "json_object":
        return {"response_format": {"type": "json_object"}}
    if written.type != "json_schema":
        message = "`text.format.type` must be text, json_schema or json_object."
        raise GatewayError(Kind.INVALID_REQUEST, message, param="text.format.type")
    schema: Json = {"name": written.name or "answer", "schema": written.schema}
    if written.description is not None:
        schema["description"] = written.description
    if written.strict is not None:
        schema["strict"] = written.strict
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
