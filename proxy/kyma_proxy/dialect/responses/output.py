"""Builds the items of a Responses answer, and writes their events, while their texts come. (Contract §4.)

Each item has its events in the documented order: added, its parts, their deltas, the same as a whole, done. Texts are encoded
once for all events that repeat them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.core.http.body import is_json
from kyma_proxy.dialect.anthropic_to_openai.answer import NO_EXTRA
from kyma_proxy.dialect.responses.functions import CUSTOM, CUSTOM_INPUT, FUNCTION, Tool
from kyma_proxy.dialect.responses.reasoning import Thoughts, pack
from kyma_proxy.dialect.responses.response import AnswerOptions

Json = dict[str, Any]
MAX_BYTES: Final = 32 * 1024 * 1024
"""The texts of an answer are kept to its end, as its last event repeats them. An answer with more of them fails."""
_PIECE_WEIGHT: Final = 64
"""A piece of text that is kept takes so many bytes of memory more than it has."""
_PREFIXES: Final = {CUSTOM: "ctc", FUNCTION: "fc"}
_INPUT_TYPES: Final = {CUSTOM: "custom_tool_call_input", FUNCTION: "function_call_arguments"}
_encode: Final = msgspec.json.encode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode


class Events:
    """Numbers and writes the events of one stream, and bounds what is kept of it."""

    __slots__ = ("_kept", "number", "out")

    def __init__(self) -> None:
        self.number = 0
        self.out: list[bytes] = []
        self._kept = 0

    def write(self, kind: bytes, members: bytes) -> None:
        """Write an event with these members, a JSON text without braces."""
        self.out.append(b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (kind, kind, self.number, members))
        self.number += 1

    def delta(self, start: bytes, end: bytes, text: str) -> None:
        """Write an event whose text stands between `start` and its number, and `end`."""
        self.out.append(b"%b%d%b%b}\n\n" % (start, self.number, end, _encode(text)))
        self.number += 1

    def keep(self, text: str) -> None:
        """Count a text that is kept. Raises ValueError if it is too much."""
        self._kept += len(text) + _PIECE_WEIGHT
        if self._kept > MAX_BYTES:
            raise ValueError("the answer is too long")

    def take(self) -> bytes:
        """Return what was written since the last call."""
        out = b"".join(self.out)
        self.out.clear()
        return out


def _delta_event(kind: bytes, place: bytes, more: bytes = b"") -> tuple[bytes, bytes]:
    return b'event: %b\ndata: {"type":"%b","sequence_number":' % (kind, kind), b',%b%b,"delta":' % (place, more)


class TextItem:
    """A message, or the thoughts before it: an item whose parts are texts."""

    __slots__ = (
        "_end",
        "_events",
        "_index",
        "_item_id",
        "_options",
        "_part",
        "_parts",
        "_start",
        "_texts",
        "blocks",
        "encoded",
        "kind",
        "signature",
    )

    def __init__(self, events: Events, options: AnswerOptions, index: int, kind: str) -> None:
        """`kind` is `message` or `reasoning`."""
        prefix = "msg" if kind == "message" else "rs"
        self._events = events
        self._options = options
        self._index = index
        self._item_id = _encode(f"{prefix}_{options.response_id.removeprefix('resp_')}_{index}")
        self._part = ""
        self._parts: list[bytes] = []
        self._texts: list[str] = []
        self._start = self._end = b""
        self.kind = kind
        self.blocks: list[Json] = []
        """The signed blocks of the thoughts."""
        self.signature = ""
        """What the source wants back with the thoughts, once they are there."""
        self.encoded = b""
        members = b'"content":[],"role":"assistant"' if kind == "message" else b'"summary":[]'
        item = b'{"id":%b,"type":"%b","status":"in_progress",%b}' % (self._item_id, kind.encode(), members)
        events.write(b"response.output_item.added", b'"output_index":%d,"item":%b' % (index, item))

    def add(self, part: str, text: str) -> None:
        """Add a piece of text to the part of this type, which is opened if it is not open."""
        if self._part != part:
            self._close_part()
            self._open_part(part)
        self._events.keep(text)
        self._texts.append(text)
        self._events.delta(self._start, self._end, text)

    @property
    def length(self) -> int:
        """The characters of the thoughts so far."""
        return sum(map(len, self._texts))

    def _place(self) -> bytes:
        name = b"summary_index" if self._part == "summary_text" else b"content_index"
        return b'"item_id":%b,"output_index":%d,"%b":%d' % (self._item_id, self._index, name, len(self._parts))

    def _open_part(self, part: str) -> None:
        self._part = part
        place, empty = self._place(), _part_of(part, b'""')
        added, kind, more = _EVENTS[part]
        self._events.write(added + b".added", b'%b,"part":%b' % (place, empty))
        self._start, self._end = _delta_event(kind + b".delta", place, more)

    def _close_part(self) -> None:
        part = self._part
        if not part:
            return
        text = _encode("".join(self._texts))
        place, whole = self._place(), _part_of(part, text)
        added, kind, more = _EVENTS[part]
        name = b"refusal" if part == "refusal" else b"text"
        self._events.write(kind + b".done", b'%b%b,"%b":%b' % (place, more, name, text))
        self._events.write(added + b".done", b'%b,"part":%b' % (place, whole))
        self._parts.append(whole)
        self._part = ""
        if self.kind == "message":
            self._texts.clear()

    def close(self, status: str = "completed") -> None:
        """Write the last events of the item."""
        self._close_part()
        parts = b",".join(self._parts)
        if self.kind == "message":
            members = b'"content":[%b],"role":"assistant"' % parts
        else:
            members = b'"summary":[%b]' % parts if self._options.summarises else b'"summary":[],"content":[%b]' % parts
            if self._options.includes_thoughts:
                text = "".join(self._texts)
                if text == "".join([block.get("thinking") or "" for block in self.blocks]):
                    text = ""  # the blocks have it
                members += b',"encrypted_content":%b' % _encode(pack(Thoughts(text, self.blocks, self.signature)))
            self._texts.clear()
        self.encoded = b'{"id":%b,"type":"%b","status":"%b",%b}' % (self._item_id, self.kind.encode(), status.encode(), members)
        self._events.write(b"response.output_item.done", b'"output_index":%d,"item":%b' % (self._index, self.encoded))


_EVENTS: Final[dict[str, tuple[bytes, bytes, bytes]]] = {
    "output_text": (b"response.content_part", b"response.output_text", b',"logprobs":[]'),
    "refusal": (b"response.content_part", b"response.refusal", b""),
    "reasoning_text": (b"response.content_part", b"response.reasoning_text", b""),
    "summary_text": (b"response.reasoning_summary_part", b"response.reasoning_summary_text", b""),
}
"""By the type of a part: the name of its events, that of its text's events, and what else these have."""


