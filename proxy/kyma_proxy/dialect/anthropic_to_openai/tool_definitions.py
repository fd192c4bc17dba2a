"""Translates the tools of an Anthropic request, and the choice among them. (Contract §3.4.)

- A tool that Anthropic runs itself, or whose schema only its models know, is refused: without its definition the model would
  answer as if it had never been offered. The adviser, which agents add to every request beside their own tools, is left out.
- Tools may be searched for (platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool): one with `defer_loading`
  is hidden from the model until a `tool_reference` names it. Other sources know no such thing, so it is offered from then on,
  and not before: Claude Code runs the search itself. If Anthropic was to run the search, nobody does; then all are offered.
  But never Claude Code's placeholder, which only keeps the search switched on and must not be called (seen in 2.1.332).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.request_reader import Json, RequestReader, present_members
from kyma_proxy.errors import GatewayError, Kind

_CHOICES: Final = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})
_CUSTOM: Final = b'"custom"'
_SEARCH: Final = re.compile(rb'"tool_search_tool_[a-z0-9_]+"')
_ADVISER: Final = re.compile(rb'"advisor_[0-9]+"')
_PLACEHOLDER: Final = "DeferredToolPlaceholder"
_TRUE: Final = b"true"
_OBJECT: Final = b'"object"'


class _Tool(msgspec.Struct, gc=False):
    name: str
    input_schema: Raw
    description: str | None = None
    strict: bool | None = None
    defer_loading: bool | None = None


class _Choice(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


_tool: Final = msgspec.json.Decoder(_Tool)
_choice: Final = msgspec.json.Decoder(_Choice)
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


def tool_members(tools: list[Raw], choice: Raw | None, is_loaded: Callable[[str], bool], reader: RequestReader) -> Json:
    """Return the members for the tools and the choice. `is_loaded` is True for tools that the conversation has named.

    Raises GatewayError for what can't be translated.
    """
    chosen = None if choice is None else reader.read(_choice, choice, "tool_choice")
    demanded = None if chosen is None else chosen.name
    written = [(raw, path := f"tools[{index}]", present_members(reader.members(raw, path))) for index, raw in enumerate(tools)]
    offers_all = False
    tools_read: list[_Tool] = []
    for raw, path, members in written:
        kind = bytes(members.get("type", _CUSTOM))
        if _SEARCH.fullmatch(kind) is not None:
            offers_all = True
        elif _ADVISER.fullmatch(kind) is not None and len(written) > 1:
            reader.drop(path)
        else:
            tools_read.append(_read(raw, path, members, reader))
    offered = [
        _definition(tool)
        for tool in tools_read
        if not tool.defer_loading
        or (tool.name != _PLACEHOLDER and (offers_all or tool.name == demanded or is_loaded(tool.name)))
    ]
    if not offered:
        return {}
    out: Json = {"tools": offered}
    return out if chosen is None else out | _choice_members(chosen)


def _read(raw: Raw, path: str, members: dict[str, Raw], reader: RequestReader) -> _Tool:
    if bytes(members.get("type", _CUSTOM)) != _CUSTOM:
        message = f"`{path}` is one of Anthropic's own tools, which this model's source does not have; "
        advice = "leave it out, or define a custom tool with an `input_schema`."
        raise GatewayError(Kind.INVALID_REQUEST, message + advice, param=path)
    return reader.read(_tool, raw, path, members)


def _definition(tool: _Tool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = _parameters(tool.input_schema)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _parameters(schema: Raw) -> object:
    """Return a schema as written; but OpenAI requires `properties` of an object, if only an empty one."""
    if bytes(schema) == _TRUE:
        return {"type": "object", "properties": {}}
    try:
        members = _members(schema)
    except msgspec.MsgspecError:
        return schema
    if "properties" in members or bytes(members.get("type", _OBJECT)) != _OBJECT:
        return schema
    return {"type": Raw(_OBJECT)} | members | {"properties": {}}


def _choice_members(choice: _Choice) -> Json:
    if choice.type == "tool" and choice.name is not None:
        members: Json = {"tool_choice": {"type": "function", "function": {"name": choice.name}}}
    elif choice.type in _CHOICES:
        members = {"tool_choice": _CHOICES[choice.type]}
    else:
        message = "`tool_choice` must be auto, any, none, or tool with a `name`."
        raise GatewayError(Kind.INVALID_REQUEST, message, param="tool_choice")
    if choice.disable_parallel_tool_use:
        members["parallel_tool_calls"] = False
    return members
