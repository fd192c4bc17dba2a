"""A script says how the bench's provider answers; a request chooses it by its model id, which every gateway forwards.

short                          a whole answer of about 1 KB, at once
short-after-20ms               the same, 20 ms later
stream-200-10ms                200 events: the first at once, then one each 10 ms, all streams in the same tick
stream-200-10ms-by-1ms         the same, the streams spread evenly over ten ticks of 1 ms
stream-200-10ms-after-50ms     the first event after 50 ms
stream-5-10ms-then-stall       five events, then silence; `-then-cut` closes the connection
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_GRAMMAR: Final = re.compile(
    r"(?:short|stream-(?P<events>[1-9]\d{0,6})-(?P<gap>[1-9]\d{0,6})ms(?:-by-(?P<tick>[1-9]\d{0,6})ms)?)"
    r"(?:-after-(?P<first>\d{1,6})ms)?(?:-then-(?P<end>stall|cut))?"
)


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """`events` is 0 for a whole answer; `end` is `done`, `stall` or `cut`."""

    events: int = 0
    gap_ms: int = 0
    tick_ms: int = 0
    first_ms: int = 0
    end: str = "done"


def parse(model: str) -> Script | None:
    """The script that a model id stands for; None where it stands for none."""
    match = _GRAMMAR.fullmatch(model)
    if match is None:
        return None
    gap_ms = int(match["gap"] or 0)
    return Script(
        events=int(match["events"] or 0),
        gap_ms=gap_ms,
        tick_ms=min(int(match["tick"] or gap_ms), gap_ms),
        first_ms=int(match["first"] or 0),
        end=match["end"] or "done",
    )
