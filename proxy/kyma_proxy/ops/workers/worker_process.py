"""One worker, as the supervisor sees it: its process, the channel to it, and what it has told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from kyma_proxy.ops.workers import channel as channels
from kyma_proxy.ops.workers.channel import Channel
from kyma_proxy.ops.workers.messages import (
    CannotServe,
    Circuits,
    Forwarded,
    FromWorker,
    Left,
    LogText,
    Message,
    Prepare,
    Prepared,
    Ready,
    Report,
    Start,
)
from kyma_proxy.ops.workers.worker import SIGNALS

PROGRAM: Final = "from kyma_proxy.ops.workers.worker import main; main()"
_NOT_PASSED_ON: Final = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "RUNTIME_DIRECTORY",
)  # fmt: skip
_LAST_BREATH_S: Final = 5.0


class Workplace(Protocol):
    """The supervisor, as far as its workers need it."""

    def is_ready(self, worker: WorkerProcess) -> None:
        """The worker can serve."""

    def take_report(self, worker: WorkerProcess, report: Report) -> None:
        """Add up what the worker has counted."""

    def take_lines(self, lines: bytes) -> None:
        """Write whole lines of the access log."""

    def take_connection(self, descriptor: int) -> None:
        """Answer a request that is not relayed."""

    def leave_behind(self, descriptor: int, *, is_new: bool) -> None:
        """Give a caller's connection to the process that serves from now on."""

    def take_circuits(self, worker: WorkerProcess, circuits: Circuits) -> None:
        """Open and close circuits here and in all other workers."""

    def ended(self, worker: WorkerProcess) -> None:
        """The worker's process has ended."""


class WorkerProcess:
    """A worker's process. `why` is its own reason for ending, if it has told one; `gauges` are those of its last report."""

    def __init__(
        self, number: int, place: Workplace, snapshot: bytes, listening: Sequence[socket.socket], environment: Mapping[str, str]
    ) -> None:
        """Start it. Raises OSError."""
        self.number = number
        self.why: str | None = None
        self.served_at = 0.0
        self.gauges: dict[str, float] = {}
        self.prepared: int | None = None
        """The version of the snapshot for which it is ready."""
        self._place = place
        self._preparing: tuple[int, asyncio.Future[str | None]] | None = None
        self._reported: list[asyncio.Future[None]] = []
        ours, theirs = channels.pair()
        with theirs:
            self._process = _started(theirs.fileno(), number, environment)
        self._channel: Channel[FromWorker] = Channel(ours, FromWorker, self._receive, self._end)
        self._ending: asyncio.Task[None] | None = None
        self.has_ended = False
        self.send(Start(number), [channels.file_with(snapshot), *(os.dup(one.fileno()) for one in listening)])

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def is_serving(self) -> bool:
        """True from the moment on in which it can serve until it has ended."""
        return bool(self.served_at) and not self.has_ended

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message. A worker that does not take what it is sent is ended: it could not follow the others."""
        if not self._channel.send(message, descriptors) and self._channel.is_open:
            self.kill()

    async def prepare(self, version: int, snapshot: bytes) -> str | None:
        """Get it ready for a snapshot. Returns the reason why it can't be; None if it can, or if it ends meanwhile."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._preparing = version, future
        self.send(Prepare(version), [channels.file_with(snapshot)])
        return None if self.has_ended else await future

    async def report(self, message: Message) -> None:
        """Ask it for its counts, and wait for them, or for its end."""
        if self.is_serving:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._reported.append(future)
            self.send(message)
            await future

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    @property
    def last_words(self) -> str:
        """The way in which the process has ended."""
        code = self._process.returncode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"has ended with exit code {code}"

    def _receive(self, message: FromWorker, descriptors: list[int]) -> None:
        place = self._place
        match message:
            case LogText(lines):
                place.take_lines(lines)
            case Forwarded():
                place.take_connection(descriptors[0])
            case Left(is_new):
                place.leave_behind(descriptors[0], is_new=is_new)
            case Report():
                self.gauges = message.gauges
                place.take_report(self, message)
                self._release_reported()
            case Circuits():
                place.take_circuits(self, message)
            case Ready():
                self.served_at = asyncio.get_running_loop().time()
                place.is_ready(self)
            case Prepared(version, why):
                self.prepared = version
                if self._preparing is not None and self._preparing[0] == version and not self._preparing[1].done():
                    self._preparing[1].set_result(why)
            case CannotServe(why):
                self.why = why
                if self.served_at:
                    self.kill()

    def _release_reported(self) -> None:
        for future in self._reported:
            if not future.done():
                future.set_result(None)
        self._reported.clear()

    def _end(self) -> None:
        """Its end of the channel is closed: it ends, or has ended."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._bury())

    async def _bury(self) -> None:
        try:
            await asyncio.to_thread(self._process.wait, _LAST_BREATH_S)
        except subprocess.TimeoutExpired:
            self.kill()
            await asyncio.to_thread(self._process.wait)
        self.has_ended = True
        self._release_reported()
        if self._preparing is not None and not self._preparing[1].done():
            self._preparing[1].set_result(None)
        self._channel.close()
        self._place.ended(self)


def _started(descriptor: int, number: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A new worker's process, in which signals are blocked until it can deal with them."""
    warnings = [part for option in sys.warnoptions for part in ("-W", option)]
    line = [sys.executable, *warnings, "-c", PROGRAM, str(descriptor), f"worker-{number}"]
    paths = os.pathsep.join(one for one in sys.path if one)
    kept = {name: value for name, value in environment.items() if name not in _NOT_PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(  # noqa: S603  (this program)
            line, pass_fds=[descriptor], stdin=subprocess.DEVNULL, env={**kept, "PYTHONPATH": paths}
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