def _part_of(part: str, text: bytes) -> bytes:
    if part == "output_text":
        return b'{"type":"output_text","annotations":[],"logprobs":[],"text":%b}' % text
    if part == "refusal":
        return b'{"type":"refusal","refusal":%b}' % text
    return b'{"type":"%b","text":%b}' % (part.encode(), text)


class CallItem:
    """A call of a tool. It is opened when its name is known, which some sources split."""

    __slots__ = (
        "_end",
        "_events",
        "_index",
        "_item_id",
        "_options",
        "_pieces",
        "_start",
        "_tool",
        "call_id",
        "encoded",
        "extra",
        "is_named",
        "name",
        "shown_id",
    )

    def __init__(self, events: Events, options: AnswerOptions, call_id: str) -> None:
        self._events = events
        self._options = options
        self._pieces: list[str] = []
        self._index = -1
        self._item_id = self._start = self._end = b""
        self._tool = Tool(FUNCTION, "")
        self.call_id = call_id
        self.shown_id = call_id
        """The id as the caller gets it; it may hold what the source wants back."""
        self.extra = NO_EXTRA
        self.name = ""
        self.is_named = False
        """True if the name is complete: something has followed it."""
        self.encoded = b""

    @property
    def is_open(self) -> bool:
        """True if its first event was written."""
        return self._index >= 0

    def open(self, index: int) -> None:
        """Write the first event of the item, which stands at this index of the output."""
        self.is_named = True
        self._index = index
        tool = self._tool = self._options.tools.get(self.name) or Tool(FUNCTION, self.name)
        prefix = _PREFIXES.get(tool.kind, "tsc")
        self._item_id = _encode(f"{prefix}_{self._options.response_id.removeprefix('resp_')}_{index}")
        item = self._item("in_progress", "")
        self._events.write(b"response.output_item.added", b'"output_index":%d,"item":%b' % (index, item))
        place = b'"item_id":%b,"output_index":%d' % (self._item_id, index)
        self._start, self._end = _delta_event(b"response.function_call_arguments.delta", place)

    def add(self, arguments: str) -> None:
        """Add a piece of the arguments."""
        self._events.keep(arguments)
        self._pieces.append(arguments)
        if self._tool.kind == FUNCTION:
            self._events.delta(self._start, self._end, arguments)

    def close(self, status: str = "completed") -> None:
        """Write the last events of the item. The input of a custom tool is known only now."""
        tool, arguments = self._tool, "".join(self._pieces)
        self._pieces.clear()
        kind = _INPUT_TYPES.get(tool.kind)
        if kind is not None:
            place = b'"item_id":%b,"output_index":%d' % (self._item_id, self._index)
            if tool.kind == CUSTOM:
                arguments = _input_of(arguments)
                self._events.delta(*_delta_event(b"response.custom_tool_call_input.delta", place), arguments)
            name = b"input" if tool.kind == CUSTOM else b"arguments"
            self._events.write(b"response.%b.done" % kind.encode(), b'%b,"%b":%b' % (place, name, _encode(arguments)))
        self.encoded = self._item(status, arguments)
        self._events.write(b"response.output_item.done", b'"output_index":%d,"item":%b' % (self._index, self.encoded))

    def _item(self, status: str, arguments: str) -> bytes:
        tool = self._tool
        item: Json = {"id": Raw(self._item_id), "status": status, "call_id": self.shown_id}
        if tool.kind == CUSTOM:
            item |= {"type": "custom_tool_call", "name": tool.name, "input": arguments}
        elif tool.kind == FUNCTION:
            item |= {"type": "function_call", "name": tool.name, "arguments": arguments}
        else:
            item |= {"type": "tool_search_call", "execution": "client", "arguments": _object_of(arguments)}
        if tool.namespace is not None:
            item["namespace"] = tool.namespace
        return _encode(item)


def _input_of(arguments: str) -> str:
    """Return the input of a custom tool: the one string of its arguments, or what the model wrote instead."""
    written = arguments.encode(errors="replace")
    try:
        if written.lstrip().startswith(b'"'):
            return _text(written)
        members = _members(written)
        only = members.get(CUSTOM_INPUT) or next(iter(members.values()), Raw(b"null"))
        return _text(only)
    except (ValueError, RecursionError):
        return arguments


def _object_of(arguments: str) -> object:
    text = arguments.encode(errors="replace")
    return Raw(text.strip()) if text.lstrip().startswith(b"{") and is_json(text) else {}
