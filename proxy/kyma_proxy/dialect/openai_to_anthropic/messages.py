"""This file puts a conversation of OpenAI's into Anthropic's words: system texts, turns, calls of tools and their results.

What Anthropic wants of it: system texts stand apart; the results of tools come first in the turn after their calls; an id has
letters, digits, `_` and `-` and is used once; no text is blank; thinking is taken back only with its signature. So:

- System and developer messages all become `system`, in their order, those in mid-conversation too. Where there is nothing else,
  they are the user's.
- Neighbours of the same role become one turn; a tool's result is the user's, and moves before what else is in the turn.
- Blank texts are left out, and the white space at the end of a last assistant message.
- Arguments of the history that are no JSON object become `{"arguments": the text}`: the model sees what it wrote.
- `thinking_blocks`, as the gateway's own answers have them, go back as they came, but for those that nobody has signed;
  `reasoning_content` alone has no signature.
"""

from __future__ import annotations

import re
from binascii import Error as NoBase64
from binascii import a2b_base64
from typing import Final, NamedTuple

import msgspec

from kyma_proxy.dialect.openai_to_anthropic.reading import Called, File, ImageUrl, Message, Part, given, refused, shown
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.errors import GatewayError

Block = dict[str, object]
_UNFIT: Final = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGES: Final = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
_EPHEMERAL: Final = {"type": "ephemeral"}
_anything: Final = msgspec.json.Decoder().decode
_string: Final = msgspec.json.Decoder(str).decode


class Conversation(NamedTuple):
    """A conversation in Anthropic's words, the names of the tools that were called in it, and what had no place."""

    system: list[Block]
    messages: list[Block]
    called: tuple[str, ...]
    dropped: list[str]


def conversation(messages: list[Message]) -> Conversation:
    """The conversation that these messages are. Raises GatewayError for what can't be said to Anthropic."""
    turns = _Turns()
    for at, message in enumerate(messages):
        turns.add(message, f"messages[{at}]")
    system, told = turns.system, turns.told
    if not told and system:
        system, told = [], [{"role": "user", "content": system}]
    if not told:
        raise refused("`messages` must hold a message that is not empty.", "messages")
    _trim(told[-1])
    return Conversation(system, told, tuple(turns.called), turns.dropped)


def _trim(turn: Block) -> None:
    """Anthropic refuses an answer begun for the model that ends with white space."""
    content = turn["content"]
    assert isinstance(content, list)  # noqa: S101  (built here)
    if turn["role"] == "assistant" and content[-1]["type"] == "text":
        content[-1]["text"] = content[-1]["text"].rstrip()


class _Ids:
    """Gives each call an id that Anthropic takes, and finds it for the call's result."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._uses: dict[str, int] = {}

    def give(self, said: str) -> str:
        plain = fit = _UNFIT.sub("_", said) or "call"
        while fit in self._uses:
            self._uses[plain] += 1
            fit = f"{plain}_{self._uses[plain]}"
        self._uses[fit] = 1
        self._given[said] = fit
        return fit

    def of(self, said: str) -> str:
        return self._given.get(said) or _UNFIT.sub("_", said) or "call"


class _Turns:
    """The conversation as far as it has been read."""

    def __init__(self) -> None:
        self.system: list[Block] = []
        self.told: list[Block] = []
        self.called: dict[str, None] = {}
        self.dropped: list[str] = []
        self._ids = _Ids()
        self._results = 0  # how many stand first in the last turn

    def add(self, message: Message, where: str) -> None:
        if message.name and message.role != "function":
            self.dropped.append(f"{where}.name")
        match message.role:
            case "system" | "developer":
                self.system += self._marked(self._blocks(message, where, {"text"}), message)
            case "user":
                self._turn("user", self._marked(self._blocks(message, where, {"text", "image_url", "file"}), message))
            case "assistant":
                self._turn("assistant", self._marked(self._assistant(message, where), message))
            case "tool":
                if message.tool_call_id is None:
                    raise refused(f"`{where}` must name its call in `tool_call_id`.", f"{where}.tool_call_id")
                self._result(message, self._ids.of(message.tool_call_id), where)
            case "function":
                self._result(message, self._ids.of(f"call_{message.name or ''}"), where)
            case role:
                raise refused(f"`{where}` has a role that is not known: {shown(role)}.", f"{where}.role")

    def _turn(self, role: str, blocks: list[Block]) -> list[Block]:
        """Add blocks to the last turn if it is this role's, and else begin one."""
        if self.told and self.told[-1]["role"] == role:
            content = self.told[-1]["content"]
            assert isinstance(content, list)  # noqa: S101  (built here)
            content += blocks
            return content
        if blocks:
            self.told.append({"role": role, "content": blocks})
            self._results = 0
        return blocks

    def _result(self, message: Message, call_id: str, where: str) -> None:
        result: Block = {"type": "tool_result", "tool_use_id": call_id}
        content = message.content
        if isinstance(content, str):
            result["content"] = content
        elif content:
            result["content"] = self._blocks(message, where, {"text", "image_url", "file"})
        if message.is_error:
            result["is_error"] = True
        self._marked([result], message)
        turn = self._turn("user", [result])
        if len(turn) > self._results + 1:
            turn.insert(self._results, turn.pop())
        self._results += 1

    def _assistant(self, message: Message, where: str) -> list[Block]:
        blocks = self._thinking(message, where)
        blocks += self._blocks(message, where, {"text", "refusal"})
        if message.refusal and not message.content:
            blocks += self._text(message.refusal, f"{where}.refusal")
        for at, call in enumerate(message.tool_calls or ()):
            if call.function is None:
                place = f"{where}.tool_calls[{at}]"
                raise refused(f"`{place}` is no call of a function, the only one that this model's source knows.", place)
            blocks.append(self._call(call.function, self._ids.give(call.id or "")))
        if message.function_call is not None:
            blocks.append(self._call(message.function_call, self._ids.give(f"call_{message.function_call.name}")))
        return blocks

    def _call(self, called: Called, call_id: str) -> Block:
        self.called[called.name] = None
        return {"type": "tool_use", "id": call_id, "name": called.name, "input": _input(called.arguments)}

    def _thinking(self, message: Message, where: str) -> list[Block]:
        blocks: list[Block] = []
        for at, one in enumerate(message.thinking_blocks or ()):
            if one.type == "thinking" and one.signature and one.signature != UNSIGNED:
                blocks.append({"type": "thinking", "thinking": one.thinking or "", "signature": one.signature})
            elif one.type == "redacted_thinking" and one.data:
                blocks.append({"type": "redacted_thinking", "data": one.data})
            else:
                self.dropped.append(f"{where}.thinking_blocks[{at}]")
        if not blocks and bytes(message.reasoning_content) not in (b"null", b'""'):
            self.dropped.append(f"{where}.reasoning_content")
        return blocks

    def _blocks(self, message: Message, where: str, kinds: set[str]) -> list[Block]:
        content = message.content
        if content is None:
            return []
        if isinstance(content, str):
            return self._text(content, f"{where}.content")
        blocks: list[Block] = []
        for at, part in enumerate(content):
            place = f"{where}.content[{at}]"
            if part.type not in kinds:
                raise _unfit(part.type, message.role, place)
            found = self._part(part, place)
            if found and given(part.cache_control):
                found[-1]["cache_control"] = part.cache_control
            elif found and given(part.prompt_cache_breakpoint):
                found[-1]["cache_control"] = _EPHEMERAL
            blocks += found
        return blocks

    def _part(self, part: Part, where: str) -> list[Block]:
        match part.type:
            case "image_url":
                return [_image(part.image_url, where)]
            case "file":
                return [_document(part.file or File(), where)]
            case "refusal":
                return self._text(part.refusal or "", where)
        return self._text(part.text or "", where)

    def _text(self, text: str, where: str) -> list[Block]:
        if text and not text.isspace():
            return [{"type": "text", "text": text}]
        if text:
            self.dropped.append(where)
        return []

    def _marked(self, blocks: list[Block], message: Message) -> list[Block]:
        """A message's own `cache_control` marks its last block, as far as that can be marked."""
        if blocks and given(message.cache_control) and blocks[-1]["type"] not in ("thinking", "redacted_thinking"):
            blocks[-1].setdefault("cache_control", message.cache_control)
        return blocks


