"""This file says in OpenAI's words what has been said in Anthropic's: a conversation, turn by turn. (Contract §3.4.)

A turn of Anthropic's is a list of blocks of any kind. OpenAI's tools answer in messages of their own, which take text only and
follow the call at once, so a turn's tool results come first, and the images in them go into the user's message that follows.
Text alone becomes a plain string, as many servers take nothing else. A block that can't be said is an error, as the model would
answer without knowing what the caller believes that it knows; a member that only tunes how a block is treated is dropped, and
named.

Instructions in the middle of a conversation go with all others into the one message that leads it, in their order: the
templates of many open models refuse a system message anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.tool_ids import own_id
from kyma_proxy.errors import GatewayError, Kind

Json = dict[str, object]
T = TypeVar("T")

RAW_ARGUMENTS: Final = "_raw_arguments"
"""The one member of a tool's input that stands for arguments of which the model made no JSON object."""
PARAGRAPH: Final = "\n\n"
"""What stands between two texts that become one."""
_INDEX: Final = re.compile(r"\[\d+\]")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_NAMES: Final = 64
_ALWAYS_READ: Final = frozenset({"type"})
_NULL: Final = b"null"
_NO_SIGNATURES: Final = (b'""', msgspec.json.encode(UNSIGNED))
"""Those of a thought that nobody has signed."""
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_text: Final = msgspec.json.Decoder(str)


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Raw] | None = None


class _Text(msgspec.Struct, gc=False):
    text: str


