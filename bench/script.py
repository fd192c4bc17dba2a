"""Scripts: how the provider of the bench answers. A request selects its script by the model id, which every gateway forwards.

short                          a whole answer (not streamed) of about 1 KB, at once
short-after-20ms               the same, 20 ms later
stream-200-10ms                200 events: the first at once, then one every 10 ms, all streams in the same tick
stream-200-10ms-by-1ms         the same, with the streams spread evenly over ten ticks of 1 ms
stream-200-10ms-of-2000b       events of 2,000 bytes
stream-200-10ms-after-50ms     the first event after 50 ms
stream-5-10ms-then-stall       five events, then silence; `-then-cut` closes the connection instead
error-503                      an error with that status
short-in-anthropic             in Anthropic's dialect; all others are OpenAI's chat completions
short-in-responses             in that of OpenAI's Responses
"""

from __future__ import annotations

import re
from typing import Final, Literal, cast

import msgspec

_GRAMMAR: Final = re.compile(
    r"(?:short|error-(?P<status>[45]\d\d)"
    r"|stream-(?P<events>[1-9]\d{0,6})-(?P<gap>[1-9]\d{0,6})ms(?:-by-(?P<tick>[1-9]\d{0,6})ms)?(?:-of-(?P<bytes>[1-9]\d{0,6})b)?)"
    r"(?:-after-(?P<first>[1-9]\d{0,5})ms)?(?:-then-(?P<end>stall|cut))?(?:-in-(?P<dialect>anthropic|responses))?"
)


End = Literal["done", "stall", "cut"]
Dialect = Literal["openai", "anthropic", "responses"]


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A script. `events` 0 is a whole answer; `tick_ms` 0 is one tick per gap; `event_bytes` 0 is the usual size."""

    events: int = 0
    gap_ms: int = 0
    tick_ms: int = 0
    event_bytes: int = 0
    first_ms: int = 0
    status: int = 200
    end: End = "done"
    dialect: Dialect = "openai"

    @property
    def model(self) -> str:
        """The model id of this script."""
        name = "short" if self.status == 200 else f"error-{self.status}"
        if self.events:
            tick = f"-by-{self.tick_ms}ms" if self.tick_ms not in (0, self.gap_ms) else ""
            size = f"-of-{self.event_bytes}b" if self.event_bytes else ""
            name = f"stream-{self.events}-{self.gap_ms}ms{tick}{size}"
        first = f"-after-{self.first_ms}ms" if self.first_ms else ""
        end = "" if self.end == "done" else f"-then-{self.end}"
        return name + first + end + ("" if self.dialect == "openai" else f"-in-{self.dialect}")


def parse(model: str) -> Script | None:
    """Returns the script of a model id, or None."""
    match = _GRAMMAR.fullmatch(model)
    if match is None:
        return None
    gap_ms = int(match["gap"] or 0)
    return Script(
        events=int(match["events"] or 0),
        gap_ms=gap_ms,
        tick_ms=min(int(match["tick"] or gap_ms), gap_ms),
        event_bytes=int(match["bytes"] or 0),
        first_ms=int(match["first"] or 0),
        status=int(match["status"] or 200),
        end=cast("End", match["end"] or "done"),
        dialect=cast("Dialect", match["dialect"] or "openai"),
    )
