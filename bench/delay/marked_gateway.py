"""Runs the gateway, and notes the moments at which something could hold up an event; the gateway knows nothing of it.

    python -P bench/delay/marked_gateway.py MARKS serve --config FILE

At its end it writes MARKS, a JSON list of [kind, start, end, own, detail], in nanoseconds of the clock of all processes;
`own` is the part of the time in which the thread did not just wait for a processor:

- `collector`: a run of the garbage collector, and its generation
- `sweeper`: a tick of the sweeper, with all that hangs on it; `timer`: another timer's callback that took a millisecond
- `log`: a write of the access log's thread; `ledger`: a statement of the thread that writes charges
- `held`: the event loop came to a timer late. The detail says how long its thread had a processor, waited for one, and was
  blocked (by another thread that held the interpreter, or by the disk), and, if it took long, which calls were under way.

It imports nothing of this repository, so that it runs beside any build of the gateway.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import gc
import json
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import uvloop

Mark = tuple[str, int, int, int, str]

_PERIOD_NS: Final = 10_000_000
_LATE_NS: Final = 3_000_000
_STACK_AFTER_S: Final = (_PERIOD_NS + 8_000_000) / 1e9
_LONG_NS: Final = 1_000_000
_CALLS: Final = 4
"""So many of each thread, the innermost."""
_SWEEPER: Final = "Sweeper._tick"
_WRITER: Final = "store-writer"
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

marks: Final[list[Mark]] = []
_now_ns: Final = time.monotonic_ns


class MarkedLoop(uvloop.Loop):
    """An event loop that notes the callbacks of its timers."""

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:  # fmt: skip
        """Call a timed callback later."""
        return super().call_later(delay, _timed(callback), *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:  # fmt: skip
        """Call a timed callback at a time."""
        return super().call_at(when, _timed(callback), *args, context=context)

    def call_later_untimed(self, delay: float, callback: Callable[[], None]) -> None:
        """Call a callback later, as it is."""
        super().call_later(delay, callback)


def _timed(callback: Callable[..., object]) -> Callable[..., None]:
    name = str(getattr(callback, "__qualname__", None) or repr(callback))
    kind, least_ns = ("sweeper", 0) if name == _SWEEPER or "_tick of Sweeper" in name else ("timer", _LONG_NS)

    def call(*arguments: Any) -> None:
        began = _now_ns()
        callback(*arguments)
        ended = _now_ns()
        if ended - began >= least_ns:
            marks.append((kind, began, ended, ended - began, name))

    return call


class Heartbeat:
    """A timer that notes how late it comes, and why."""

    def __init__(self, loop: MarkedLoop) -> None:
        self._loop = loop
        self._times = open(f"/proc/self/task/{threading.get_native_id()}/schedstat", "rb", buffering=0)  # noqa: SIM115
        self._stacks = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._due_ns = 0
        self._before = self._read()

    def beat(self) -> None:
        """Note a late beat, and wait for the next."""
        now, times = _now_ns(), self._read()
        late_ns = now - self._due_ns if self._due_ns else 0
        if late_ns >= _LATE_NS:
            ran, queued = (new - old for new, old in zip(times, self._before, strict=True))
            own = max(0, late_ns - queued)
            detail = f"ran {ran / 1e6:.1f} ms, waited {queued / 1e6:.1f} ms for a processor"
            if own > ran:
                detail += f", was blocked {(own - ran) / 1e6:.1f} ms"
            stack = self._stack()
            marks.append(("held", self._due_ns, now, own, detail + (stack if own >= _LATE_NS else "")))
        self._before = times
        self._due_ns = _now_ns() + _PERIOD_NS
        faulthandler.dump_traceback_later(_STACK_AFTER_S, file=self._stacks)
        self._loop.call_later_untimed(_PERIOD_NS / 1e9, self.beat)

    def _read(self) -> tuple[int, int]:
        """The nanoseconds for which this thread has had a processor, and has waited for one."""
        self._times.seek(0)
        ran, queued, _ = self._times.read().split()
        return int(ran), int(queued)

    def _stack(self) -> str:
        """The calls that were under way, if that was noted."""
        self._stacks.seek(0)
        text = self._stacks.read()
        self._stacks.seek(0)
        self._stacks.truncate()
        threads = [part.splitlines() for part in text.split("\n\n")]
        calls = [line.strip().removeprefix("File ") for lines in threads for line in lines[1 : 1 + _CALLS]]
        return "".join(f"\n{call}" for call in calls)


def _note(kind: str, began: int, detail: str) -> None:
    now = _now_ns()
    marks.append((kind, began, now, now - began, detail))


def _note_collector() -> None:
    began = 0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = _now_ns()
        else:
            _note("collector", began, f"generation {info['generation']}")

    gc.callbacks.append(note)


def _note_log() -> None:
    write, main = os.write, threading.get_ident()

    def marked(descriptor: int, data: Any, /) -> int:
        began = _now_ns()
        written = write(descriptor, data)
        if threading.get_ident() != main:
            _note("log", began, f"{written} bytes")
        return written

    os.write = marked


class _MarkedConnection(sqlite3.Connection):
    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        began = _now_ns()
        try:
            return super().execute(sql, parameters)
        finally:
            if threading.current_thread().name == _WRITER:
                _note("ledger", began, " ".join(sql.split()[:3]))


def _note_ledger() -> None:
    vars(sqlite3)["connect"] = functools.partial(sqlite3.connect, factory=_MarkedConnection)


def _run(main: Coroutine[Any, Any, _T], **_: Any) -> _T:
    loop = MarkedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop()
        loop.call_soon(Heartbeat(loop).beat)
        return runner.run(main)


def main() -> int:
    """Run the gateway until it is ended; returns its exit code."""
    path = Path(sys.argv[1])
    _note_collector()
    _note_log()
    _note_ledger()
    uvloop.run = _run
    from kyma_proxy.ops.cli import main as run  # noqa: PLC0415  (what it imports is marked above)

    try:
        return run(sys.argv[2:])
    finally:
        faulthandler.cancel_dump_traceback_later()
        path.write_text(json.dumps(marks))


if __name__ == "__main__":
    sys.exit(main())