class _Source(msgspec.Struct, gc=False):
    """Where an image or a document is: in the request, at a URL, or in Anthropic's own storage."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: str | list[Raw] = ""


class _Image(msgspec.Struct, gc=False):
    source: _Source


class _Document(msgspec.Struct, gc=False):
    source: _Source
    title: str | None = None
    context: str | None = None


class _SearchResult(msgspec.Struct, gc=False):
    source: str
    title: str
    content: list[Raw]


class _Thinking(msgspec.Struct, gc=False):
    thinking: str = ""


class _ToolUse(msgspec.Struct, gc=False):
    id: str
    name: str
    input: Raw = Raw(b"{}")


class _ToolResult(msgspec.Struct, gc=False):
    tool_use_id: str
    content: str | list[Raw] | None = None
    is_error: bool | None = None


_message: Final = msgspec.json.Decoder(_Message)
_text_block: Final = msgspec.json.Decoder(_Text)
_image: Final = msgspec.json.Decoder(_Image)
_document: Final = msgspec.json.Decoder(_Document)
_search_result: Final = msgspec.json.Decoder(_SearchResult)
_thinking: Final = msgspec.json.Decoder(_Thinking)
_tool_use: Final = msgspec.json.Decoder(_ToolUse)
_tool_result: Final = msgspec.json.Decoder(_ToolResult)


class Reading:
    """Reads a request's parts, and keeps the names of what has no place in the source's dialect.

    A name is the member's path. It is kept once for each kind of member, from where that came first; `cache_control` is one
    kind wherever it stands. What a name may hold and how many there are is bounded, as callers choose what they send.
    """

    __slots__ = ("_dropped",)

    def __init__(self) -> None:
        self._dropped: dict[str, str] = {}

    @property
    def dropped(self) -> tuple[str, ...]:
        """The names, in the order in which they were come upon."""
        return tuple(self._dropped.values())

    def drop(self, path: str) -> None:
        """Keep the name of a member that is left out."""
        if len(self._dropped) < _MAX_NAMES:
            self._dropped.setdefault(_INDEX.sub("[]", path), path)

    def members(self, raw: Raw | bytes, path: str) -> dict[str, Raw]:
        """The members of an object. Raises GatewayError where it is none."""
        return _tried(_members, raw, path)

    def take(self, decoder: msgspec.json.Decoder[T], raw: Raw | bytes, path: str, members: Iterable[str] | None = None) -> T:
        """What is read of an object; its other members are dropped. Raises GatewayError where it is not of its form.

        `members` are the names of those that it has, where they are known already.
        """
        taken = _tried(decoder.decode, raw, path)
        known = type(taken).__struct_fields__  # type: ignore[attr-defined]
        for name in present(self.members(raw, path)) if members is None else members:
            if name not in known and name not in _ALWAYS_READ:
                shown = name if _NAME.fullmatch(name) else "?"
                self.drop(shown if name == "cache_control" or not path else f"{path}.{shown}")
        return taken


def _tried(decode: Callable[[Raw | bytes], T], raw: Raw | bytes, path: str) -> T:
    try:
        return decode(raw)
    except msgspec.MsgspecError as error:
        words, _, place = str(error).partition(" - at `$")
        where = (path + place.rstrip("`")).lstrip(".") or "body"
        message = f"`{where}` is not what it must be: {words[:1].lower()}{words[1:]}."
        raise GatewayError(Kind.INVALID_REQUEST, message, param=where) from None


def present(members: dict[str, Raw]) -> dict[str, Raw]:
    """The members that are not null."""
    return {name: value for name, value in members.items() if bytes(value) != _NULL}


def plain(parts: list[Json]) -> str | list[Json]:
    """The parts of a content, as one string where all are texts."""
    if all(part["type"] == "text" for part in parts):
        return PARAGRAPH.join(str(part["text"]) for part in parts)
    return parts


class Conversation:
    """Turns Anthropic's messages into OpenAI's. `system` are the texts of those that instruct, wherever they stand."""

    __slots__ = ("_reading", "_reasoning_field", "system")

    def __init__(self, reading: Reading, reasoning_field: str | None) -> None:
        self._reading = reading
        self._reasoning_field = reasoning_field
        self.system: list[str] = []

    def said(self, messages: list[Raw]) -> list[Json]:
        """The whole conversation but for its instructions. Raises GatewayError where something in it can't be said."""
        turns: list[Json] = []
        for at, raw in enumerate(messages):
            path = f"messages[{at}]"
            message = self._reading.take(_message, raw, path)
            content = message.content or ""
            if message.role not in ("user", "assistant", "system"):
                words = f"`{path}.role` must be user, assistant or system."
                raise GatewayError(Kind.INVALID_REQUEST, words, param=f"{path}.role")
            if message.role == "system":
                self.system.append(content if isinstance(content, str) else self.texts(content, f"{path}.content"))
            elif isinstance(content, str):
                turns.append({"role": message.role, "content": content})
            elif message.role == "user":
                turns += self._user(content, f"{path}.content")
            else:
                turns.append(self._assistant(content, f"{path}.content"))
        return turns

    def texts(self, blocks: list[Raw], path: str) -> str:
        """Blocks of text, a paragraph each. Raises GatewayError where one is something else."""
        texts = []
        for raw, kind, members, where in self._each(blocks, path):
            if kind != "text":
                raise _unsayable(kind, where)
            texts.append(self._reading.take(_text_block, raw, where, members).text)
        return PARAGRAPH.join(texts)

    def _each(self, blocks: list[Raw], path: str) -> Iterable[tuple[Raw, str, dict[str, Raw], str]]:
        for at, raw in enumerate(blocks):
            where = f"{path}[{at}]"
            members = present(self._reading.members(raw, where))
            if "type" not in members:
                raise GatewayError(Kind.INVALID_REQUEST, f"`{where}` has no `type`.", param=where)
            yield raw, _tried(_text.decode, members["type"], f"{where}.type"), members, where

    def _user(self, blocks: list[Raw], path: str) -> list[Json]:
        """A user's turn: a message for each tool's result, and one for all else."""
        results: list[Json] = []
        shown: list[Json] = []
        parts: list[Json] = []
        for raw, kind, members, where in self._each(blocks, path):
            if kind == "tool_result":
                result = self._reading.take(_tool_result, raw, where, members)
                text, others = self._result(result, where)
                results.append({"role": "tool", "tool_call_id": own_id(result.tool_use_id), "content": text})
                shown += others
            else:
                parts += self._part(raw, kind, members, where)
        parts = shown + parts
        if parts or not results:
            results.append({"role": "user", "content": plain(parts)})
        return results

    def _result(self, result: _ToolResult, path: str) -> tuple[str, list[Json]]:
        """A tool's result as a text, and what of it is none, which a line ties to its call."""
        content = result.content or ""
        others: list[Json] = []
        if isinstance(content, str):
            text = content
        else:
            parts = [part for block in self._each(content, f"{path}.content") for part in self._part(*block)]
            others = [part for part in parts if part["type"] != "text"]
            text = str(plain([part for part in parts if part["type"] == "text"]))
        if result.is_error:
            text = f"Error: {text}" if text else "Error"
        if others:
            others.insert(0, {"type": "text", "text": f"From the result of the tool call {own_id(result.tool_use_id)}:"})
            text = text or "The result is in the user's message that follows."
        return text, others

    def _part(self, raw: Raw, kind: str, members: dict[str, Raw], path: str) -> list[Json]:
        """A block of the user's as parts of a content."""
        reading = self._reading
        if kind == "text":
            return [_said(reading.take(_text_block, raw, path, members).text)]
        if kind == "image":
            return [_picture(reading.take(_image, raw, path, members).source, path)]
        if kind == "document":
            return self._pages(reading.take(_document, raw, path, members), path)
        if kind == "search_result":
            found = reading.take(_search_result, raw, path, members)
            text = self.texts(found.content, f"{path}.content")
            return [_said(f"{found.title}\n{found.source}\n\n{text}")]
        raise _unsayable(kind, path)

    def _pages(self, document: _Document, path: str) -> list[Json]:
        """A document: a file where it is a PDF, else its text; what the caller tells of it comes first."""
        source = document.source
        if source.type == "base64":
            about = [_said(document.context)] if document.context else []
            name = document.title or "document.pdf"
            file = {"filename": name, "file_data": f"data:{source.media_type or 'application/pdf'};base64,{source.data}"}
            return [*about, {"type": "file", "file": file}]
        about = [_said(words) for words in (document.title, document.context) if words]
        if source.type == "text":
            return [*about, _said(source.data)]
        if source.type == "content":
            if isinstance(source.content, str):
                return [*about, _said(source.content)]
            for block in self._each(source.content, f"{path}.source.content"):
                about += self._part(*block)
            return about
        advice = "send the document itself, as base64 or as text"
        raise _unsayable(source.type, f"{path}.source", advice)

    def _assistant(self, blocks: list[Raw], path: str) -> Json:
        """An assistant's turn. Its texts are one, as citations cut them anywhere; what stands between two is a break."""
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[Json] = []
        before = "text"
        for raw, kind, members, where in self._each(blocks, path):
            if kind == "text":
                if before != "text" and texts:
                    texts.append(PARAGRAPH)
                texts.append(self._reading.take(_text_block, raw, where, members).text)
            elif kind == "thinking":
                if bytes(members.get("signature", b"")) in _NO_SIGNATURES:
                    del members["signature"]
                thoughts.append(self._reading.take(_thinking, raw, where, members).thinking)
            elif kind == "redacted_thinking":
                self._reading.drop(f"{where}.redacted_thinking")
            elif kind == "tool_use":
                calls.append(_call(self._reading.take(_tool_use, raw, where, members)))
            else:
                raise _unsayable(kind, where)
            before = kind
        text = "".join(texts)
        turn: Json = {"role": "assistant", "content": text or (None if calls else "")}
        if any(thoughts):
            if self._reasoning_field is None:
                self._reading.drop(f"{path}.thinking")
            else:
                turn[self._reasoning_field] = PARAGRAPH.join(thoughts)
        if calls:
            turn["tool_calls"] = calls
        return turn


