"""Translates the messages of an Anthropic request for OpenAI. (Contract §3.4.)

A message of Anthropic is a list of blocks of any type. In OpenAI's dialect a tool result is a message of its own, which holds
text only and directly follows the call; so tool results come first, and their images go into the user message that follows.
Text alone becomes a plain string, as many servers accept nothing else. A member that only tunes how a block is treated is
dropped and reported.

What can't be translated is an error in the last message, as the model would answer without what the caller assumes it knows.
Earlier messages come again with every request, and an error would shut the conversation out: there it is written as text
(`foreign_blocks.py`), or left out and reported. A turn of the assistant that says nothing any more is left out as a whole: many
servers refuse an empty content. A `compaction` replaces all that stands before it, as it does at Anthropic
(platform.claude.com/docs/en/build-with-claude/compaction).

System messages within the conversation are joined with all others, in their order, into the first message: the templates of
many open models refuse a system message anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.content_parts import (
    PARAGRAPH,
    Document,
    Image,
    content_of,
    document_parts,
    image_part,
    text_part,
)
from kyma_proxy.dialect.anthropic_to_openai.foreign_blocks import text_of_block
from kyma_proxy.dialect.anthropic_to_openai.request_reader import (
    Json,
    RequestReader,
    decode_or_refuse,
    loggable,
    present_members,
    unsupported,
)
from kyma_proxy.dialect.earlier_thoughts import add_thoughts
from kyma_proxy.dialect.source_state import source_tag, unpack_call, unpack_thought
from kyma_proxy.dialect.thinking_signature import is_unsigned
from kyma_proxy.dialect.tool_arguments import arguments_of
from kyma_proxy.dialect.tool_ids import decode_tool_id
from kyma_proxy.dialect.translation import ThoughtRules
from kyma_proxy.errors import GatewayError, Kind

_NULL: Final = b"null"
_SUMMARY: Final = "The conversation so far was replaced by this summary:\n\n"
_UNSHOWN: Final = "[This can't be shown here.]"
_text: Final = msgspec.json.Decoder(str)


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Raw] | None = None


class _Text(msgspec.Struct, gc=False):
    text: str


class _SearchResult(msgspec.Struct, gc=False):
    source: str
    title: str
    content: list[Raw]


class _Thinking(msgspec.Struct, gc=False):
    thinking: str = ""
    signature: Raw = Raw(b'""')


class _Compaction(msgspec.Struct, gc=False):
    content: str | None = None


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
_compaction: Final = msgspec.json.Decoder(_Compaction)
_document: Final = msgspec.json.Decoder(Document)
_image: Final = msgspec.json.Decoder(Image)
_text_block: Final = msgspec.json.Decoder(_Text)
_search_result: Final = msgspec.json.Decoder(_SearchResult)
_thinking: Final = msgspec.json.Decoder(_Thinking)
_tool_use: Final = msgspec.json.Decoder(_ToolUse)
_tool_result: Final = msgspec.json.Decoder(_ToolResult)


class _Turn:
    """A message of the assistant that is being translated."""

    __slots__ = ("calls", "details", "texts", "thinking")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thinking: list[str] = []
        self.details: list[dict[str, Any]] = []
        self.calls: list[Json] = []


class Conversation:
    """Translates Anthropic's messages to OpenAI's. `system` collects the texts of system messages."""

    __slots__ = ("_has_gap", "_is_last", "_named", "_reader", "_tag", "_thoughts", "_translated", "system")

    def __init__(self, reader: RequestReader, thoughts: ThoughtRules) -> None:
        self._reader = reader
        self._thoughts = thoughts
        self._tag = source_tag(thoughts.source)
        self._translated: list[Json] = []
        self._named: set[str] = set()
        self._is_last = False
        self._has_gap = False
        self.system: list[str] = []

    def has_named(self, tool: str) -> bool:
        """True if the messages call a tool, or refer to it as one that was found."""
        return tool in self._named

    def translate(self, messages: list[Raw]) -> list[Json]:
        """Return the translated messages, without system messages. Raises GatewayError for what can't be translated."""
        for index, raw in enumerate(messages):
            path = f"messages[{index}]"
            message = self._reader.read(_message, raw, path)
            content = message.content or ""
            self._is_last = index == len(messages) - 1
            if message.role not in ("user", "assistant", "system"):
                why = f"`{path}.role` must be user, assistant or system."
                raise GatewayError(Kind.INVALID_REQUEST, why, param=f"{path}.role")
            if message.role == "system":
                self.system.append(content if isinstance(content, str) else self._text_of(content, f"{path}.content"))
            elif isinstance(content, str):
                self._add({"role": message.role, "content": content} if content or message.role == "user" else None)
            elif message.role == "user":
                self._add_user_messages(content, f"{path}.content")
            else:
                self._add(self._assistant_message(content, f"{path}.content"))
        return self._translated

    def system_text(self, blocks: list[Raw]) -> str:
        """Return the blocks of the system prompt as one string. Raises GatewayError if one is no text."""
        for _, block_type, _, path in self._read_blocks(blocks, "system"):
            if block_type != "text":
                raise unsupported(block_type, path)
        return self._text_of(blocks, "system")

    def _add(self, turn: Json | None) -> None:
        """Add a message. Two of the user are joined if what stood between them was left out: some templates demand turns."""
        messages = self._translated
        if turn is None:
            self._has_gap = True
            return
        if self._has_gap and messages and messages[-1]["role"] == turn["role"] == "user":
            messages[-1] = {"role": "user", "content": content_of([*_parts_of(messages[-1]), *_parts_of(turn)])}
        else:
            messages.append(turn)
        self._has_gap = False

    def _text_of(self, blocks: list[Raw], path: str) -> str:
        """Return the texts of blocks as one string, a paragraph each."""
        paragraphs = []
        for raw, block_type, members, block_path in self._read_blocks(blocks, path):
            if block_type == "text":
                paragraphs.append(self._reader.read(_text_block, raw, block_path, members).text)
            else:
                paragraphs += self._foreign(block_type, members, block_path)
        return PARAGRAPH.join(paragraphs)

    def _read_blocks(self, blocks: list[Raw], path: str) -> Iterable[tuple[Raw, str, dict[str, Raw], str]]:
        for index, raw in enumerate(blocks):
            block_path = f"{path}[{index}]"
            members = present_members(self._reader.members(raw, block_path))
            if "type" not in members:
                raise GatewayError(Kind.INVALID_REQUEST, f"`{block_path}` has no `type`.", param=block_path)
            yield raw, decode_or_refuse(_text.decode, members["type"], f"{block_path}.type"), members, block_path

    def _foreign(self, block_type: str, members: dict[str, Raw], path: str) -> list[str]:
        """Return the text of a block that the source's dialect does not know; none, and a report, if it has none."""
        text = text_of_block(block_type, members)
        if text:
            return [text]
        self._reader.drop(f"{path}.{loggable(block_type)}")
        return []

    def _add_user_messages(self, blocks: list[Raw], path: str) -> None:
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
        for result_message in results:
            self._add(result_message)
        if parts or not blocks:
            self._add({"role": "user", "content": content_of(parts)})
        elif not results:
            if self._is_last:
                raise unsupported(self._type_of(blocks[0], path), f"{path}[0]")
            self._add(None)

    def _type_of(self, raw: Raw, path: str) -> str:
        return next(iter(self._read_blocks([raw], path)))[1]

    def _tool_result_content(self, result: _ToolResult, path: str) -> tuple[str, list[Json]]:
        """Return a tool result as text, and its other parts after a line that names the call."""
        content = result.content or ""
        others: list[Json] = []
        if isinstance(content, str):
            text = content
        else:
            parts = self._all_parts(content, f"{path}.content")
            others = [part for part in parts if part["type"] != "text"]
            text = str(content_of([part for part in parts if part["type"] == "text"]))
        if result.is_error:
            text = f"Error: {text}" if text else "Error"
        if others:
            about = f"From the result of the tool call {decode_tool_id(result.tool_use_id)}:"
            others.insert(0, text_part(about))
            text = text or "The result is in the user's message that follows."
        return text, others

    def _all_parts(self, blocks: list[Raw], path: str) -> list[Json]:
        return [part for block in self._read_blocks(blocks, path) for part in self._parts(*block)]

    def _parts(self, raw: Raw, block_type: str, members: dict[str, Raw], path: str) -> list[Json]:
        """Return a block of a user message as parts of a content."""
        reader = self._reader
        if block_type == "text":
            return [text_part(reader.read(_text_block, raw, path, members).text)]
        if block_type in ("image", "document"):
            try:
                if block_type == "image":
                    return [image_part(reader.read(_image, raw, path, members).source, path)]
                return document_parts(reader.read(_document, raw, path, members), path, self._all_parts)
            except GatewayError:
                if self._is_last:
                    raise
                reader.drop(f"{path}.{block_type}")
                return [text_part(_UNSHOWN)]
        if block_type == "search_result":
            result = reader.read(_search_result, raw, path, members)
            text = self._text_of(result.content, f"{path}.content")
            return [text_part(f"{result.title}\n{result.source}\n\n{text}")]
        if block_type == "tool_reference" and "tool_name" in members:
            self._named.add(decode_or_refuse(_text.decode, members["tool_name"], f"{path}.tool_name"))
        return [text_part(text) for text in self._foreign(block_type, members, path)]

    def _assistant_message(self, blocks: list[Raw], path: str) -> Json | None:
        """Translate an assistant message; None if it says nothing that the source can be told.

        Adjacent texts are joined, as citations split them; others become paragraphs.
        """
        turn = _Turn()
        previous_type = "text"
        for raw, block_type, members, block_path in self._read_blocks(blocks, path):
            if block_type == "text":
                if previous_type != "text" and turn.texts:
                    turn.texts.append(PARAGRAPH)
                turn.texts.append(self._reader.read(_text_block, raw, block_path, members).text)
            elif block_type == "thinking":
                self._add_thinking(turn, raw, members, block_path)
            elif block_type == "redacted_thinking":
                self._reader.drop(f"{block_path}.redacted_thinking")
            elif block_type == "tool_use":
                self._add_call(turn, self._reader.read(_tool_use, raw, block_path, members))
            elif block_type == "compaction" and bytes(members.get("content", _NULL)) != _NULL:
                summary = self._reader.read(_compaction, raw, block_path, ()).content
                self._translated = [{"role": "user", "content": f"{_SUMMARY}{summary}"}]
                turn = _Turn()
            else:
                for text in self._foreign(block_type, members, block_path):
                    turn.texts += [PARAGRAPH, text] if turn.texts else [text]
            previous_type = block_type
        return self._message_of(turn, path)

    def _add_thinking(self, turn: _Turn, raw: Raw, members: dict[str, Raw], path: str) -> None:
        thought = self._reader.read(_thinking, raw, path, members)
        written = bytes(thought.signature)
        signature = _text.decode(written) if written.startswith(b'"') else ""
        if is_unsigned(signature):
            turn.details += unpack_thought(signature, thought.thinking, self._tag)
        elif signature:
            self._reader.drop(f"{path}.signature")
        turn.thinking.append(thought.thinking)

    def _add_call(self, turn: _Turn, use: _ToolUse) -> None:
        self._named.add(use.name)
        function = {"name": use.name, "arguments": arguments_of(use.input)}
        call: Json = {"id": decode_tool_id(use.id), "type": "function", "function": function}
        state = unpack_call(use.id)
        if state is not None and state.source == self._tag:
            turn.details += state.details
            if bytes(state.extra) != _NULL:
                call["extra_content"] = state.extra
        turn.calls.append(call)

    def _message_of(self, turn: _Turn, path: str) -> Json | None:
        text = "".join(turn.texts)
        thoughts = PARAGRAPH.join(turn.thinking) if any(turn.thinking) else ""
        if not text and not turn.calls:
            if thoughts:
                self._reader.drop(f"{path}.thinking")
            return None
        message: Json = {"role": "assistant", "content": text or None}
        if turn.calls:
            message["tool_calls"] = turn.calls
        if not add_thoughts(message, thoughts, turn.details, self._thoughts):
            self._reader.drop(f"{path}.thinking")
        return message


def _parts_of(message: dict[str, Any]) -> list[Json]:
    content = message["content"]
    if isinstance(content, str):
        return [text_part(content)] if content else []
    return [*content]
