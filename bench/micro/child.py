"""The process that measures: it takes each case in a fork of its own, and says on standard output what was found.

    python -P -m bench.micro.child count|times NAME…

Start-up and imports are paid once for all cases, which matters under valgrind. A case that raises, hangs or kills its process
harms no other. It runs in the build that is measured, so it imports no more of the bench than it must.
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

from bench.micro.cases import Case, Operation, chosen
from bench.micro.findings import Counted, Failed, Found, Said, Timed

_WARM: Final = 16
"""An operation runs so often before anything counts; the interpreter has specialised its code by then."""
_COUNTED_S: Final = 0.25
"""How long the longer count takes under valgrind: ten million instructions or more; a fork's ten thousand are nothing to it."""
_TIMED_S: Final = 0.001
_ROUNDS: Final = 101
_MAX_S: Final = 60
_FIELDS: Final = tuple((b"x-field-%d" % number, b"value") for number in range(16))
_PASSING: Final = frozenset(name for name, _ in _FIELDS[::2])


Measure = Callable[[Operation], Found]


def count(operation: Operation) -> Counted:
    """Have the operation done once, and many times, by two processes that begin in the same state."""
    many = 1 + _repetitions(operation, _COUNTED_S)
    processes = [_forked(lambda number=number: _repeat(operation, number)) for number in (1, many)]  # type: ignore[misc]
    return Counted(1, processes[0], many, processes[1])


def time(operation: Operation) -> Timed:
    """Time the operation and the reference in turns: what disturbs the machine for a while disturbs both."""
    sizes = [(each, _repetitions(each, _TIMED_S)) for each in (reference, operation)]
    rounds = [[_repeat(each, number) / number for each, number in sizes] for _ in range(_ROUNDS)]
    ratio = statistics.median(own / control for control, own in rounds)
    return Timed(ratio, statistics.median(control for control, _ in rounds) * 1e9)


def reference() -> object:
    """What times are compared with: looking fields up in a set and joining those that pass, in plain Python.

    It is the kind of work that is measured, so that a slower clock or a neighbour in the cache slows both alike. A hash of a
    kilobyte would not do: it never leaves the core, and has instructions of its own on some processors.
    """
    parts: list[bytes] = []
    for name, value in _FIELDS:
        if name in _PASSING:
            parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)


def taken(case: Case, measure: Measure) -> Said:
    """Measure a case. One that can't be made, raises or gives nothing has failed."""
    try:
        operation = case.make()
        if not operation():
            return Said(case.name, Failed("the operation gave nothing"))
        return Said(case.name, measure(operation))
    except Exception as error:
        return Said(case.name, Failed(f"{type(error).__name__}: {error}"))


def serve(cases: Iterable[Case], measure: Measure, out: int) -> None:
    """Take the cases one after the other; a line each goes to the file descriptor `out`."""

    def say(said: Said) -> None:
        os.write(out, msgspec.json.encode(said) + b"\n")

    for case in cases:
        try:
            _forked(lambda case=case: say(taken(case, measure)))  # type: ignore[misc]
        except RuntimeError as error:
            say(Said(case.name, Failed(str(error))))


def _repetitions(operation: Operation, least_s: float) -> int:
    """How often to do a warm operation so that it takes this long: a power of two, so that runs seldom differ."""
    _repeat(operation, _WARM)
    number = 1
    while _repeat(operation, number) < least_s:
        number *= 2
    return number


def _repeat(operation: Operation, number: int) -> float:
    began = perf_counter()
    for _ in itertools.repeat(None, number):
        operation()
    return perf_counter() - began


def _forked(work: Callable[[], object]) -> int:
    """Do the work in a process of its own; its number, once it has ended. Raises RuntimeError where it ended badly."""
    child = os.fork()
    if not child:
        signal.alarm(_MAX_S)
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise RuntimeError(f"its process ended with {how}")
    return child


if __name__ == "__main__":
    gc.disable()
    way: Measure = count if sys.argv[1] == "count" else time
    serve(chosen(sys.argv[2:]), way, sys.stdout.fileno())
