"""Builds every object that has state, once, and hands each the objects that it needs. Nothing else constructs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import monotonic
from typing import Any, Final

from aiohttp import web
from aiohttp.resolver import AsyncResolver

from kyma_proxy.accounting.activity import Activity
from kyma_proxy.accounting.meter import Meter
from kyma_proxy.accounting.references import References
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.origin import Origin
from kyma_proxy.config.snapshot import Provider, Snapshot
from kyma_proxy.core.accounts.limits import Windows
from kyma_proxy.core.accounts.reservation import Holds
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.core.http.web_pages import admin_policy
from kyma_proxy.core.jobs.job import Job
from kyma_proxy.core.routing.breaker_table import BreakerTable, Survey
from kyma_proxy.core.routing.plan import each_key
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.errors import GatewayError
from kyma_proxy.gateway import Gateway
from kyma_proxy.jobs.repository import JobRepository
from kyma_proxy.jobs.service import JobService
from kyma_proxy.jobs.timing import DEFAULT_TIMING, Timing
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.net.downstream.listener import Listener
from kyma_proxy.net.relay.large_bodies import LargeBodies
from kyma_proxy.net.slices import Slices
from kyma_proxy.net.small_slices import in_slices
from kyma_proxy.net.sweeper import Sweeper
from kyma_proxy.net.upstream.client import UpstreamClient
from kyma_proxy.net.upstream.dialing import Addresses, Dialer
from kyma_proxy.net.upstream.pool import UpstreamPool
from kyma_proxy.net.worker import Worker
from kyma_proxy.ops import memory
from kyma_proxy.ops.health_checks import HealthChecks
from kyma_proxy.ops.in_force import InForce
from kyma_proxy.ops.live_state import BUILD, LiveState
from kyma_proxy.ops.model_lists import ModelLists
from kyma_proxy.telemetry.access_log import LogLines
from kyma_proxy.telemetry.counters import Counters
from kyma_proxy.telemetry.metrics import Metrics
from kyma_proxy.telemetry.record import Record
from kyma_proxy.telemetry.recording import job_record
from kyma_proxy.telemetry.source_notices import SourceNotices
from kyma_proxy.web.account_pages import AccountPages
from kyma_proxy.web.admin import admin_application
from kyma_proxy.web.admin_accounts import AdminAccounts
from kyma_proxy.web.application import PublicPages, application
from kyma_proxy.web.control_plane_bridge import ControlPlaneBridge
from kyma_proxy.web.image_pages import ImagePages
from kyma_proxy.web.reload_documents import COMPARE_PATH, MAX_FORM_BYTES
from kyma_proxy.web.served_paths import ServedPaths

_MAX_LAST_CHANGES_S: Final = 6.0
_MAX_ADMIN_CONNECTIONS: Final = 128
_MAX_ADMIN_BODY_BYTES: Final = 2**20


def _meter_of(account_service: AccountService | None) -> Meter | None:
    if account_service is None:
        return None
    references = References(f"{time.time_ns():x}-{os.urandom(4).hex()}")
    return Meter(account_service.accounts, account_service.store, references, Windows(), Holds())


class _AdminHandlers:
    """The admin listener relays nothing, and its requests are neither counted nor logged."""

    def relay(self, inbound: Inbound, downstream: DownstreamConnection) -> Coroutine[Any, Any, None]:
        """Raises NotImplementedError: the listener has no paths of relayed endpoints."""
        raise NotImplementedError

    def screen(self, head: RequestHead, headers: Headers) -> int:
        """The most bytes that a body may have."""
        return MAX_FORM_BYTES if head.path == COMPARE_PATH.encode() else _MAX_ADMIN_BODY_BYTES

    def reject(self, error: GatewayError, request_id: str) -> None:
        """Take no note."""


class _Prepared:
    """Facts about all models of a snapshot, that take a while to find if there are thousands."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.entries = snapshot.entries
        self.survey = Survey()
        self.used: dict[Origin, Provider] = {}

    def steps(self) -> Generator[None, None, None]:
        """Find them, one model in each step."""
        for model in self.entries:
            self.survey.models.add(model.id)
            for source in each_key((*model.pool, *model.reserve)):
                self.survey.add(source)
            if not model.is_image:
                self.used.update((source.provider.origin, source.provider) for source in model.pool)
            yield


def _not_logged(record: Record) -> None:
    """Write nothing."""


async def _wait_for_nobody() -> None:
    """Wait for nothing."""


