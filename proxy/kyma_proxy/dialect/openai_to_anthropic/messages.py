"""Translates the messages of an OpenAI request for Anthropic: system texts, messages, tool calls and their results.

Anthropic's rules: system texts are separate; tool results come first in the message after their calls; an id has letters,
digits, `_` and `-` and is used once; no text is blank; thinking is accepted only with its signature. So:

- All system and developer messages become `system` in their order, also those within the conversation. If there are no other
  messages, they become a user message.
- Adjacent messages of one role are merged; a tool result becomes part of a user message, and moves before its other content.
- Blank texts are left out, and the white space at the end of a last assistant message.
- Arguments of earlier calls that are no JSON object become `{"arguments": the text}`: the model sees what it wrote.
- `thinking_blocks`, as the gateway's own answers have them, are sent back unchanged, except unsigned ones;
  `reasoning_content` alone has no signature.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Final, NamedTuple

import msgspec

from kyma_proxy.core.http.body import is_json
from kyma_proxy.dialect.openai_to_anthropic.chat_request import (
    File,
    FunctionCall,
    ImageUrl,
    Message,
    Part,
    is_present,
    loggable,
    unsupported,
)
from kyma_proxy.dialect.thinking_signature import is_unsigned
from kyma_proxy.errors import GatewayError

Block = dict[str, object]
_INVALID_IN_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGE_TYPES: Final = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
_EPHEMERAL: Final = {"type": "ephemeral"}
_string: Final = msgspec.json.Decoder(str).decode


class Conversation(NamedTuple):
    """The translated messages, the names of the tools called in them, and the paths of what was dropped."""

    system: list[Block]
    messages: list[Block]
    called_tools: tuple[str, ...]
    dropped: list[str]


def translate_messages(messages: list[Message]) -> Conversation:
    """Translate the messages of a request. Raises GatewayError for what Anthropic's dialect can't express."""
    builder = _ConversationBuilder()
    for index, message in enumerate(messages):
        builder.add(message, f"messages[{index}]")
    system, translated = builder.system, builder.messages
    if not translated and system:
        system, translated = [], [{"role": "user", "content": system}]
    if not translated:
        raise unsupported("`messages` must hold a message that is not empty.", "messages")
    _trim(translated[-1])
    return Conversation(system, translated, tuple(builder.called_tools), builder.dropped)


def _trim(message: Block) -> None:
    """Strip the end of a prefilled answer: Anthropic refuses one that ends with white space."""
    content = message["content"]
    assert isinstance(content, list)  # noqa: S101  (built here)
    if message["role"] == "assistant" and content[-1]["type"] == "text":
        content[-1]["text"] = content[-1]["text"].rstrip()


class _ToolIds:
    """Assigns each call an id that Anthropic accepts, and finds it for the call's result."""

    def __init__(self) -> None:
        self._assigned: dict[str, str] = {}
        self._uses: dict[str, int] = {}

    def assign(self, original: str) -> str:
        sanitized = unique = _INVALID_IN_ID.sub("_", original) or "call"
        while unique in self._uses:
            self._uses[sanitized] += 1
            unique = f"{sanitized}_{self._uses[sanitized]}"
        self._uses[unique] = 1
        self._assigned[original] = unique
        return unique

    def find(self, original: str) -> str:
        return self._assigned.get(original) or _INVALID_IN_ID.sub("_", original) or "call"


