"""Translates the tools of a Responses request to functions, and remembers what each function stands for.

A chat request knows functions only. A custom tool becomes a function with one string; the tools of a namespace stand beside
the others, under a name with that of the namespace; a tool search that the caller runs himself becomes a function, and one
that OpenAI would run is left out, as all tools are offered anyway. OpenAI's own tools (web search, …) can't be had: those that
agents add to every request are dropped, as long as other tools are left; all others are refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.request_reader import Json, RequestReader, present_members
from kyma_proxy.dialect.tool_names import fit_name
from kyma_proxy.errors import GatewayError, Kind

FUNCTION: Final = "function"
CUSTOM: Final = "custom"
TOOL_SEARCH: Final = "tool_search"
CUSTOM_INPUT: Final = "input"
"""The one member of the arguments of a custom tool."""
_OPTIONAL: Final = frozenset({"image_generation", "programmatic_tool_calling", "web_search", "web_search_preview"})
_VERSION: Final = re.compile(r"_20\d\d_\d\d_\d\d\Z")
_CHOICES: Final = ("auto", "none", "required")
_EMPTY_OBJECT: Final = {"type": "object", "properties": {}}
_CUSTOM_PARAMETERS: Final = {
    "type": "object",
    "properties": {CUSTOM_INPUT: {"type": "string", "description": "The input of the tool, as free text."}},
    "required": [CUSTOM_INPUT],
    "additionalProperties": False,
}
_OBJECT: Final = b'"object"'
_text: Final = msgspec.json.Decoder(str).decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


class _Function(msgspec.Struct, gc=False):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b"null")
    strict: bool | None = None
    defer_loading: Raw = Raw(b"null")


class _Format(msgspec.Struct, gc=False):
    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class _Custom(msgspec.Struct, gc=False):
    name: str
    description: str | None = None
    format: _Format | None = None
    defer_loading: Raw = Raw(b"null")


class _Namespace(msgspec.Struct, gc=False):
    name: str
    tools: list[Raw] = []
    description: str | None = None


class _ToolSearch(msgspec.Struct, gc=False):
    execution: str = "server"
    description: str | None = None
    parameters: Raw = Raw(b"null")


class _NamedTool(msgspec.Struct, gc=False):
    type: str = ""
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: list[_NamedTool] = []


_function: Final = msgspec.json.Decoder(_Function)
_custom: Final = msgspec.json.Decoder(_Custom)
_namespace: Final = msgspec.json.Decoder(_Namespace)
_tool_search: Final = msgspec.json.Decoder(_ToolSearch)
_choice: Final = msgspec.json.Decoder(_NamedTool)


class Tool(NamedTuple):
    """A tool as the caller knows it: FUNCTION, CUSTOM or TOOL_SEARCH, its name, and that of its namespace."""

    kind: str
    name: str
    namespace: str | None = None


def flat_name(name: str, namespace: str | None = None) -> str:
    """Return the name of a function for a tool: one that every source accepts, and always the same for the same tool."""
    full = name if not namespace else namespace + name if namespace.endswith("__") else f"{namespace}__{name}"
    return fit_name(full)


class Tools:
    """The functions that are offered to the source; `by_name` has the tool that each stands for."""

    __slots__ = ("_left_out", "_reader", "by_name", "functions")

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._left_out: list[str] = []
        self.functions: list[Json] = []
        self.by_name: dict[str, Tool] = {}

    def add(self, raw: Raw, path: str) -> None:
        """Add a tool of the request. Raises GatewayError if it can't be had."""
        reader = self._reader
        members = present_members(reader.members(raw, path))
        kind = _type_of(members, path)
        if kind == "function":
            self._add_function(reader.read(_function, raw, path, members), None)
        elif kind == "custom":
            self._add_custom(reader.read(_custom, raw, path, members), None)
        elif kind == "namespace":
            self._add_namespace(reader.read(_namespace, raw, path, members), path)
        elif kind == "tool_search":
            search = reader.read(_tool_search, raw, path, members)
            if search.execution == "client":
                self._offer(Tool(TOOL_SEARCH, TOOL_SEARCH), search.description, _parameters(search.parameters))
        elif _VERSION.sub("", kind) in _OPTIONAL:
            reader.drop(path)
            self._left_out.append(path)
        else:
            raise _no_such_tool(kind, path)

    def check(self) -> None:
        """Raises GatewayError if all tools of the request were left out: the caller wants the answer of one of them."""
        if self._left_out and not self.functions:
            raise _no_such_tool("OpenAI's own", self._left_out[0])

    def _add_namespace(self, namespace: _Namespace, path: str) -> None:
        about = namespace.description
        for index, raw in enumerate(namespace.tools):
            inner = f"{path}.tools[{index}]"
            members = present_members(self._reader.members(raw, inner))
            kind = _type_of(members, inner)
            if kind == "function":
                function = self._reader.read(_function, raw, inner, members)
                function.description = _joined(about, function.description)
                self._add_function(function, namespace.name)
            elif kind == "custom":
                custom = self._reader.read(_custom, raw, inner, members)
                custom.description = _joined(about, custom.description)
                self._add_custom(custom, namespace.name)
            else:
                raise _no_such_tool(kind, inner)
            about = None  # once is enough

    def _add_function(self, function: _Function, namespace: str | None) -> None:
        tool = Tool(FUNCTION, function.name, namespace)
        self._offer(tool, function.description, _parameters(function.parameters), is_strict=function.strict is True)

    def _add_custom(self, custom: _Custom, namespace: str | None) -> None:
        description, written = custom.description, custom.format
        if written is not None and written.definition:
            syntax = f"{written.syntax} " if written.syntax else ""
            description = _joined(description, f"The input must follow this {syntax}grammar:\n{written.definition}")
        self._offer(Tool(CUSTOM, custom.name, namespace), description, _CUSTOM_PARAMETERS)

    def _offer(self, tool: Tool, description: str | None, parameters: object, *, is_strict: bool = False) -> None:
        name = flat_name(tool.name, tool.namespace)
        known = self.by_name.get(name)
        if known == tool:
            return  # a search may find a tool that is offered already
        if known is not None:
            name = flat_name(f"{tool.kind}/{tool.namespace or ''}/{tool.name}")  # it never fits, so it gets a digest
        self.by_name[name] = tool
        function: Json = {"name": name}
        if description:
            function["description"] = description
        function["parameters"] = parameters
        if is_strict:
            function["strict"] = True
        self.functions.append({"type": "function", "function": function})

    def name_of(self, kind: str, name: str, namespace: str | None = None) -> str:
        """Return the name of the function for a call of the conversation, whose tool need not be offered any more."""
        wanted = Tool(kind, name, namespace)
        flat = flat_name(name, namespace)
        if self.by_name.get(flat, wanted) == wanted:
            return flat
        return next((known for known, tool in self.by_name.items() if tool == wanted), flat)

    def choose(self, raw: Raw | None) -> object:
        """Return the `tool_choice` for the source, None for its default; leaves out tools that are not allowed.

        Raises GatewayError if the caller demands a tool that can't be had.
        """
        if raw is None:
            return None
        written = bytes(raw)
        if written.startswith(b'"'):
            choice = _text(written)
            if choice not in _CHOICES:
                raise _no_choice()
            return None if choice == "auto" else choice
        members = present_members(self._reader.members(raw, "tool_choice"))
        named = self._reader.read(_choice, raw, "tool_choice", members)
        if named.type == "allowed_tools":
            allowed = {self._chosen(one, f"tool_choice.tools[{index}]") for index, one in enumerate(named.tools)}
            self.functions = [one for one in self.functions if _name_in(one) in allowed]
            return "required" if named.mode == "required" else None
        return {"type": "function", "function": {"name": self._chosen(named, "tool_choice")}}

    def _chosen(self, named: _NamedTool, path: str) -> str:
        kind = named.type
        if kind not in (FUNCTION, CUSTOM, TOOL_SEARCH):
            raise _no_such_tool(kind, path)
        return self.name_of(kind, named.name or kind, named.namespace)


