"""This file marks thinking that nobody has signed, and takes it out where a signature is asked for. (Contract §3.3.)

Anthropic refuses a conversation with a thought that it has not signed itself. A thought that was translated from another
dialect is one, and every later turn brings it back; so a single answer of a source of another dialect would shut a conversation
out from Anthropic for ever. The mark tells such thoughts from all others: what a translation has put into a conversation is
taken out of it again, and nothing else.

Where that takes the thought from a turn whose tool calls are being answered, the request can't ask for `thinking` either:
Anthropic wants such a turn to begin with a thought then. It goes for this one request, with what needs it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

UNSIGNED: Final = "kyma-unsigned"
"""The signature of a thought that a translation gave to the caller. An empty one would be dropped by some clients."""
_MARK: Final = b'"kyma-unsigned"'
_encode: Final = msgspec.json.encode


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    signature: str | None = None


class _Body(msgspec.Struct, gc=False):
    messages: Raw


class _Message(msgspec.Struct, gc=False):
    content: Raw
    role: str = ""


class _Asked(msgspec.Struct, gc=False):
    type: str = ""


_body: Final = msgspec.json.Decoder(_Body).decode
_message: Final = msgspec.json.Decoder(_Message).decode
_list: Final = msgspec.json.Decoder(list[Raw]).decode
_block: Final = msgspec.json.Decoder(_Block).decode
_asked: Final = msgspec.json.Decoder(_Asked).decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_THOUGHTS: Final = ("thinking", "redacted_thinking")


def may_hold_unsigned(body: bytes) -> bool:
    """Whether it is worth to look for such thoughts in a request of Anthropic's: nearly never."""
    return body.rfind(_MARK) >= 0  # from its end, as that takes a third of the time


def without_unsigned(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The request without such thoughts, and the paths of what was taken out; every other value is as the caller wrote it.

    A message of which nothing is left goes with them: Anthropic takes no empty one, and neighbours of one role as one. What is
    no request of Anthropic's stays as it is; its source will say so.
    """
    try:
        messages = _body(body).messages
        dropped: list[str] = []
        written = _list(messages)
        kept = [_mended(bytes(one), f"messages[{at}]", dropped) for at, one in enumerate(written)]
        if not dropped:
            return body, ()
        made = _replaced(body, messages, kept)
        if _goes_on_without(written, kept):
            made = _unthinking(made, dropped)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body, ()
    return made, tuple(dropped)


def _goes_on_without(written: list[Raw], kept: list[bytes]) -> bool:
    """Whether the last turn of the model's calls tools, and began with a thought that was taken out."""
    for before, after in zip(reversed(written), reversed(kept), strict=True):
        if after and _message(after).role == "assistant":
            if bytes(before) == after:
                return False
            kinds = [_block(block).type for block in _list(_message(after).content)]
            return "tool_use" in kinds and kinds[0] not in _THOUGHTS
    return False


def _unthinking(body: bytes, dropped: list[str]) -> bytes:
    """The request without `thinking`, and without what Anthropic refuses where there is none."""
    members = _members(body)
    if "thinking" not in members or _asked(members["thinking"]).type != "enabled":
        return body  # who may decide itself whether to think (`adaptive`) need not have begun with it
    lost = ["thinking"]
    if b'"clear_thinking' in bytes(members.get("context_management", b"")):
        lost.append("context_management")
    dropped += lost
    return b"{%b}" % b",".join(
        [b"%b:%b" % (_encode(name), bytes(value)) for name, value in members.items() if name not in lost]
    )


def _mended(message: bytes, path: str, dropped: list[str]) -> bytes:
    """A message without such thoughts; b"" where nothing is left."""
    if _MARK not in message:
        return message
    content = _message(message).content
    if not bytes(content).startswith(b"["):
        return message
    blocks = _list(content)
    kept = [b"" if _is_unsigned(block) else bytes(block) for block in blocks]
    dropped += [f"{path}.content[{at}]" for at, block in enumerate(kept) if not block]
    return _replaced(message, content, kept) if any(kept) else b""


def _is_unsigned(raw: Raw) -> bool:
    block = _block(raw)
    return block.type == "thinking" and block.signature == UNSIGNED


def _replaced(text: bytes, array: Raw, kept: list[bytes]) -> bytes:
    """The text with the elements of an array in it replaced; b"" is none."""
    return text.replace(bytes(array), b"[%b]" % b",".join(filter(None, kept)), 1)
