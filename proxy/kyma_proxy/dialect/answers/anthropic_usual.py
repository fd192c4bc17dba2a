"""Reads a whole message in its usual form, in which one decode finds all that is needed. (Contract §4.3, §8.)

What deviates, as an error, an odd number or several iterations do, is left to `anthropic`, which reads every form and comes to
the same where both can read.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.dialect.answers.anthropic_members import CacheCreation, ServerTools, UsualMessage, UsualUsage
from kyma_proxy.dialect.answers.facts import End, Facts

# Names of this module: compiled, these are found faster than another module's.
_decode: Final = msgspec.json.Decoder(UsualMessage).decode
_astuple: Final = structs.astuple  # to look up the members would cost more than the rest
_UNUSUAL: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def read_usual(body: bytes) -> Facts | None:
    """Read a whole message; None if it deviates."""
    try:
        message = _decode(body)
    except _UNUSUAL:
        return None
    if message.type == "error" or not bytes(message.content).startswith(b"["):
        return None
    return Facts(True, None, End.LAST, None, _usage_of(message.usage))


def _usage_of(usage: UsualUsage) -> Usage:
    """The tokens of a usage object; `anthropic.usage_of` says what each member means."""
    own: int
    output: int
    reads: int | None
    written: int | None
    creation: CacheCreation | None
    tools: ServerTools | None
    tier: str | None
    own, output, reads, written, creation, tools, tier, _ = _astuple(usage)
    minutes = hour = 0
    if creation is not None:
        minutes, hour = creation.ephemeral_5m_input_tokens or 0, creation.ephemeral_1h_input_tokens or 0
    if written is not None:
        hour = min(hour, written)
        minutes = written - hour
    prompt = own + (reads or 0) + minutes + hour
    searches = None if tools is None else tools.web_search_requests
    return Usage(prompt, output, reads, "reported", minutes, hour, 0, searches, tier)
