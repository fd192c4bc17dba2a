"""This file marks thinking that nobody has signed, and takes it out where a signature is asked for. (Contract §3.3.)

Anthropic refuses a conversation with a thought that it has not signed itself. A thought that was translated from another
dialect is one, and every later turn brings it back; so a single answer of a source of another dialect would shut a conversation
out from Anthropic for ever. The mark tells such thoughts from all others: what a translation has put into a conversation is
taken out of it again, and nothing else.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

UNSIGNED: Final = "kyma-unsigned"
"""The signature of a thought that a translation gave to the caller. An empty one would be dropped by some clients."""
_MARK: Final = b'"kyma-unsigned"'


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    signature: str | None = None


class _Body(msgspec.Struct, gc=False):
    messages: Raw


class _Message(msgspec.Struct, gc=False):
    content: Raw


_body: Final = msgspec.json.Decoder(_Body).decode
_message: Final = msgspec.json.Decoder(_Message).decode
_list: Final = msgspec.json.Decoder(list[Raw]).decode
_block: Final = msgspec.json.Decoder(_Block).decode


def may_hold_unsigned(body: bytes) -> bool:
    """Whether it is worth to look for such thoughts in a request of Anthropic's: nearly never."""
    return _MARK in body


def without_unsigned(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The request without such thoughts, and their paths; every other value is as the caller wrote it.

    A message of which nothing is left goes with them: Anthropic takes no empty one, and neighbours of one role as one. What is
    no request of Anthropic's stays as it is; its source will say so.
    """
    try:
        messages = _body(body).messages
        dropped: list[str] = []
        kept = [_mended(bytes(one), f"messages[{at}]", dropped) for at, one in enumerate(_list(messages))]
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body, ()
    return (_replaced(body, messages, kept) if dropped else body), tuple(dropped)


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