def _said(text: str) -> Json:
    return {"type": "text", "text": text}


def _picture(source: _Source, path: str) -> Json:
    if source.type == "base64":
        return {"type": "image_url", "image_url": {"url": f"data:{source.media_type};base64,{source.data}"}}
    if source.type == "url":
        return {"type": "image_url", "image_url": {"url": source.url}}
    raise _unsayable(source.type, f"{path}.source", "send the image itself, as base64, or its URL")


def _call(use: _ToolUse) -> Json:
    written = b"{}" if bytes(use.input) == _NULL else msgspec.json.format(bytes(use.input), indent=-1)
    arguments = written.decode()
    if RAW_ARGUMENTS in arguments and written.startswith(b"{"):
        members = _members(written)
        kept = bytes(members.get(RAW_ARGUMENTS, b""))
        if len(members) == 1 and kept.startswith(b'"'):
            arguments = _text.decode(kept)
    return {"id": own_id(use.id), "type": "function", "function": {"name": use.name, "arguments": arguments}}


def _unsayable(kind: str, path: str, advice: str = "leave it out") -> GatewayError:
    message = f"`{path}` is of the type `{kind[:64]}`, for which the dialect of this model's source has no word; {advice}."
    return GatewayError(Kind.INVALID_REQUEST, message, param=path)
