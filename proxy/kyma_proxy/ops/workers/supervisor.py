"""The process that starts workers and keeps them: it has their sockets, the admin listener, the log and the configuration.

It relays nothing, so that nothing that a request can do ends it. A request that is not relayed comes here from the worker that
has received it, over a connection of its own. What workers count is added up here, so the pages and the metrics are those of
one gateway. A circuit that opens or closes in one worker does so here, and in all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, Final

import uvloop

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.errors import StartError
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.ops import memory
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.inherited_sockets import inherited_sockets
from kyma_proxy.ops.process_setup import allow_many_files, catch_signals, open_log
from kyma_proxy.ops.reload import Configuration, ReloadTriggers
from kyma_proxy.ops.sd_notify import SystemdNotifier
from kyma_proxy.ops.workers.messages import Apply, Circuits, Leave, Prepare, Report, TellCounts
from kyma_proxy.ops.workers.received_configuration import packed
from kyma_proxy.ops.workers.refusal import RefusingSocket
from kyma_proxy.ops.workers.reports import absorb
from kyma_proxy.ops.workers.shared_circuits import SharedCircuits
from kyma_proxy.ops.workers.shared_listeners import SharedListeners
from kyma_proxy.ops.workers.worker_process import WorkerProcess

_log: Final = logging.getLogger("kyma-proxy")
_START_S: Final = 60.0
_PREPARE_S: Final = 60.0
_SCRAPE_S: Final = 1.0
_STEADY_S: Final = 10.0
"""A worker that has served for so long is started again at once when it ends."""
_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 5.0
_GRACE_S: Final = 5.0
"""Beyond `drain`: then workers that have not ended are killed."""
_LOOK_S: Final = 0.02


def supervise(
    configuration: Configuration, ready: Callable[[Snapshot], None], environment: Mapping[str, str], *, hangup_reloads: bool
) -> None:
    """Serve with as many workers as the configuration says, until a signal. Raises StartError."""
    allow_many_files()
    memory.keep_freed_memory()
    uvloop.run(_supervise(configuration, ready, environment, hangup_reloads=hangup_reloads))


async def _supervise(
    configuration: Configuration, ready: Callable[[Snapshot], None], environment: Mapping[str, str], *, hangup_reloads: bool
) -> None:
    supervisor = Supervisor(configuration, environment)
    snapshot = configuration.snapshot
    triggers = ReloadTriggers(configuration)
    systemd = SystemdNotifier(environment)
    configuration.reloading = systemd.reloading
    catch_signals(supervisor.app.access_log, triggers if hangup_reloads else None, supervisor.stop)
    try:
        await supervisor.start()
        ready(snapshot)
        systemd.ready(f"serves with {snapshot.workers} workers on {snapshot.listen}")
        await supervisor.stopping.wait()
        systemd.stopping()
        await supervisor.end()
    finally:
        await triggers.stop()
        await supervisor.close()
        systemd.close()


class Supervisor:
    """The workers, and everything that they share. A `Workplace`."""

    def __init__(self, configuration: Configuration, environment: Mapping[str, str]) -> None:
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
        self._prepare_here = configuration.prepare
        configuration.prepare = self._prepare
        configuration.on_change(self._apply)
        self._listeners = SharedListeners(app, snapshot, inherited_sockets(environment))
        self._forwarded = Acceptor([], app.listener, app.downstream)
        self._refusing = RefusingSocket(snapshot.listen, environment)
        self._workers: dict[int, WorkerProcess] = {}
        self._packed = packed(snapshot)
        self._version = 0
        self._endings: dict[int, int] = {}  # of each worker, in a row
        self._whys: dict[int, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._begun: dict[int, asyncio.Future[str | None]] = {}
        self.stopping = asyncio.Event()
        self._skip_waiting = asyncio.Event()

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
        self._listeners.start()

    def stop(self) -> None:
        """End within `drain`. A second call does not wait for what runs."""
        if self.stopping.is_set():
            self._skip_waiting.set()
        self.stopping.set()
        self.app.is_leaving = True
        self._tell_all(Leave(), but=None)

    async def end(self) -> None:
        """Wait until the workers have ended by themselves, as they were told; kill those that have not."""
        snapshot = self._configuration.snapshot
        await self._wait(lambda: False, snapshot.shutdown_delay)
        self._refusing.close()
        self._listeners.close()
        self.app.jobs.drain()
        scheduler = self.app.jobs.scheduler
        await self._wait(lambda: not (self._alive or scheduler.at_risk), snapshot.drain)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                while self._alive:  # noqa: ASYNC110  (they have been told)
                    await asyncio.sleep(_LOOK_S)

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (condition() or self._skip_waiting.is_set()):  # noqa: ASYNC110  (two conditions, once)
                    await asyncio.sleep(_LOOK_S)

    @property
    def _alive(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers.values() if not worker.has_ended]

    async def close(self) -> None:
        """End all workers that are left, and close everything."""
        self.stopping.set()
        for worker in self._alive:
            _log.warning("worker %d has not ended, and is killed", worker.number)
            worker.kill()
        while self._alive:  # noqa: ASYNC110  (killed processes end)
            await asyncio.sleep(_LOOK_S)
        for task in self._tasks:
            task.cancel()
        self._refusing.close()
        self._listeners.close()
        self._forwarded.close()
        await self.app.close()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- workers that come and go

    def _begin(self, number: int) -> None:
        listening = self._listeners.of_workers[number - 1]
        try:
            worker = WorkerProcess(number, self, self._packed, listening, self._environment)
        except OSError as error:
            self._failed_to_begin(number, (error.strerror or str(error)).lower())
            return
        self._workers[number] = worker
        if open_now := self._circuits.open_now():
            worker.send(Circuits(tuple(open_now)))

    def serves(self, worker: WorkerProcess) -> None:
        """The worker accepts connections."""
        begun = self._begun.get(worker.number)
        if begun is not None and not begun.done():
            begun.set_result(None)
        elif worker.number in self._whys:
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
        serving = [worker for worker in self._workers.values() if worker.is_serving]
        sums: dict[str, float] = {"kyma_workers": len(serving)}
        for worker in serving:
            for name, value in worker.gauges.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums

    # ---- the configuration

    async def _prepare(self, snapshot: Snapshot) -> None:
        """Have all workers get ready for a snapshot. Raises StartError if one of them can't take it: then none does."""
        await self._prepare_here(snapshot)
        content = await asyncio.to_thread(packed, snapshot)
        self._version += 1
        version = self._version
        ready = (worker.prepare(version, Prepare(version), content) for worker in self._alive)
        try:
            async with asyncio.timeout(_PREPARE_S):
                whys = [why for why in await asyncio.gather(*ready) if why is not None]
        except TimeoutError:
            raise StartError(f"a worker was not ready for it within {_PREPARE_S:g} s") from None
        if whys:
            raise StartError(whys[0])

    def _apply(self) -> None:
        """The snapshot is in force; also in a worker that has begun since the others got ready for it."""
        snapshot, version = self._configuration.snapshot, self._version
        self._packed = packed(snapshot)
        for worker in self._alive:
            if worker.prepared != version:
                self._spawn(worker.prepare(version, Prepare(version), self._packed))
            worker.send(Apply(version))
