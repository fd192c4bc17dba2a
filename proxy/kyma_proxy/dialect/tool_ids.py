"""Encodes ids of tool calls so that Anthropic accepts them, and decodes them again. (Contract §3.4.)

Anthropic accepts letters, digits, `_` and `-` in an id, and refuses a conversation with any other id. Some sources that speak
OpenAI make ids such as `functions.Bash:0`, and must get them back. So an id that Anthropic would refuse is sent to the caller
as a prefix and its bytes in hex, and decoded when it comes back. An id may also hold what its source wants back with the call
(`source_state.py`).
"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.dialect.source_state import CALL_PREFIX, CallState, pack_call, unpack_call

_VALID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_PREFIX: Final = "kyma-id-"


def encode_tool_id(tool_id: str) -> str:
    """Return a source's id as Anthropic accepts it. An id that has the prefix already is encoded too, and so comes back."""
    if _VALID.fullmatch(tool_id) and not tool_id.startswith((_PREFIX, CALL_PREFIX)):
        return tool_id
    return _PREFIX + tool_id.encode(errors="replace").hex()


def encode_call(state: CallState) -> str:
    """Return the id of a call as Anthropic accepts it, with what the source wants back, unless that is too much."""
    return pack_call(state) or encode_tool_id(state.id)


def decode_tool_id(encoded: str) -> str:
    """Return the source's id; an id that is not encoded is returned unchanged."""
    if encoded.startswith(CALL_PREFIX):
        state = unpack_call(encoded)
        return encoded if state is None else state.id
    if not encoded.startswith(_PREFIX):
        return encoded
    try:
        tool_id = bytes.fromhex(encoded.removeprefix(_PREFIX)).decode()
    except ValueError:
        return encoded
    return tool_id if encode_tool_id(tool_id) == encoded else encoded
