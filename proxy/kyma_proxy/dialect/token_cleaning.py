"""Removes the tokens that translations left in a conversation, for sources of the caller's dialect. (Contract §3.3.)

Anthropic refuses a thought that it has not signed (`thinking_signature.py`), OpenAI a reasoning item whose encrypted content is
not its own. Ids of calls that hold a state are longer than some take (OpenAI: 64 characters; so does Bedrock): each becomes the
id that its source has given, in the call and in its result.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.source_state import CALL_PREFIX, REASONING_PREFIX, unpack_call
from kyma_proxy.dialect.thinking_signature import MAX_PATHS, replace_elements, without_unsigned
from kyma_proxy.dialect.tool_ids import encode_tool_id

_MARK: Final = b'"kyma-'
_CALL_ID: Final = re.compile(b'"(%b[A-Za-z0-9_-]+)"' % CALL_PREFIX.encode())
_encode: Final = msgspec.json.encode


class _Body(msgspec.Struct, gc=False):
    input: Raw


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    encrypted_content: str | None = None


_body: Final = msgspec.json.Decoder(_Body).decode
_list: Final = msgspec.json.Decoder(list[Raw]).decode
_item: Final = msgspec.json.Decoder(_Item).decode


def may_hold_tokens(body: bytes) -> bool:
    """True if a request may have such tokens; rarely the case, and cheap to tell."""
    return body.rfind(_MARK) >= 0  # `rfind` takes a third of the time of `find`


def clean_messages(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a request in Anthropic's dialect without tokens, and the paths of what was removed."""
    clean, dropped = without_unsigned(body)
    return _with_own_ids(clean), dropped


def clean_responses(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a Responses request without tokens, and the paths of what was removed."""
    dropped: list[str] = []
    try:
        items = _body(body).input
        if bytes(items).startswith(b"["):
            kept = [b"" if _is_packed(item) else bytes(item) for item in _list(items)]
            dropped = [f"input[{index}]" for index, item in enumerate(kept) if not item]
            if dropped:
                body = replace_elements(body, items, kept)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body, ()  # it is no valid request; its source will refuse it
    return _with_own_ids(body), tuple(dropped[:MAX_PATHS])


def _is_packed(raw: Raw) -> bool:
    """True if an item holds thoughts that a translation has packed."""
    if REASONING_PREFIX.encode() not in bytes(raw):
        return False
    item = _item(raw)
    return item.type == "reasoning" and (item.encrypted_content or "").startswith(REASONING_PREFIX)


def _with_own_ids(body: bytes) -> bytes:
    return _CALL_ID.sub(_own_id, body) if CALL_PREFIX.encode() in body else body


def _own_id(found: re.Match[bytes]) -> bytes:
    state = unpack_call(found[1].decode())
    return found[0] if state is None else _encode(encode_tool_id(state.id))