class _ConversationBuilder:
    """Builds the translated conversation, message by message."""

    def __init__(self) -> None:
        self.system: list[Block] = []
        self.messages: list[Block] = []
        self.called_tools: dict[str, None] = {}
        self.dropped: list[str] = []
        self._ids = _ToolIds()
        self._result_count = 0  # how many are at the start of the last message

    def add(self, message: Message, path: str) -> None:
        if message.name and message.role != "function":
            self.dropped.append(f"{path}.name")
        match message.role:
            case "system" | "developer":
                self.system += self._with_cache_control(self._content_blocks(message, path, {"text"}), message)
            case "user":
                self._append(
                    "user",
                    self._with_cache_control(self._content_blocks(message, path, {"text", "image_url", "file"}), message),
                )
            case "assistant":
                self._append("assistant", self._with_cache_control(self._assistant_blocks(message, path), message))
            case "tool":
                if message.tool_call_id is None:
                    raise unsupported(f"`{path}` must name its call in `tool_call_id`.", f"{path}.tool_call_id")
                self._add_result(message, self._ids.find(message.tool_call_id), path)
            case "function":
                self._add_result(message, self._ids.find(f"call_{message.name or ''}"), path)
            case role:
                raise unsupported(f"`{path}` has an unknown role: {loggable(role)}.", f"{path}.role")

    def _append(self, role: str, blocks: list[Block]) -> list[Block]:
        """Add blocks to the last message if it has this role, else start a message. Return the blocks of that message."""
        if self.messages and self.messages[-1]["role"] == role:
            content = self.messages[-1]["content"]
            assert isinstance(content, list)  # noqa: S101  (built here)
            content += blocks
            return content
        if blocks:
            self.messages.append({"role": role, "content": blocks})
            self._result_count = 0
        return blocks

    def _add_result(self, message: Message, call_id: str, path: str) -> None:
        result: Block = {"type": "tool_result", "tool_use_id": call_id}
        content = message.content
        if isinstance(content, str):
            result["content"] = content
        elif content:
            result["content"] = self._content_blocks(message, path, {"text", "image_url", "file"})
        if message.is_error:
            result["is_error"] = True
        self._with_cache_control([result], message)
        message_blocks = self._append("user", [result])
        if len(message_blocks) > self._result_count + 1:
            message_blocks.insert(self._result_count, message_blocks.pop())
        self._result_count += 1

    def _assistant_blocks(self, message: Message, path: str) -> list[Block]:
        blocks = self._thinking_blocks(message, path)
        blocks += self._content_blocks(message, path, {"text", "refusal"})
        if message.refusal and not message.content:
            blocks += self._text_blocks(message.refusal, f"{path}.refusal")
        for index, call in enumerate(message.tool_calls or ()):
            if call.function is None:
                part_path = f"{path}.tool_calls[{index}]"
                raise unsupported(
                    f"`{part_path}` is no call of a function, the only kind that this model's source supports.", part_path
                )
            blocks.append(self._tool_use(call.function, self._ids.assign(call.id or "")))
        if message.function_call is not None:
            blocks.append(self._tool_use(message.function_call, self._ids.assign(f"call_{message.function_call.name}")))
        return blocks

    def _tool_use(self, call: FunctionCall, call_id: str) -> Block:
        self.called_tools[call.name] = None
        return {"type": "tool_use", "id": call_id, "name": call.name, "input": _tool_input(call.arguments)}

    def _thinking_blocks(self, message: Message, path: str) -> list[Block]:
        blocks: list[Block] = []
        for index, block in enumerate(message.thinking_blocks or ()):
            if block.type == "thinking" and block.signature and not is_unsigned(block.signature):
                blocks.append({"type": "thinking", "thinking": block.thinking or "", "signature": block.signature})
            elif block.type == "redacted_thinking" and block.data:
                blocks.append({"type": "redacted_thinking", "data": block.data})
            else:
                self.dropped.append(f"{path}.thinking_blocks[{index}]")
        if not blocks and bytes(message.reasoning_content) not in (b"null", b'""'):
            self.dropped.append(f"{path}.reasoning_content")
        return blocks

    def _content_blocks(self, message: Message, path: str, allowed_types: set[str]) -> list[Block]:
        content = message.content
        if content is None:
            return []
        if isinstance(content, str):
            return self._text_blocks(content, f"{path}.content")
        blocks: list[Block] = []
        for index, part in enumerate(content):
            part_path = f"{path}.content[{index}]"
            if part.type not in allowed_types:
                raise _unsupported_part(part.type, message.role, part_path)
            part_blocks = self._part_blocks(part, part_path)
            if part_blocks and is_present(part.cache_control):
                part_blocks[-1]["cache_control"] = part.cache_control
            elif part_blocks and is_present(part.prompt_cache_breakpoint):
                part_blocks[-1]["cache_control"] = _EPHEMERAL
            blocks += part_blocks
        return blocks

    def _part_blocks(self, part: Part, path: str) -> list[Block]:
        match part.type:
            case "image_url":
                return [_image_block(part.image_url, path)]
            case "file":
                return [_document_block(part.file or File(), path)]
            case "refusal":
                return self._text_blocks(part.refusal or "", path)
        return self._text_blocks(part.text or "", path)

    def _text_blocks(self, text: str, path: str) -> list[Block]:
        if text and not text.isspace():
            return [{"type": "text", "text": text}]
        if text:
            self.dropped.append(path)
        return []

    def _with_cache_control(self, blocks: list[Block], message: Message) -> list[Block]:
        """Set a message's own `cache_control` on its last block, unless that is thinking, which can't have one."""
        if blocks and is_present(message.cache_control) and blocks[-1]["type"] not in ("thinking", "redacted_thinking"):
            blocks[-1].setdefault("cache_control", message.cache_control)
        return blocks