def _unfit(kind: str, role: str, where: str) -> GatewayError:
    if kind == "input_audio":
        return refused(f"`{where}` is audio, which this model's source does not take; send its text instead.", where)
    return refused(f"`{where}` has a type that can't be translated in a message of the {shown(role)}: {shown(kind)}.", where)


def _input(arguments: msgspec.Raw) -> object:
    """The arguments of a call as an object, byte for byte where they are one."""
    written = bytes(arguments)
    text = _string(written).encode() if written.startswith(b'"') else written
    if text in (b"", b"null") or text.isspace():
        return {}
    try:
        if isinstance(_anything(text), dict):
            return msgspec.Raw(text.strip())
    except (ValueError, RecursionError):
        pass
    return {"arguments": text.decode(errors="replace")}


def _image(image: ImageUrl | str | None, where: str) -> Block:
    url = image.url if isinstance(image, ImageUrl) else image or ""
    if url[:8].lower().startswith(("http://", "https://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, data = _data_of(url, f"{where}.image_url")
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    if media_type not in _IMAGES:
        raise refused(f"`{where}` must be a JPEG, PNG, GIF or WebP image.", f"{where}.image_url")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _document(file: File, where: str) -> Block:
    url, place = file.file_data, f"{where}.file"
    if url is None:
        raise refused(f"`{where}` names a file that only OpenAI has; send it in `file_data`.", place)
    block: Block = {"type": "document"}
    if url[:8].lower().startswith(("http://", "https://")):
        block["source"] = {"type": "url", "url": url}
    else:
        media_type, data = _data_of(url, place)
        if media_type == "application/pdf":
            block["source"] = {"type": "base64", "media_type": media_type, "data": data}
        elif media_type == "text/plain":
            block["source"] = {"type": "text", "media_type": media_type, "data": _plain(data, place)}
        else:
            raise refused(f"`{where}` must be a PDF file or plain text.", place)
    if file.filename:
        block["title"] = file.filename
    return block


def _data_of(url: str, where: str) -> tuple[str, str]:
    """The media type and the base64 text of a `data:` URL."""
    head, _, data = url.partition(",")
    scheme, _, media_type = head.partition(":")
    if scheme.lower() != "data" or not media_type.lower().endswith(";base64"):
        raise refused(f"`{where}` must be an http(s) URL, or `data:TYPE;base64,…`.", where)
    return media_type.split(";", 1)[0].strip().lower(), data


def _plain(data: str, where: str) -> str:
    try:
        return a2b_base64(data.encode()).decode()
    except (NoBase64, UnicodeDecodeError):
        raise refused(f"`{where}` must be base64 of a UTF-8 text.", where) from None
