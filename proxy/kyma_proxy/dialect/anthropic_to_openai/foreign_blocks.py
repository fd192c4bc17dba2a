"""Writes blocks that only Anthropic's own models know as text. (Contract §3.4.)

A conversation may hold what another source has answered: calls of tools that Anthropic runs, their results, references to tools
that were searched for, summaries, and whatever Anthropic adds later. To refuse such a block would shut the conversation out, as
every later request repeats it. So a block is written as text if it says something, and is left out and reported if it does not.

The shapes are those of platform.claude.com/docs: agents-and-tools/tool-use (web-search-tool, code-execution-tool,
tool-search-tool), agents-and-tools/mcp-connector and build-with-claude/compaction.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

_CALLS: Final = frozenset({"server_tool_use", "mcp_tool_use"})
_RESULT: Final = "_result"
_MEANINGFUL: Final = (
    "title", "url", "text", "tool_name", "content", "summary", "stdout", "stderr", "return_code", "lines", "output",
    "error_code", "error", "message", "tool_references",
)  # fmt: skip
"""The members that hold what a block says. Others are keys, encrypted copies and settings."""
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


def text_of_block(block_type: str, members: dict[str, Raw]) -> str:
    """Return what a block says; "" if a text can't hold it."""
    try:
        block = {name: _decode(value) for name, value in members.items() if name in _MEANINGFUL or name in ("name", "input")}
    except (msgspec.MsgspecError, UnicodeError):  # a number out of range
        return ""
    if block_type in _CALLS:
        return f"[The tool {block.get('name')} was called with {_encode(block.get('input') or {}).decode()}.]"
    if block_type == "tool_reference":
        name = block.get("tool_name")
        return f"The tool {name} can be called now." if isinstance(name, str) else ""
    text = _texts_in(block)
    return f"[The result of the tool: {text}]" if text and block_type.endswith(_RESULT) else text


def _texts_in(value: Any) -> str:
    """Return all texts in a value, a line each."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(_texts_in, value)))
    if isinstance(value, dict):
        return "\n".join(filter(None, [_member(name, value.get(name)) for name in _MEANINGFUL]))
    return ""


def _member(name: str, value: Any) -> str:
    return f"{name}: {value}" if isinstance(value, int | float) else _texts_in(value)