class App:
    """The objects of the running program. Construct it inside the loop that runs it; `close` ends it."""

    def __init__(
        self, configuration: InForce, access_log: LogLines | None, account_service: AccountService | None = None, *,
        jobs_timing: Timing = DEFAULT_TIMING, processes: int = 1, relays: bool = True,
    ) -> None:  # fmt: skip
        """Build everything. `close` also closes `access_log` and the store. Without `account_service` anybody may call.

        `processes` is the number of those that share the memory. Without `relays` others relay the requests.
        """
        current = configuration.current
        memory_bytes = memory.size_bytes() // (4 * processes)
        self.sweeper, self.counters, self.access_log = Sweeper(monotonic), Counters(), access_log
        self.addresses = Addresses(AsyncResolver(), monotonic)
        self.upstreams = UpstreamPool(Dialer(self.addresses), self.sweeper)
        client = UpstreamClient(self.upstreams)
        self.breakers = BreakerTable()
        self.account_service = account_service
        self.meter = _meter_of(account_service)
        loop = self._loop = asyncio.get_running_loop()
        self.before_store_closes: Callable[[], None] = lambda: None
        self.before_scrape: Callable[[], Awaitable[None]] = _wait_for_nobody
        self.is_leaving = False  # from the signal that ends the process on: readiness says no
        self.worker = Worker(loop.call_soon_threadsafe, monotonic, memory_bytes)
        self.gateway = Gateway(
            current, self.upstreams, self.counters, self.access_log, breakers=self.breakers, random=random.random,
            large_bodies=LargeBodies(loop, Slices(loop.call_soon), self.worker), meter=self.meter,
        )  # fmt: skip
        self.model_lists = ModelLists(current, client)
        self.public_pages = PublicPages(current, self._is_leaving, self.breakers, monotonic, self.model_lists.listed)
        pages = admin_pages = None
        if account_service is not None and self.meter is not None:
            pages = AccountPages(current, account_service, self.meter, clock=monotonic, wall=time.time)
            admin_pages = AdminAccounts(current, account_service)
        self.jobs = JobService(
            current, JobRepository(account_service, lambda: asyncio.sleep(jobs_timing.write_retry)), client,
            self.breakers, clock=monotonic, wall=time.time, random=random.random, random_bytes=os.urandom,
            on_ended=self._log_job, meter=self.meter, timing=jobs_timing,
        )  # fmt: skip
        images = ImagePages(current, self.jobs, self.meter, wall=time.time)
        # A handler is cancelled if its caller leaves; what must not be left half done runs in tasks of its own.
        self.control_plane = application(self.public_pages, images, pages, self._dashboard(current))
        self._control_plane = web.AppRunner(self.control_plane, access_log=None, handler_cancellation=True)
        self.listener = Listener(current, self.sweeper, memory_bytes, relayed=RELAYED)
        self.admin_listener = Listener(
            current, self.sweeper, memory_bytes, policy=admin_policy, max_connections=_MAX_ADMIN_CONNECTIONS
        )
        self.admin_application = admin_application(
            current, self._is_leaving, self._metrics, lambda: configuration.reload("POST /admin/reload"), admin_pages,
            preview=configuration.preview, compare=configuration.compare, status=lambda: self.public_pages.full_status,
        )  # fmt: skip
        self._admin = web.AppRunner(self.admin_application, access_log=None)
        self.listener.unserved = ServedPaths(self.control_plane, RELAYED).refusal
        self.admin_listener.unserved = ServedPaths(self.admin_application).refusal
        self._health_checks = HealthChecks(current, client, self.breakers, random.random)
        self._periodic: list[asyncio.Task[None]] = []
        self.live_state, self.activity = self._live_state(configuration), self._activity(current)
        self._scraped = self._scraped_metrics(configuration)
        self._current, self._relays = current, relays
        self._prepared: _Prepared | None = None
        configuration.prepare = self._prepare
        configuration.on_change(self._apply_snapshot)

    def _dashboard(self, current: Callable[[], Snapshot]) -> Callable[[web.Application], None] | None:
        """A function that adds the dashboard to the control plane; None if it is off, and then nothing of it is imported."""
        dashboard, account_service, meter = current().dashboard, self.account_service, self.meter
        if dashboard is None or account_service is None or meter is None:
            return None
        from kyma_proxy.web.dashboard.site import add_dashboard  # noqa: PLC0415  see above

        return lambda app: add_dashboard(
            app, dashboard.public_url, current, account_service, meter, status=lambda: self.public_pages.status,
            listed=self.model_lists.listed, clock=monotonic, wall=time.time, random_bytes=os.urandom,
        )  # fmt: skip

    async def open(self, *, opens_jobs: bool = True, looks_after_sources: bool = True) -> None:
        """Start the periodic work: deadlines, flushes of the log, warm connections, health checks, lists of models.

        Without `opens_jobs` the jobs from before the start are left to the caller. Without `looks_after_sources` another
        process checks them, lists their models, and tells of those that fail.
        """
        await self._control_plane.setup()
        await self._admin.setup()
        if self.access_log is not None:
            self.sweeper.every_tick(self.access_log.flush)
        if self.meter is not None:
            meter = self.meter
            self.sweeper.every_tick(lambda: meter.sweep(monotonic()))
        if opens_jobs:
            self.jobs.open()
        self.sweeper.every_tick(self.jobs.sweep)
        if self.activity is not None:
            self.sweeper.every_tick(self.activity.sweep)
        self.sweeper.every_tick(self.worker.sweep)
        if looks_after_sources:
            self.sweeper.every_tick(SourceNotices(self._current, self.breakers, monotonic).sweep)
            self._periodic = [self._loop.create_task(run()) for run in (self._health_checks.run, self.model_lists.run)]
        self.sweeper.start(self._loop)
        self._apply_snapshot()

    def _apply_snapshot(self) -> None:
        """Adapt to the snapshot in force: judge heads anew, open warm connections, drop breakers of sources that are gone."""
        self.listener.apply_snapshot()
        self.admin_listener.apply_snapshot()
        snapshot = self._current()
        prepared = self._prepared
        if prepared is None or prepared.entries is not snapshot.entries:  # at the start
            prepared = _Prepared(snapshot)
            for _ in prepared.steps():
                pass
        self._prepared = None
        if self._relays:
            self.upstreams.warm(provider for provider in prepared.used.values() if provider.off is None)
        self.model_lists.apply_snapshot()
        self.breakers.retain_surveyed(prepared.survey)

    async def _prepare(self, snapshot: Snapshot) -> None:
        """Look at all models of a snapshot that is not in force yet; the loop serves others meanwhile."""
        prepared = _Prepared(snapshot)
        await in_slices(prepared.steps())
        self._prepared = prepared

    def _is_leaving(self) -> bool:
        return self.is_leaving or self.listener.is_draining

    def downstream(self) -> DownstreamConnection:
        """The protocol of a new connection of the public listener."""
        return DownstreamConnection(self.listener, self.gateway, self._bridge, self._loop)

    def admin_downstream(self) -> DownstreamConnection:
        """The protocol of a new connection of the admin listener."""
        return DownstreamConnection(self.admin_listener, _AdminHandlers(), self._admin_bridge, self._loop)

    def _bridge(self, downstream: DownstreamConnection) -> ControlPlaneBridge:
        return ControlPlaneBridge(self._control_plane, downstream, self._current().limits.max_head, self._log)

    def _admin_bridge(self, downstream: DownstreamConnection) -> ControlPlaneBridge:
        return ControlPlaneBridge(self._admin, downstream, self._current().limits.max_head, _not_logged)

    def _log(self, record: Record) -> None:
        if self.access_log is not None:
            self.access_log.write(record)

    def _log_job(self, job: Job) -> None:
        self._log(job_record(job, time.time()))

    def _activity(self, current: Callable[[], Snapshot]) -> Activity | None:
        """Keeps the requests of accounts; None without accounts, or without the log whose lines it takes."""
        if self.account_service is None or self.access_log is None:
            return None
        activity = Activity(current, self.account_service.store, clock=monotonic, wall=time.time)
        self.access_log.also = activity.take
        return activity

    def _live_state(self, configuration: InForce) -> LiveState:
        return LiveState(
            configuration, serving=self.gateway, listener=self.listener, upstreams=self.upstreams, breakers=self.breakers,
            jobs=self.jobs, access_log=self.access_log, account_service=self.account_service,
        )  # fmt: skip

    def _scraped_metrics(self, configuration: InForce) -> Metrics:
        return Metrics(
            self.counters, self.live_state, BUILD, reloads=configuration.reloads, health_checks=self._health_checks.results,
            jobs=self.jobs.scheduler.ended,
        )  # fmt: skip

    async def _metrics(self, media_type: str) -> bytes:
        """A scrape; other work is done between its pieces."""
        await self.before_scrape()
        pieces = []
        for piece in self._scraped.pieces(media_type):
            pieces.append(piece)
            await asyncio.sleep(0)
        return b"".join(pieces)

    async def close(self) -> None:
        """Close everything; requests in progress are cut."""
        for listener in (self.listener, self.admin_listener):
            for downstream in [*listener.connections, *listener.refused]:
                downstream.abort()
        for task in self._periodic:
            task.cancel()
        await asyncio.gather(*self._periodic, return_exceptions=True)
        self.jobs.drain()
        await self._control_plane.cleanup()
        await self._admin.cleanup()
        with contextlib.suppress(TimeoutError):  # a disk that is stuck must not keep the process
            async with asyncio.timeout(_MAX_LAST_CHANGES_S):
                await self.jobs.close()
                if self.activity is not None and self.access_log is not None:
                    self.access_log.flush()
                    await self.activity.close()
                if self.account_service is not None:
                    await self.account_service.drain()
        await self.upstreams.close()
        await self.addresses.close()
        self.sweeper.stop()
        await asyncio.to_thread(self.worker.close)
        if self.account_service is not None:
            self.before_store_closes()
            await asyncio.to_thread(self.account_service.store.close)
        if self.access_log is not None:
            self.access_log.close()