def _name_in(function: Json) -> str:
    definition = function["function"]
    return str(definition["name"]) if isinstance(definition, dict) else ""


def _type_of(members: dict[str, Raw], path: str) -> str:
    try:
        return _text(members["type"])
    except (KeyError, msgspec.MsgspecError):
        raise GatewayError(Kind.INVALID_REQUEST, f"`{path}` has no `type`.", param=path) from None


def _parameters(schema: Raw) -> object:
    """Return a schema as written; an object without properties gets empty ones, which sources require."""
    if bytes(schema) == b"null":
        return _EMPTY_OBJECT
    try:
        members = _members(schema)
    except msgspec.MsgspecError:
        return schema
    if "properties" in members or bytes(members.get("type", _OBJECT)) != _OBJECT:
        return schema
    return {"type": Raw(_OBJECT)} | members | {"properties": {}}


def _joined(first: str | None, second: str | None) -> str | None:
    return f"{first}\n\n{second}" if first and second else first or second


def _no_such_tool(kind: str, path: str) -> GatewayError:
    message = f"`{path}` is a tool that this model's source does not have ({kind[:64]}); leave it out, or define a function."
    return GatewayError(Kind.INVALID_REQUEST, message, param=path)


def _no_choice() -> GatewayError:
    message = "`tool_choice` must be auto, none, required, or name a tool of the request."
    return GatewayError(Kind.INVALID_REQUEST, message, param="tool_choice")
