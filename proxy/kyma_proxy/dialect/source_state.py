"""Packs what a source wants back of its answer into ids and signatures, which callers keep. (Contract §3.4.)

Some sources give opaque members with an answer and refuse the next turn, or think worse, without them:

- Gemini 3: `extra_content` of a tool call, with `google.thought_signature`
  (ai.google.dev/gemini-api/docs/openai and /thought-signatures).
- OpenRouter, and MiniMax with `reasoning_split`: `reasoning_details` of a message
  (openrouter.ai/docs/guides/best-practices/reasoning-tokens, platform.minimax.io/docs/api-reference/text-openai-api).

A caller of another dialect has no place for them, and the gateway keeps no conversation. So what belongs to a call travels in
its id, and what belongs to thoughts in their signature. A token is bounded in size, has a digest that shows that it is whole,
needs no key, so that every node can read it, and names its source: no other source gets what it would refuse.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.thinking_signature import UNSIGNED, UNSIGNED_PREFIX

CALL_PREFIX: Final = "kyma-call-"
REASONING_PREFIX: Final = "kyma-reasoning-1."
"""The beginning of the token in which a reasoning item keeps its thoughts (`responses/reasoning.py`)."""
MAX_STATE_BYTES: Final = 64 * 1024
"""What is larger is left out: callers send it back with every request."""
_DIGEST_CHARACTERS: Final = 16
TEXT_MEMBERS: Final = ("text", "summary")
"""The members of a detail that hold what the model thought, in words."""
_TOKEN: Final = re.compile(r"([0-9a-f]{16})-([A-Za-z0-9_-]+)")
_NONE: Final = Raw(b"null")
_encode: Final = msgspec.json.Encoder(order="deterministic").encode  # a whole answer and its stream get the same token


class CallState(msgspec.Struct, gc=False, omit_defaults=True):
    """A call's own id, and what its source wants back with it: members of the call, and details of the message's thoughts."""

    id: str
    source: str = ""
    extra: Raw = _NONE
    details: list[dict[str, Any]] = []


class _ThoughtState(msgspec.Struct, gc=False, omit_defaults=True):
    """The details of a thought. A text that the thought shows is replaced by its length; `shown` is that text's digest."""

    source: str
    details: list[dict[str, Any]]
    shown: str = ""


_call_state: Final = msgspec.json.Decoder(CallState).decode
_thought_state: Final = msgspec.json.Decoder(_ThoughtState).decode


def source_tag(source: str) -> str:
    """Return a short text that stands for a source, and tells nobody its name."""
    return sha256(source.encode(errors="replace")).hexdigest()[:_DIGEST_CHARACTERS]


def pack_call(state: CallState) -> str | None:
    """Return an id that holds the state of a call; None if it has none, or too much."""
    if not state.details and bytes(state.extra) in (b"null", b"{}"):
        return None
    token = _pack(state)
    return None if token is None else CALL_PREFIX + token


def unpack_call(packed: str) -> CallState | None:
    """Return the state in the id of a call; None if the id is not one of these tokens."""
    state = _unpack(packed, CALL_PREFIX, _call_state)
    return state if isinstance(state, CallState) else None


def pack_thought(details: list[dict[str, Any]], shown: str, source: str) -> str:
    """Return the signature of a thought with these details, of which the caller sees the text `shown`."""
    if not details:
        return UNSIGNED
    texts = "".join([detail[name] for detail in details for name in _text_members(detail)])
    if texts and texts == shown:
        short = [detail | {name: len(detail[name]) for name in _text_members(detail)} for detail in details]
        token = _pack(_ThoughtState(source, short, _digest(shown.encode(errors="replace"))))
    else:
        token = _pack(_ThoughtState(source, details))
    return UNSIGNED if token is None else UNSIGNED_PREFIX + token


def unpack_thought(signature: str, shown: str, source: str) -> list[dict[str, Any]]:
    """Return the details that this source wants back with a thought; none if they are another's, or the text was changed."""
    state = _unpack(signature, UNSIGNED_PREFIX, _thought_state)
    if not isinstance(state, _ThoughtState) or state.source != source:
        return []
    if not state.shown:
        return state.details
    if state.shown != _digest(shown.encode(errors="replace")):
        return []
    position, whole = 0, []
    for detail in state.details:
        written = dict(detail)
        for name in TEXT_MEMBERS:
            length = detail.get(name)
            if isinstance(length, int):
                written[name] = shown[position : position + length]
                position += length
        whole.append(written)
    return whole


def _text_members(detail: dict[str, Any]) -> list[str]:
    return [name for name in TEXT_MEMBERS if isinstance(detail.get(name), str)]


def _pack(state: CallState | _ThoughtState) -> str | None:
    encoded = _encode(state)
    if len(encoded) > MAX_STATE_BYTES:
        return None
    return f"{_digest(encoded)}-{urlsafe_b64encode(encoded).decode().rstrip('=')}"


def _unpack(token: str, prefix: str, decode: Any) -> object:
    if not token.startswith(prefix) or len(token) > 2 * MAX_STATE_BYTES:
        return None
    found = _TOKEN.fullmatch(token, len(prefix))
    if found is None:
        return None
    try:
        encoded = urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
        return decode(encoded) if _digest(encoded) == found[1] else None
    except (ValueError, RecursionError):
        return None


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:_DIGEST_CHARACTERS]
