"""The process that starts workers and keeps them: it has their sockets, the admin listener, the log and the configuration.

It relays nothing, so that nothing that a request can do ends it. A request that is not relayed comes here from the worker that
has received it, over a connection of its own. What workers count is added up here, so the pages and the metrics are those of
one gateway. A circuit that opens or closes in one worker does so here, and in all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, Final

import uvloop

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.errors import StartError
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.ops import control_socket, memory
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.inherited_sockets import inherited_sockets
from kyma_proxy.ops.predecessor import Predecessor
from kyma_proxy.ops.process_setup import catch_signals, open_log
from kyma_proxy.ops.reload import Configuration, ReloadTriggers
from kyma_proxy.ops.replacing import Replaceable, Successor
from kyma_proxy.ops.sd_notify import SystemdNotifier
from kyma_proxy.ops.workers.messages import (
    Accept,
    Adopt,
    BeAlone,
    Circuits,
    HandOver,
    Leave,
    Report,
    TellCounts,
)
from kyma_proxy.ops.workers.reports import absorb
from kyma_proxy.ops.workers.shared_circuits import SharedCircuits
from kyma_proxy.ops.workers.shared_configuration import SharedConfiguration
from kyma_proxy.ops.workers.shared_listeners import SharedListeners
from kyma_proxy.ops.workers.worker_process import WorkerProcess

_log: Final = logging.getLogger("kyma-proxy")
_START_S: Final = 60.0
_SCRAPE_S: Final = 1.0
_STEADY_S: Final = 10.0
"""A worker that has served for so long is started again at once when it ends."""
_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 5.0
_GRACE_S: Final = 5.0
"""Beyond `drain`: then workers that have not ended are killed."""
_LOOK_S: Final = 0.02


def supervise(
    configuration: Configuration, ready: Callable[[Snapshot], None], predecessor: Predecessor | None,
    environment: Mapping[str, str], *, hangup_reloads: bool,
) -> None:  # fmt: skip
    """Serve with as many workers as the configuration says, until a signal. Raises StartError."""
    uvloop.run(_supervise(configuration, ready, predecessor, environment, hangup_reloads=hangup_reloads))


async def _supervise(
    configuration: Configuration, ready: Callable[[Snapshot], None], predecessor: Predecessor | None,
    environment: Mapping[str, str], *, hangup_reloads: bool,
) -> None:  # fmt: skip
    systemd = SystemdNotifier(environment)
    supervisor = Supervisor(configuration, predecessor, environment, systemd)
    snapshot = configuration.snapshot
    triggers = ReloadTriggers(configuration)
    configuration.reloading = systemd.reloading
    catch_signals(supervisor.app.access_log, triggers if hangup_reloads else None, supervisor.stop)
    try:
        await supervisor.start()
        ready(snapshot)
        systemd.ready(f"serves with {snapshot.workers} workers on {snapshot.listen}")
        await supervisor.stopping.wait()
        if not supervisor.is_replaced:
            systemd.stopping()
        await supervisor.end()
    finally:
        await triggers.stop()
        await supervisor.close()
        systemd.close()


class Supervisor:
    """The workers, and everything that they share. A `Workplace`."""

    def __init__(
        self, configuration: Configuration, predecessor: Predecessor | None, environment: Mapping[str, str],
        systemd: SystemdNotifier,
    ) -> None:  # fmt: skip
        """Open what is shared; the workers come with `start`. Raises StartError."""
        snapshot = configuration.snapshot
        self._configuration = configuration
        self._environment = environment
        self.app = app = App(
            configuration, open_log(snapshot.access_log, environment), processes=snapshot.workers, relays=False
        )
        self._loop = asyncio.get_running_loop()
        self._circuits = SharedCircuits(app.breakers, partial(self._tell_all, but=None), is_last=False)
        app.sweeper.every_tick(self._circuits.sweep)
        app.before_scrape = self._gather
        app.live_state.others = self._gauges
        self._shared = SharedConfiguration(configuration, lambda: self._alive)
        self._systemd = systemd
        self._predecessor = predecessor
        self._successor: Successor | None = None
        self._replaceable: Replaceable | None = None
        self._next_adopter = 0
        self._accepts = False
        self._listeners = SharedListeners(app, snapshot, predecessor, inherited_sockets(environment))
        self._forwarded = Acceptor([], app.listener, app.downstream)
        self.workers: dict[int, WorkerProcess] = {}
        """The last of each number; it may have ended."""
        self._endings: dict[int, int] = {}  # of each worker, in a row
        self._whys: dict[int, str] = {}
        self._begun: dict[int, asyncio.Future[str | None]] = {}
        self.stopping = asyncio.Event()
        self._is_signalled = asyncio.Event()
        self._skip_waiting = asyncio.Event()
        self.is_replaced = False

    # ---- the start and the end

    async def start(self) -> None:
        """Start the workers, and wait until all of them serve. Raises StartError, with the reason of the first that can't."""
        count = self._configuration.snapshot.workers
        await self.app.open()
        memory.freeze_collector()
        self._begun = {number: self._loop.create_future() for number in range(1, count + 1)}
        for number in self._begun:
            self._begin(number)
        stopping = self._loop.create_task(self.stopping.wait())
        try:
            async with asyncio.timeout(_START_S):
                for number, begun in self._begun.items():
                    await asyncio.wait((begun, stopping), return_when=asyncio.FIRST_COMPLETED)
                    why = begun.result() if begun.done() else None
                    if why is not None:
                        raise StartError(f"worker {number} can't start: {why}")
        except TimeoutError:
            raise StartError(f"the workers have not begun to serve within {_START_S:g} s") from None
        finally:
            stopping.cancel()
        if self._predecessor is not None:
            self._predecessor.leave(takes_accounts=False)
        self._accepts = True
        for worker in self._alive:
            if worker.is_serving:
                worker.send(Accept())
        self._listeners.start()
        if self._predecessor is not None:
            self._predecessor.follow(self._adopt, lambda _message, _files: None)
        self._open_control_socket()

    def stop(self) -> None:
        """End within `drain`, and a process that this one has replaced as well. A second call does not wait for what runs."""
        if self._predecessor is not None:
            self._predecessor.end()
        if self._is_signalled.is_set():
            self._skip_waiting.set()
        self._is_signalled.set()
        self.stopping.set()
        self.app.is_leaving = not self.is_replaced
        self._tell_all(Leave(), but=None)

    async def end(self) -> None:
        """Wait until the workers have ended by themselves, as they were told; kill those that have not.

        Those of a gateway that was replaced have as long as their answers take, unless there is a signal.
        """
        snapshot = self._configuration.snapshot
        if not self.is_replaced:
            await self._wait(lambda: False, snapshot.shutdown_delay)
            self._stop_listening()
        self.app.jobs.drain()
        await self._wait(lambda: self._is_signalled.is_set() or not self._is_needed, None)
        await self._wait(lambda: not self._is_needed, snapshot.drain)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                while self._alive:  # noqa: ASYNC110  (they have been told)
                    await asyncio.sleep(_LOOK_S)

    @property
    def _is_needed(self) -> bool:
        before = self._predecessor
        return bool(self._alive or self.app.jobs.scheduler.at_risk or not (before is None or before.has_ended))

    def _stop_listening(self) -> None:
        """Listen no longer. The files of sockets stay if another process listens on them."""
        shares = self._replaceable is not None and self._replaceable.shares_sockets
        self._listeners.close(keep_files=self.is_replaced or shares)
        if self._replaceable is not None and not self.is_replaced:
            self._replaceable.stop()

    async def _wait(self, condition: Callable[[], bool], seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (condition() or self._skip_waiting.is_set()):  # noqa: ASYNC110  (two conditions, once)
                    await asyncio.sleep(_LOOK_S)

    @property
    def _alive(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers.values() if not worker.has_ended]

    async def close(self) -> None:
        """End all workers that are left, and close everything."""
        self.stopping.set()
        for worker in self._alive:
            _log.warning("worker %d has not ended, and is killed", worker.number)
            worker.kill()
        while self._alive:  # noqa: ASYNC110  (killed processes end)
            await asyncio.sleep(_LOOK_S)
        self._stop_listening()
        self._forwarded.close()
        await self.app.close()
        if self._replaceable is not None:  # the other process knows by this that nothing is to come
            self._replaceable.close()

    # ---- taking another gateway's place, and leaving this one to another

    def _open_control_socket(self) -> None:
        """Wait for a process that takes the place of this one, where there is a place to wait."""
        path = control_socket.path_of(self._configuration.snapshot.listen, self._environment)
        if path is None:
            return
        try:
            self._replaceable = Replaceable(
                path, self._listeners.sockets, leave=self._leave, end=self.stop, be_alone=self._be_alone
            )
        except OSError as error:
            _log.info("no control socket at %s: %s", path, (error.strerror or str(error)).lower())

    def _leave(self, successor: Successor) -> None:
        """Another process serves: the workers leave it their connections, and end when their last answers are sent."""
        self._systemd.replaced_by(successor.pid)
        self._successor = successor
        self.is_replaced = True
        self._tell_all(HandOver(), but=None)
        self.app.admin_listener.drain()
        self._stop_listening()
        self.stopping.set()

    def _be_alone(self) -> None:
        self._successor = None
        self._tell_all(BeAlone(), but=None)

    def leave_behind(self, descriptor: int, *, is_new: bool) -> None:
        """Give a caller's connection to the process that serves from now on."""
        if self._successor is None:
            os.close(descriptor)
        else:
            self._successor.hand_over(descriptor, is_new=is_new)

    def _adopt(self, descriptor: int, *, is_new: bool) -> None:
        """Give a connection of the process that was replaced to the workers, one after the other."""
        serving = [worker for worker in self._alive if worker.is_serving]
        if self._successor is not None:
            self._successor.hand_over(descriptor, is_new=is_new)
        elif serving:
            self._next_adopter += 1
            serving[self._next_adopter % len(serving)].send(Adopt(is_new), [descriptor])
        else:
            os.close(descriptor)

    # ---- workers that come and go

    def _begin(self, number: int) -> None:
        listening = self._listeners.of_workers[number - 1]
        try:
            worker = WorkerProcess(number, self, self._shared.content, listening, self._environment)
        except OSError as error:
            self._failed_to_begin(number, (error.strerror or str(error)).lower())
            return
        self.workers[number] = worker
        if open_now := self._circuits.open_now():
            worker.send(Circuits(tuple(open_now)))

    def is_ready(self, worker: WorkerProcess) -> None:
        """The worker can serve. At the start it waits for the others."""
        begun = self._begun.get(worker.number)
        if begun is not None and not begun.done():
            begun.set_result(None)
        if self._accepts:
            worker.send(Accept())
        if worker.number in self._whys:
            del self._whys[worker.number]
            _log.info("worker %d serves again", worker.number)

    def ended(self, worker: WorkerProcess) -> None:
        """The worker's process has ended; unless all end, another is started in its place."""
        if self.stopping.is_set():
            return
        if worker.served_at and self._loop.time() - worker.served_at >= _STEADY_S:
            self._endings.pop(worker.number, None)
        if worker.served_at:
            _log.warning(
                "worker %d (process %d) %s%s; its requests are cut, and another is started",
                worker.number, worker.pid, worker.last_words, "" if worker.why is None else f": {worker.why}",
            )  # fmt: skip
            self._whys[worker.number] = ""
            self._begin_again(worker.number)
        else:
            self._failed_to_begin(worker.number, worker.why or f"its process {worker.last_words}")

    def _failed_to_begin(self, number: int, why: str) -> None:
        begun = self._begun.get(number)
        if begun is not None and not begun.done():
            begun.set_result(why)
            return
        if self._whys.get(number) != why:  # once, and not each time
            _log.error("worker %d can't start: %s; it is tried again and again", number, why)
            self._whys[number] = why
        self._begin_again(number)

    def _begin_again(self, number: int) -> None:
        ended_before = self._endings.get(number, 0)
        self._endings[number] = ended_before + 1
        pause = min(_FIRST_PAUSE_S * 2.0 ** min(ended_before, 10), _MAX_PAUSE_S) if ended_before else 0.0
        self._loop.call_later(pause, self._once_more, number)

    def _once_more(self, number: int) -> None:
        if not self.stopping.is_set():
            self._begin(number)

    def _tell_all(self, message: Any, *, but: WorkerProcess | None) -> None:
        for worker in self._alive:
            if worker is not but:
                worker.send(message)

    # ---- what workers tell

    def take_report(self, worker: WorkerProcess, report: Report) -> None:
        """Add up what the worker has counted."""
        absorb(report, self.app.counters, self.app.breakers, monotonic())

    def take_lines(self, lines: bytes) -> None:
        """Write whole lines of the access log."""
        log = self.app.access_log
        if log is not None and not log.deliver(lines):
            log.lost_lines += lines.count(b"\n")

    def take_connection(self, descriptor: int) -> None:
        """Answer a request that is not relayed."""
        self._forwarded.adopt(descriptor, is_new=True)

    def take_circuits(self, worker: WorkerProcess, circuits: Circuits) -> None:
        """Open and close circuits here and in all other workers."""
        self._circuits.adopt(circuits.changed)
        self._tell_all(circuits, but=worker)

    async def _gather(self) -> None:
        """Have all workers tell what they have counted, for a scrape."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SCRAPE_S):
                await asyncio.gather(*(worker.report(TellCounts()) for worker in self._alive))

    def _gauges(self) -> Mapping[str, float]:
        serving = [worker for worker in self.workers.values() if worker.is_serving]
        sums: dict[str, float] = {"kyma_workers": len(serving)}
        for worker in serving:
            for name, value in worker.gauges.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums
