"""Packs a model's thoughts into the `encrypted_content` of a reasoning item, and unpacks them. (Contract §2.)

The gateway keeps no conversation: what a source needs of its earlier thoughts travels with the caller. The token holds the
text and, of a source that signs its thoughts, the signed blocks. Its digest shows that it is the gateway's own and whole; it
needs no key, so every node can read it, and a forged one says no more than a caller may write anyway: a source that signs its
thoughts checks its signatures itself.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any, Final

import msgspec

from kyma_proxy.dialect.source_state import REASONING_PREFIX

_DIGEST_CHARACTERS: Final = 32
_MAX_CHARACTERS: Final = 16 * 1024 * 1024
_encode: Final = msgspec.json.encode


class Thoughts(msgspec.Struct, gc=False, omit_defaults=True):
    """The text of a reasoning item, and the blocks that its source has signed.

    `signature` holds what a source of chat completions wants back with the text (`source_state.py`).
    """

    text: str = ""
    blocks: list[dict[str, Any]] = []
    signature: str = ""


_decode: Final = msgspec.json.Decoder(Thoughts).decode


def pack(thoughts: Thoughts) -> str:
    """Return the thoughts as a token."""
    packed = urlsafe_b64encode(_encode(thoughts)).decode()
    return f"{REASONING_PREFIX}{_digest(packed)}.{packed}"


def unpack(token: str) -> Thoughts | None:
    """Return the thoughts in a token; None if it is not one of the gateway's, or not whole."""
    if not token.startswith(REASONING_PREFIX) or len(token) > _MAX_CHARACTERS:
        return None
    digest, _, packed = token.removeprefix(REASONING_PREFIX).partition(".")
    if digest != _digest(packed):
        return None
    try:
        return _decode(urlsafe_b64decode(packed))
    except (ValueError, RecursionError):
        return None


def _digest(packed: str) -> str:
    return sha256(packed.encode()).hexdigest()[:_DIGEST_CHARACTERS]
