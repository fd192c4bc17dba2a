"""The results that the measuring process writes, one line of JSON for each case."""

from __future__ import annotations

import msgspec


class InstructionCounts(msgspec.Struct, frozen=True, tag="counts"):
    """Two processes that differ only in the number of operations. Their instruction counts are in valgrind's logs."""

    few: int
    few_process: int
    many: int
    many_process: int


class RelativeTime(msgspec.Struct, frozen=True, tag="time"):
    """The time of an operation as a multiple of the reference operation's, and the time of the reference."""

    ratio: float
    reference_ns: float


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The reason why there is no figure."""

    reason: str


Result = InstructionCounts | RelativeTime | Failure


class CaseResult(msgspec.Struct, frozen=True):
    """The result of one case."""

    name: str
    result: Result
