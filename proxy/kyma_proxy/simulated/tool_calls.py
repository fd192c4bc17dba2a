"""Decides which tool a simulated answer calls, and with which arguments. Pure.

A tool is called if `tool_choice` demands one or names it, or if the last message is the user's and mentions its name.
The arguments are the smallest that the tool's own schema accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from kyma_proxy.simulated.request_fields import BadRequest, Json

_MAX_DEPTH: Final = 8  # of a schema; below it, objects are empty
_PRIMITIVES: Final[dict[object, object]] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}


class ToolCall(NamedTuple):
    """A tool's name and its arguments as JSON."""

    name: str
    arguments: str


def choose_tool(body: Json, conversation: list[Json]) -> ToolCall | None:
    """Returns the call that the answer makes, or None if it answers with a text; raises BadRequest."""
    tools = {tool.name: tool for tool in _tools(body)}
    choice = body.get("tool_choice")
    mode, name = choice, None
    if isinstance(choice, dict):
        function = choice.get("function")
        mode, name = choice.get("type"), (function if isinstance(function, dict) else choice).get("name")
    if isinstance(name, str):
        if name not in tools:
            raise BadRequest("'tool_choice' names a tool that is not in 'tools'.", "tool_choice")
        return tools[name]
    if not tools or mode == "none":
        return None
    text = _user_text(conversation[-1])
    mentioned = next((tool for tool in tools.values() if tool.name in text), None)
    if mentioned is None and mode in ("required", "any"):
        return next(iter(tools.values()))
    return mentioned


def _tools(body: Json) -> Iterator[ToolCall]:
    """Yields a call of each tool, in any of the three dialects' shapes. A provider's built-in tools have no name: skipped."""
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest("'tools' must be a list of objects.", "tools")
    for tool in tools:
        function = tool.get("function")
        definition = function if isinstance(function, dict) else tool
        if isinstance(name := definition.get("name"), str) and name:
            schema = definition.get("parameters") or definition.get("input_schema")
            arguments = _smallest_value(schema if isinstance(schema, dict) else {}, depth=0)
            yield ToolCall(name, msgspec.json.encode(arguments).decode())


def _smallest_value(schema: Json, depth: int) -> object:
    """Returns the smallest value that satisfies the plain part of a JSON schema: type, enum, properties, required."""
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    properties, required = schema.get("properties"), schema.get("required")
    if depth == 0 or schema.get("type") == "object":
        schemas = properties if isinstance(properties, dict) else {}
        names = required if isinstance(required, list) and depth < _MAX_DEPTH else []
        return {name: _smallest_value(schemas[name], depth + 1) for name in names if isinstance(schemas.get(name), dict)}
    kind = schema.get("type")
    return _PRIMITIVES.get(kind, "simulated") if isinstance(kind, str) else "simulated"


def _user_text(message: Json) -> str:
    """Returns the user's own text in a message. A tool's result is none of it, so it never causes the next call."""
    content = message.get("content")
    if message.get("role") != "user":
        return ""
    blocks = content if isinstance(content, list) else [{"text": content}]
    return " ".join(text for block in blocks if isinstance(block, dict) and isinstance(text := block.get("text"), str))
