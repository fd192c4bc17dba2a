"""What the measuring process says of a case, a line of JSON each."""

from __future__ import annotations

import msgspec


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """Two processes, alike but for how often they did the operation; their instructions are in valgrind's logs."""

    few: int
    few_process: int
    many: int
    many_process: int


class Timed(msgspec.Struct, frozen=True, tag="timed"):
    """An operation's time over the reference's, and the reference's own."""

    ratio: float
    reference_ns: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """There is no figure, and why."""

    reason: str


Found = Counted | Timed | Failed


class Said(msgspec.Struct, frozen=True):
    """What was found for a case."""

    name: str
    found: Found
