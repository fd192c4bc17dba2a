"""Marks unsigned thinking blocks, and removes them from requests to sources that verify signatures. (Contract §3.3.)

Anthropic refuses a conversation with a thinking block that it has not signed itself. A block that was translated from another
dialect is unsigned, and every later request repeats it; so a single answer of a source of another dialect would lock a
conversation out of Anthropic for good. The mark identifies such blocks: what a translation put into a conversation is removed
again, and nothing else.

If that removes the first block of an assistant turn whose tool calls are being answered, the request can't ask for `thinking`
either: Anthropic then requires the turn to begin with thinking. The option is removed from this one request, with what needs
it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

UNSIGNED: Final = "kyma-unsigned"
"""The signature of a thinking block that a translation made. Some client libraries would drop a block with an empty one."""
UNSIGNED_PREFIX: Final = UNSIGNED + "."
"""The beginning of such a signature that holds more (`source_state.py`)."""
_MARK: Final = b'"kyma-unsigned'
MAX_PATHS: Final = 64
"""The removed blocks that are reported: callers choose how many they send."""
_encode: Final = msgspec.json.encode


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    signature: str | None = None


class _Body(msgspec.Struct, gc=False):
    messages: Raw


class _Message(msgspec.Struct, gc=False):
    content: Raw
    role: str = ""


class _ThinkingOption(msgspec.Struct, gc=False):
    type: str = ""


_body: Final = msgspec.json.Decoder(_Body).decode
_message: Final = msgspec.json.Decoder(_Message).decode
_list: Final = msgspec.json.Decoder(list[Raw]).decode
_block: Final = msgspec.json.Decoder(_Block).decode
_thinking_option: Final = msgspec.json.Decoder(_ThinkingOption).decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_THINKING_TYPES: Final = ("thinking", "redacted_thinking")


def is_unsigned(signature: str | None) -> bool:
    """True if a translation has written the signature of a thinking block."""
    return signature is not None and (signature == UNSIGNED or signature.startswith(UNSIGNED_PREFIX))


def without_unsigned(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the request without such blocks, and the paths of what was removed; all other values stay as written.

    A message that becomes empty is removed too: Anthropic refuses an empty one, and joins adjacent messages of one role. A body
    that is no valid request is returned unchanged; its source will refuse it.
    """
    try:
        messages = _body(body).messages
        dropped: list[str] = []
        original = _list(messages)
        kept = [
            _without_unsigned_blocks(bytes(message), f"messages[{index}]", dropped) for index, message in enumerate(original)
        ]
        if not dropped:
            return body, ()
        cleaned = replace_elements(body, messages, kept)
        if _continues_without_thinking(original, kept):
            cleaned = _without_thinking(cleaned, dropped)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body, ()
    return cleaned, tuple(dropped[:MAX_PATHS])


def _continues_without_thinking(original: list[Raw], kept: list[bytes]) -> bool:
    """True if the last assistant message calls tools, and began with a thinking block that was removed."""
    for before, after in zip(reversed(original), reversed(kept), strict=True):
        if after and _message(after).role == "assistant":
            if bytes(before) == after:
                return False
            kinds = [_block(block).type for block in _list(_message(after).content)]
            return "tool_use" in kinds and kinds[0] not in _THINKING_TYPES
    return False


def _without_thinking(body: bytes, dropped: list[str]) -> bytes:
    """Return the request without `thinking`, and without what Anthropic refuses in its absence."""
    members = _members(body)
    if "thinking" not in members or _thinking_option(members["thinking"]).type != "enabled":
        return body  # with `adaptive` thinking, a turn need not begin with it
    removed = ["thinking"]
    if b'"clear_thinking' in bytes(members.get("context_management", b"")):
        removed.append("context_management")
    dropped += removed
    return b"{%b}" % b",".join(
        [b"%b:%b" % (_encode(name), bytes(value)) for name, value in members.items() if name not in removed]
    )


def _without_unsigned_blocks(message: bytes, path: str, dropped: list[str]) -> bytes:
    """Return a message without such blocks; b"" if nothing is left."""
    if _MARK not in message:
        return message
    content = _message(message).content
    if not bytes(content).startswith(b"["):
        return message
    blocks = _list(content)
    kept = [b"" if _is_unsigned(block) else bytes(block) for block in blocks]
    dropped += [f"{path}.content[{index}]" for index, block in enumerate(kept) if not block]
    return replace_elements(message, content, kept) if any(kept) else b""


def _is_unsigned(raw: Raw) -> bool:
    block = _block(raw)
    return block.type == "thinking" and is_unsigned(block.signature)


def replace_elements(text: bytes, array: Raw, kept: list[bytes]) -> bytes:
    """Return the text with the elements of one array replaced; b"" removes an element."""
    return text.replace(bytes(array), b"[%b]" % b",".join(filter(None, kept)), 1)
