"""The measuring process: runs each case in a fork of its own and writes the result to standard output.

    python -P -m bench.micro.child count|times NAME…

Start-up and imports happen once for all cases, which matters under valgrind. A case that raises, hangs or kills its process
does not affect the others. This module runs in the build that is measured, so it imports no more of the bench than
necessary.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Final

import msgspec

from bench.micro.cases import Case, Operation, select_cases
from bench.micro.results import CaseResult, Failure, InstructionCounts, RelativeTime, Result

_WARM_UP: Final = 16
"""The number of operations before anything counts; by then the interpreter has specialised their code."""
_MIN_COUNT_S: Final = 0.25
"""The time of the longer count under valgrind: ten million instructions or more; the ten thousand of a fork are negligible."""
_MIN_TIMING_S: Final = 0.001
_ROUNDS: Final = 101
_CASE_TIMEOUT_S: Final = 60
_FIELDS: Final = tuple((b"x-field-%d" % number, b"value") for number in range(16))
_PASSING: Final = frozenset(name for name, _ in _FIELDS[::2])

Measure = Callable[[Operation], Result]


def count_instructions(operation: Operation, *, min_s: float = _MIN_COUNT_S) -> InstructionCounts:
    """Run the operation once, and many times, in two processes that begin in the same state."""
    many = 1 + _repetitions(operation, min_s)
    processes = [_run_forked(lambda number=number: _repeat(operation, number)) for number in (1, many)]  # type: ignore[misc]
    return InstructionCounts(1, processes[0], many, processes[1])


def measure_time(operation: Operation, *, rounds: int = _ROUNDS) -> RelativeTime:
    """Time the operation and the reference in alternation, so that a disturbance of the machine affects both."""
    sizes = [(each, _repetitions(each, _MIN_TIMING_S)) for each in (reference_operation, operation)]
    times = [[_repeat(each, number) / number for each, number in sizes] for _ in range(rounds)]
    ratio = statistics.median(own / control for control, own in times)
    return RelativeTime(ratio, statistics.median(control for control, _ in times) * 1e9)


def reference_operation() -> object:
    """The unit of relative times: looks up fields in a set and joins those that pass, in plain Python.

    It is the same kind of work as the operations, so that a slower clock or cache pressure affects both alike. A hash of a
    kilobyte would not do: it never leaves the core, and some processors have special instructions for it.
    """
    parts: list[bytes] = []
    for name, value in _FIELDS:
        if name in _PASSING:
            parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)


def measure_case(case: Case, measure: Measure) -> CaseResult:
    """Measure a case. It fails if the operation can't be prepared, raises, or returns nothing."""
    try:
        operation = case.make()
        if not operation():
            return CaseResult(case.name, Failure("the operation returned nothing"))
        return CaseResult(case.name, measure(operation))
    except Exception as error:
        return CaseResult(case.name, Failure(f"{type(error).__name__}: {error}"))


def run_cases(cases: Iterable[Case], measure: Measure, out: int) -> None:
    """Measure one case after the other; write a line for each to the file descriptor `out`."""

    def write(result: CaseResult) -> None:
        os.write(out, msgspec.json.encode(result) + b"\n")

    for case in cases:
        try:
            _run_forked(lambda case=case: write(measure_case(case, measure)))  # type: ignore[misc]
        except RuntimeError as error:
            write(CaseResult(case.name, Failure(str(error))))


def _repetitions(operation: Operation, min_s: float) -> int:
    """The number of operations that take this long after a warm-up: a power of two, so that runs seldom differ."""
    _repeat(operation, _WARM_UP)
    number = 1
    while _repeat(operation, number) < min_s:
        number *= 2
    return number


def _repeat(operation: Operation, number: int) -> float:
    start_s = perf_counter()
    for _ in itertools.repeat(None, number):
        operation()
    return perf_counter() - start_s


def _run_forked(work: Callable[[], object]) -> int:
    """Do the work in a forked process; returns its pid when it has ended. Raises RuntimeError if it failed."""
    child = os.fork()
    if not child:
        signal.alarm(_CASE_TIMEOUT_S)
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise RuntimeError(f"the process ended with {reason}")
    return child


if __name__ == "__main__":
    gc.disable()
    selected: Measure = count_instructions if sys.argv[1] == "count" else measure_time
    run_cases(select_cases(sys.argv[2:]), selected, sys.stdout.fileno())
