"""Decides whether a stream is whole, from what its events say and how it ended. (Contract §4.4.)"""

from __future__ import annotations

from typing import NamedTuple


class Findings(NamedTuple):
    """The parts of an answer that were found among the events of a stream.

    `has_answer`: something that a caller can use. `has_reason`: why the model stopped. `has_usage`: the usage, with no text
    after it. `has_end`: the dialect's last event.
    """

    has_answer: bool
    has_reason: bool
    has_usage: bool
    has_end: bool


def is_whole(found: Findings, *, is_certain: bool, always_ends: bool, needs_usage: bool) -> bool:
    """True if a stream is whole, as far as its events can say.

    A stream that has said nothing is no answer. If its framing is complete (`is_certain`), a reason of the end is enough. If
    only the connection has ended, there must be the dialect's last event; or, where some providers leave that out (not
    `always_ends`), a reason and the usage that follows it, as an answer of several choices may have more to say after a reason.
    Whoever reads another dialect needs no usage.
    """
    if not found.has_answer:
        return False
    if found.has_end:
        return True
    if is_certain:
        return found.has_reason
    return not always_ends and found.has_reason and (found.has_usage or not needs_usage)
