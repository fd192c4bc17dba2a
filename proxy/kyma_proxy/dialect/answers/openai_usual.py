"""Reads a whole answer of chat in its usual form, in which one decode finds all that is needed. (Contract §4.3, §8.)

What deviates, as an error, an odd number or a usage under other names does, is left to `openai`, which reads every form and
comes to the same where both can read.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.dialect.answers.facts import End, Facts
from kyma_proxy.dialect.answers.openai_members import PromptDetails, UsualChoice, UsualUsage, UsualWhole

# Names of this module: compiled, these are found faster than another module's.
_decode: Final = msgspec.json.Decoder(UsualWhole).decode
_astuple: Final = structs.astuple  # to look up ten members would cost more than the rest
_STOP: Final = "stop"
_UNUSUAL: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def read_usual(body: bytes, incomplete_reasons: tuple[str, ...]) -> Facts | None:
    """Read a whole answer; None if it deviates, or a choice ends for one of these reasons."""
    try:
        whole = _decode(body)
    except _UNUSUAL:
        return None
    choices: list[UsualChoice]
    usage: UsualUsage
    tier: str | None
    choices, usage, tier, _ = _astuple(whole)
    if not choices:
        return None
    for choice in choices:
        reason = choice.finish_reason
        if reason != _STOP and reason in incomplete_reasons:
            return None
    return Facts(True, None, End.LAST, None, _usage_of(usage, tier))


def _usage_of(usage: UsualUsage, tier: str | None) -> Usage:
    """The tokens of a usage object, with the service tier beside it; `openai.usage_of` says what each member means."""
    prompt: int
    completion: int
    total: int
    details: PromptDetails | None
    at_top: int | None
    hits: int | None
    reads: int | None
    written: int | None
    searches: int | None
    own_tier: str | None
    prompt, completion, total, details, at_top, hits, reads, written, searches, own_tier, _, _ = _astuple(usage)
    completion = max(completion, total - prompt)
    of_prompt: int | None = None
    if details is not None:
        of_prompt = details.cached_tokens
        written = details.cache_write_tokens or written
    cached = of_prompt or at_top or hits or reads
    if cached is None and (of_prompt is not None or at_top is not None or hits is not None):
        cached = 0
    return Usage(prompt, completion, cached, "reported", 0, 0, written or 0, searches, tier or own_tier)