def _unsupported_part(part_type: str, role: str, path: str) -> GatewayError:
    if part_type == "input_audio":
        return unsupported(f"`{path}` is audio, which this model's source does not take; send its text instead.", path)
    return unsupported(
        f"`{path}` has a type that can't be translated in a message of the {loggable(role)}: {loggable(part_type)}.", path
    )


def _tool_input(arguments: msgspec.Raw) -> object:
    """Return the arguments of a call as a JSON object, byte for byte if they are one.

    They are stepped over and not decoded: a text of two million bytes may hold as many values.
    """
    raw = bytes(arguments)
    text = _string(raw).encode() if raw.startswith(b'"') else raw
    if text in (b"", b"null") or text.isspace():
        return {}
    if text.lstrip().startswith(b"{") and is_json(text):
        return msgspec.Raw(text.strip())
    return {"arguments": text.decode(errors="replace")}


def _image_block(image: ImageUrl | str | None, path: str) -> Block:
    url = image.url if isinstance(image, ImageUrl) else image or ""
    if url[:8].lower().startswith(("http://", "https://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, data = _parse_data_url(url, f"{path}.image_url")
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    if media_type not in _IMAGE_TYPES:
        raise unsupported(f"`{path}` must be a JPEG, PNG, GIF or WebP image.", f"{path}.image_url")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _document_block(file: File, path: str) -> Block:
    url, part_path = file.file_data, f"{path}.file"
    if url is None:
        raise unsupported(f"`{path}` refers to a file that only OpenAI has; send it in `file_data`.", part_path)
    block: Block = {"type": "document"}
    if url[:8].lower().startswith(("http://", "https://")):
        block["source"] = {"type": "url", "url": url}
    else:
        media_type, data = _parse_data_url(url, part_path)
        if media_type == "application/pdf":
            block["source"] = {"type": "base64", "media_type": media_type, "data": data}
        elif media_type == "text/plain":
            block["source"] = {"type": "text", "media_type": media_type, "data": _decode_text(data, part_path)}
        else:
            raise unsupported(f"`{path}` must be a PDF file or plain text.", part_path)
    if file.filename:
        block["title"] = file.filename
    return block


def _parse_data_url(url: str, path: str) -> tuple[str, str]:
    """Return the media type and the base64 text of a `data:` URL."""
    prefix, _, data = url.partition(",")
    scheme, _, media_type = prefix.partition(":")
    if scheme.lower() != "data" or not media_type.lower().endswith(";base64"):
        raise unsupported(f"`{path}` must be an http(s) URL, or `data:TYPE;base64,…`.", path)
    return media_type.split(";", 1)[0].strip().lower(), data


def _decode_text(data: str, path: str) -> str:
    try:
        return a2b_base64(data.encode()).decode()
    except (Base64Error, UnicodeDecodeError):
        raise unsupported(f"`{path}` must be base64 of a UTF-8 text.", path) from None
