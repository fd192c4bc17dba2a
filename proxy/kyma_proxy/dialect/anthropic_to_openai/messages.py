"""Translates the messages of an Anthropic request for OpenAI. (Contract §3.4.)

A message of Anthropic is a list of blocks of any type. In OpenAI's dialect a tool result is a message of its own, which holds
text only and directly follows the call; so tool results come first, and their images go into the user message that follows.
Text alone becomes a plain string, as many servers accept nothing else. A block that can't be translated is an error, as the
model would answer without what the caller assumes it knows. A member that only tunes how a block is treated is dropped and
reported.

System messages within the conversation are joined with all others, in their order, into the first message: the templates of
many open models refuse a system message anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.tool_arguments import arguments_of
from kyma_proxy.dialect.tool_ids import decode_tool_id
from kyma_proxy.errors import GatewayError, Kind

Json = dict[str, object]
T = TypeVar("T")

PARAGRAPH: Final = "\n\n"
"""Separates two texts that are joined."""
_INDEX: Final = re.compile(r"\[\d+\]")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_NAMES: Final = 64
_ALWAYS_READ: Final = frozenset({"type"})
_NULL: Final = b"null"
_NO_SIGNATURES: Final = (b'""', msgspec.json.encode(UNSIGNED))
"""Signatures of an unsigned thinking block."""
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_text: Final = msgspec.json.Decoder(str)


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Raw] | None = None


class _Text(msgspec.Struct, gc=False):
    text: str


class _Source(msgspec.Struct, gc=False):
    """The source of an image or document: inline, a URL, or a file that Anthropic stores."""

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
    caller: Raw = Raw(b"null")
    """It says that the model itself has made the call, as a translated answer does."""


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


class RequestReader:
    """Decodes the parts of a request, and collects the paths of members that are dropped.

    Each kind of member is reported once, with the path of its first occurrence; `cache_control` is one kind wherever it stands.
    The characters and the number of the paths are bounded, as callers choose what they send.
    """

    __slots__ = ("_dropped",)

    def __init__(self) -> None:
        self._dropped: dict[str, str] = {}

    @property
    def dropped(self) -> tuple[str, ...]:
        """The paths, in the order of the request."""
        return tuple(self._dropped.values())

    def drop(self, path: str) -> None:
        """Report a member as dropped."""
        if len(self._dropped) < _MAX_NAMES:
            self._dropped.setdefault(_INDEX.sub("[]", path), path)

    def members(self, raw: Raw | bytes, path: str) -> dict[str, Raw]:
        """Return the members of an object. Raises GatewayError if it is none."""
        return _decode_or_refuse(_members, raw, path)

    def read(self, decoder: msgspec.json.Decoder[T], raw: Raw | bytes, path: str, members: Iterable[str] | None = None) -> T:
        """Decode an object and report its other members as dropped. Raises GatewayError if it is malformed.

        `members` are the names of its members, if they are known already.
        """
        decoded = _decode_or_refuse(decoder.decode, raw, path)
        known = type(decoded).__struct_fields__  # type: ignore[attr-defined]
        for name in present_members(self.members(raw, path)) if members is None else members:
            if name not in known and name not in _ALWAYS_READ:
                loggable_name = name if _NAME.fullmatch(name) else "?"
                self.drop(loggable_name if name == "cache_control" or not path else f"{path}.{loggable_name}")
        return decoded


def _decode_or_refuse(decode: Callable[[Raw | bytes], T], raw: Raw | bytes, path: str) -> T:
    try:
        return decode(raw)
    except msgspec.MsgspecError as error:
        reason, _, place = str(error).partition(" - at `$")
        param = (path + place.rstrip("`")).lstrip(".") or "body"
        message = f"`{param}` is not valid: {reason[:1].lower()}{reason[1:]}."
        raise GatewayError(Kind.INVALID_REQUEST, message, param=param) from None


def present_members(members: dict[str, Raw]) -> dict[str, Raw]:
    """Return the members that are not null."""
    return {name: value for name, value in members.items() if bytes(value) != _NULL}


def content_of(parts: list[Json]) -> str | list[Json]:
    """Return the parts of a content, as one string if all are text."""
    if all(part["type"] == "text" for part in parts):
        return PARAGRAPH.join(str(part["text"]) for part in parts)
    return parts


class Conversation:
    """Translates Anthropic's messages to OpenAI's. `system` collects the texts of system messages."""

    __slots__ = ("_reader", "_reasoning_field", "system")

    def __init__(self, reader: RequestReader, reasoning_field: str | None) -> None:
        self._reader = reader
        self._reasoning_field = reasoning_field
        self.system: list[str] = []

    def translate(self, messages: list[Raw]) -> list[Json]:
        """Return the translated messages, without system messages. Raises GatewayError for what can't be translated."""
        translated: list[Json] = []
        for index, raw in enumerate(messages):
            path = f"messages[{index}]"
            message = self._reader.read(_message, raw, path)
            content = message.content or ""
            if message.role not in ("user", "assistant", "system"):
                why = f"`{path}.role` must be user, assistant or system."
                raise GatewayError(Kind.INVALID_REQUEST, why, param=f"{path}.role")
            if message.role == "system":
                self.system.append(content if isinstance(content, str) else self.text_of(content, f"{path}.content"))
            elif isinstance(content, str):
                translated.append({"role": message.role, "content": content})
            elif message.role == "user":
                translated += self._user_messages(content, f"{path}.content")
            else:
                translated.append(self._assistant_message(content, f"{path}.content"))
        return translated

    def text_of(self, blocks: list[Raw], path: str) -> str:
        """Return blocks of text as one string, a paragraph each. Raises GatewayError if a block is no text."""
        paragraphs = []
        for raw, block_type, members, block_path in self._read_blocks(blocks, path):
            if block_type != "text":
                raise _unsupported(block_type, block_path)
            paragraphs.append(self._reader.read(_text_block, raw, block_path, members).text)
        return PARAGRAPH.join(paragraphs)

    def _read_blocks(self, blocks: list[Raw], path: str) -> Iterable[tuple[Raw, str, dict[str, Raw], str]]:
        for index, raw in enumerate(blocks):
            block_path = f"{path}[{index}]"
            members = present_members(self._reader.members(raw, block_path))
            if "type" not in members:
                raise GatewayError(Kind.INVALID_REQUEST, f"`{block_path}` has no `type`.", param=block_path)
            yield raw, _decode_or_refuse(_text.decode, members["type"], f"{block_path}.type"), members, block_path

    def _user_messages(self, blocks: list[Raw], path: str) -> list[Json]:
        """Translate a user message: one message for each tool result, and one for everything else."""
        results: list[Json] = []
        result_parts: list[Json] = []
        parts: list[Json] = []
        for raw, block_type, members, block_path in self._read_blocks(blocks, path):
            if block_type == "tool_result":
                result = self._reader.read(_tool_result, raw, block_path, members)
                text, others = self._tool_result_content(result, block_path)
                results.append({"role": "tool", "tool_call_id": decode_tool_id(result.tool_use_id), "content": text})
                result_parts += others
            else:
                parts += self._parts(raw, block_type, members, block_path)
        parts = result_parts + parts
        if parts or not results:
            results.append({"role": "user", "content": content_of(parts)})
        return results

    def _tool_result_content(self, result: _ToolResult, path: str) -> tuple[str, list[Json]]:
        """Return a tool result as text, and its other parts after a line that names the call."""
        content = result.content or ""
        others: list[Json] = []
        if isinstance(content, str):
            text = content
        else:
            parts = [part for block in self._read_blocks(content, f"{path}.content") for part in self._parts(*block)]
            others = [part for part in parts if part["type"] != "text"]
            text = str(content_of([part for part in parts if part["type"] == "text"]))
        if result.is_error:
            text = f"Error: {text}" if text else "Error"
        if others:
            about = f"From the result of the tool call {decode_tool_id(result.tool_use_id)}:"
            others.insert(0, _text_part(about))
            text = text or "The result is in the user's message that follows."
        return text, others

    def _parts(self, raw: Raw, block_type: str, members: dict[str, Raw], path: str) -> list[Json]:
        """Return a block of a user message as parts of a content."""
        reader = self._reader
        if block_type == "text":
            return [_text_part(reader.read(_text_block, raw, path, members).text)]
        if block_type == "image":
            return [_image_part(reader.read(_image, raw, path, members).source, path)]
        if block_type == "document":
            return self._document_parts(reader.read(_document, raw, path, members), path)
        if block_type == "search_result":
            result = reader.read(_search_result, raw, path, members)
            text = self.text_of(result.content, f"{path}.content")
            return [_text_part(f"{result.title}\n{result.source}\n\n{text}")]
        raise _unsupported(block_type, path)

    def _document_parts(self, document: _Document, path: str) -> list[Json]:
        """Return a document as a file if it is a PDF, else as text; its title and context come first."""
        source = document.source
        if source.type == "base64":
            parts = [_text_part(document.context)] if document.context else []
            name = document.title or "document.pdf"
            file = {"filename": name, "file_data": f"data:{source.media_type or 'application/pdf'};base64,{source.data}"}
            return [*parts, {"type": "file", "file": file}]
        parts = [_text_part(heading) for heading in (document.title, document.context) if heading]
        if source.type == "text":
            return [*parts, _text_part(source.data)]
        if source.type == "content":
            if isinstance(source.content, str):
                return [*parts, _text_part(source.content)]
            for block in self._read_blocks(source.content, f"{path}.source.content"):
                parts += self._parts(*block)
            return parts
        advice = "send the document itself, as base64 or as text"
        raise _unsupported(source.type, f"{path}.source", advice)

    def _assistant_message(self, blocks: list[Raw], path: str) -> Json:
        """Translate an assistant message. Adjacent texts are joined, as citations split them; others become paragraphs."""
        texts: list[str] = []
        thinking: list[str] = []
        calls: list[Json] = []
        previous_type = "text"
        for raw, block_type, members, block_path in self._read_blocks(blocks, path):
            if block_type == "text":
                if previous_type != "text" and texts:
                    texts.append(PARAGRAPH)
                texts.append(self._reader.read(_text_block, raw, block_path, members).text)
            elif block_type == "thinking":
                if bytes(members.get("signature", b"")) in _NO_SIGNATURES:
                    del members["signature"]
                thinking.append(self._reader.read(_thinking, raw, block_path, members).thinking)
            elif block_type == "redacted_thinking":
                self._reader.drop(f"{block_path}.redacted_thinking")
            elif block_type == "tool_use":
                calls.append(_tool_call(self._reader.read(_tool_use, raw, block_path, members)))
            else:
                raise _unsupported(block_type, block_path)
            previous_type = block_type
        text = "".join(texts)
        message: Json = {"role": "assistant", "content": text or (None if calls else "")}
        if any(thinking):
            if self._reasoning_field is None:
                self._reader.drop(f"{path}.thinking")
            else:
                message[self._reasoning_field] = PARAGRAPH.join(thinking)
        if calls:
            message["tool_calls"] = calls
        return message


def _text_part(text: str) -> Json:
    return {"type": "text", "text": text}


def _image_part(source: _Source, path: str) -> Json:
    if source.type == "base64":
        return {"type": "image_url", "image_url": {"url": f"data:{source.media_type};base64,{source.data}"}}
    if source.type == "url":
        return {"type": "image_url", "image_url": {"url": source.url}}
    raise _unsupported(source.type, f"{path}.source", "send the image itself, as base64, or its URL")


def _tool_call(use: _ToolUse) -> Json:
    function = {"name": use.name, "arguments": arguments_of(use.input)}
    return {"id": decode_tool_id(use.id), "type": "function", "function": function}


def _unsupported(block_type: str, path: str, advice: str = "leave it out") -> GatewayError:
    message = f"`{path}` is of the type `{block_type[:64]}`, which the dialect of this model's source can't express; {advice}."
    return GatewayError(Kind.INVALID_REQUEST, message, param=path)
