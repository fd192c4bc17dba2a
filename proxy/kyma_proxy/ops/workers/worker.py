"""The process that one worker is: it relays requests, and leaves everything else to the supervisor that has started it.

It has the sockets that the supervisor gives it, and ends with the supervisor, however that ends: then it drains as at a signal.
Signals to the whole group of processes are the supervisor's business, but for SIGTERM, which drains this worker alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from time import monotonic
from typing import Any, Final

import msgspec
import uvloop

from kyma_proxy.errors import StartError
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.ops import memory
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.ending import Ending
from kyma_proxy.ops.workers import channel as channels
from kyma_proxy.ops.workers.channel import Channel
from kyma_proxy.ops.workers.messages import (
    Accept,
    Adopt,
    Apply,
    BeAlone,
    CannotServe,
    Circuits,
    Forwarded,
    HandOver,
    Leave,
    Left,
    LogText,
    Prepare,
    Prepared,
    Ready,
    Start,
    TellCounts,
    ToWorker,
)
from kyma_proxy.ops.workers.received_configuration import ReceivedConfiguration
from kyma_proxy.ops.workers.reports import Reporter
from kyma_proxy.ops.workers.shared_circuits import SharedCircuits
from kyma_proxy.telemetry.access_log import ForwardedLog
from kyma_proxy.telemetry.process_log import begin_process_log

_log: Final = logging.getLogger("kyma-proxy")
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Those that are blocked until the worker has said what becomes of them."""
_REPORT_S: Final = 1.0
_LAST_WORDS_S: Final = 2.0


def main() -> None:
    """Serve, with the channel whose descriptor is the argument; the supervisor tells everything else."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    connection = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    memory.keep_freed_memory()
    received = channels.receive(connection, msgspec.msgpack.Decoder(Start))
    if received is None:
        return
    start, (file, *listening) = received
    begin_process_log(f"worker {start.number}: ")
    sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
    uvloop.run(_serve(connection, channels.content_of(file), sockets))


async def _serve(connection: socket.socket, content: bytes, sockets: list[socket.socket]) -> None:
    try:
        configuration = ReceivedConfiguration(content)
    except StartError as error:
        socket.send_fds(connection, [channels.packet_of(CannotServe(str(error)))], [])
        return
    await _Worker(connection, configuration).serve(sockets)


class _Worker:
    """The worker's end of the channel, and what it does about each message."""

    def __init__(self, connection: socket.socket, configuration: ReceivedConfiguration) -> None:
        self._channel: Channel[ToWorker] = Channel(connection, ToWorker, self._receive, self._supervisor_ended)
        self._loop = asyncio.get_running_loop()
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._configuration = configuration
        self._ending: Ending | None = None
        self._circuits: SharedCircuits | None = None
        self._reporter: Reporter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._early_leaves = 0
        self._early: list[Circuits] = []
        self._acceptor: Acceptor | None = None
        self._app: App | None = None

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Serve on these sockets until the supervisor, or a signal, says that it is enough."""
        configuration = self._configuration
        snapshot = configuration.snapshot
        log = None if snapshot.access_log is None else ForwardedLog(lambda lines: self._channel.send(LogText(lines)))
        app = App(configuration, log, processes=snapshot.workers)
        app.listener.control_plane = self._hand_over
        self._ending = ending = Ending(app, None)
        for _ in range(self._early_leaves):
            ending.stop()
        self._reporter = Reporter(app.counters, app.breakers, app.live_state.gauges, monotonic)
        self._circuits = SharedCircuits(app.breakers, self._channel.send, is_last=True)
        app.sweeper.every_tick(self._circuits.sweep)
        self._loop.add_signal_handler(signal.SIGTERM, self._end_once)
        tls = configuration.tls if snapshot.tls is not None else None
        self._app = app
        self._acceptor = acceptor = Acceptor(sockets, app.listener, app.downstream, tls=tls)
        await app.open(looks_after_sources=False)
        try:
            memory.freeze_collector()
            for circuits in self._early:
                self._circuits.adopt(circuits.changed)
            self._channel.send(Ready())
            self._report_again()
            await ending.begun.wait()
            await ending.run(acceptor.close, configuration.snapshot)
        finally:
            acceptor.close()
            for task in self._tasks:
                task.cancel()
            if self._timer is not None:
                self._timer.cancel()
            self._channel.send(self._reporter.report())
            await app.close()
            await self._channel.flushed(_LAST_WORDS_S)
            self._channel.close()

    def _hand_over(self, descriptor: int, *, is_new: bool = False) -> None:
        self._channel.send(Forwarded(), [descriptor])

    def _end_once(self) -> None:
        """End as the supervisor may have said already, or will: a service manager tells every process of a group."""
        if self._ending is None or not self._ending.begun.is_set():
            self._leave()

    def _supervisor_ended(self) -> None:
        _log.warning("the supervisor has ended; this worker ends when its last answer has been sent")
        self._end_once()

    def _leave(self) -> None:
        if self._ending is None:
            self._early_leaves += 1
        else:
            self._ending.stop()

    def _be_replaced(self) -> None:
        """Leave the connections to another process, and end without haste."""
        if self._app is None or self._acceptor is None or self._ending is None:
            self._leave()
            return
        self._app.listener.drain(self._leave_behind)  # before the acceptor closes: it holds whoever has said nothing yet
        self._acceptor.close()
        self._ending.is_replaced = True
        self._ending.begun.set()

    def _accept(self) -> None:
        if self._acceptor is not None and self._ending is not None and not self._ending.begun.is_set():
            self._acceptor.start()

    def _be_alone(self) -> None:
        if self._app is not None:
            self._app.listener.drain()

    def _leave_behind(self, descriptor: int, *, is_new: bool = False) -> None:
        self._channel.send(Left(is_new), [descriptor])

    def _adopt(self, descriptor: int, *, is_new: bool) -> None:
        if self._acceptor is None:
            os.close(descriptor)
        else:
            self._acceptor.adopt(descriptor, is_new=is_new)

    def _receive(self, message: ToWorker, descriptors: list[int]) -> None:
        match message:
            case Accept():
                self._accept()
            case Prepare(version):
                self._in_order(self._prepare(version, channels.content_of(descriptors[0])))
            case Apply(version):
                self._in_order(self._apply(version))
            case Leave():
                self._leave()
            case HandOver():
                self._be_replaced()
            case BeAlone():
                self._be_alone()
            case Adopt(is_new):
                self._adopt(descriptors[0], is_new=is_new)
            case TellCounts():
                self._report()
            case Circuits(changed):
                if self._circuits is None:
                    self._early.append(message)
                else:
                    self._circuits.adopt(changed)

    def _in_order(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, version: int, content: bytes) -> None:
        async with self._order:  # who came first has it first
            why = None
            try:
                await self._configuration.take(version, content)
            except StartError as error:
                why = str(error)
            except Exception:
                _log.exception("a configuration could not be taken from the supervisor")
                why = "a worker failed to take it; the log has the error"
            self._channel.send(Prepared(version, why))

    async def _apply(self, version: int) -> None:
        async with self._order:
            if not self._configuration.put_in_force(version):
                self._channel.send(CannotServe("the configuration that the others have could not be put in force"))

    def _report_again(self) -> None:
        self._report()
        self._timer = self._loop.call_later(_REPORT_S, self._report_again)

    def _report(self) -> None:
        """Report, unless the supervisor does not read: what is counted meanwhile is in the next report."""
        if self._reporter is not None and self._channel.is_clear:
            self._channel.send(self._reporter.report())
