"""Builds every object that has state, once, and hands each the objects that it needs. Nothing else constructs them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final

from aiohttp import web
from aiohttp.resolver import AsyncResolver

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.core.accounts.limits import Windows
from kyma_proxy.core.accounts.reservation import Holds
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.core.http.web_pages import admin_policy
from kyma_proxy.core.jobs.job import Job
from kyma_proxy.core.routing.breaker import OPEN
from kyma_proxy.core.routing.breaker_table import BreakerTable
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
from kyma_proxy.net.sweeper import Sweeper
from kyma_proxy.net.upstream.client import UpstreamClient
from kyma_proxy.net.upstream.dialing import Addresses, Dialer
from kyma_proxy.net.upstream.pool import UpstreamPool
from kyma_proxy.net.worker import Worker
from kyma_proxy.ops import memory
from kyma_proxy.ops.health_checks import HealthChecks
from kyma_proxy.ops.reload import Configuration
from kyma_proxy.telemetry.access_log import AccessLog
from kyma_proxy.telemetry.counters import Counters
from kyma_proxy.telemetry.metrics import CountersCollector, registry, render
from kyma_proxy.telemetry.record import Record
from kyma_proxy.telemetry.recording import job_record
from kyma_proxy.web.account_pages import AccountPages
from kyma_proxy.web.admin import admin_application
from kyma_proxy.web.admin_accounts import AdminAccounts
from kyma_proxy.web.application import PublicPages, application
from kyma_proxy.web.control_plane_bridge import ControlPlaneBridge
from kyma_proxy.web.image_pages import ImagePages

_MAX_LAST_CHANGES_S: Final = 6.0
_MAX_ADMIN_CONNECTIONS: Final = 128
_MAX_ADMIN_BODY_BYTES: Final = 2**20


def _references() -> Callable[[], str]:
    """Makes names for charges that no other charge has, of this process or another; later names sort after earlier ones."""
    prefix = f"{time.time_ns():x}-{os.urandom(4).hex()}"
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):09x}"


class _AdminHandlers:
    """The admin listener relays nothing, and its requests are neither counted nor logged."""

    def relay(self, inbound: Inbound, downstream: DownstreamConnection) -> Coroutine[Any, Any, None]:
        """Raises NotImplementedError: the listener has no paths of relayed endpoints."""
        raise NotImplementedError

    def screen(self, head: RequestHead, headers: Headers) -> int:
        """The most bytes that a body may have."""
        return _MAX_ADMIN_BODY_BYTES

    def reject(self, error: GatewayError, request_id: str) -> None:
        """Take no note."""


def _not_logged(record: Record) -> None:
    """Write nothing."""


class App:
    """The objects of the running program. Construct it inside the loop that runs it; `close` ends it."""

    def __init__(
        self,
        configuration: Configuration,
        access_log: AccessLog | None,
        account_service: AccountService | None = None,
        *,
        jobs_timing: Timing = DEFAULT_TIMING,
    ) -> None:
        """Build everything. `close` also closes `access_log` and the store. Without `account_service` anybody may call."""
        current = configuration.current
        self.sweeper = Sweeper(monotonic)
        self.counters = Counters()
        self.access_log = access_log
        self.addresses = Addresses(AsyncResolver(), monotonic)
        self.upstreams = UpstreamPool(Dialer(self.addresses), self.sweeper)
        client = UpstreamClient(self.upstreams)
        self.breakers = BreakerTable()
        self.account_service = account_service
        self.meter: Meter | None = None
        if account_service is not None:
            self.meter = Meter(account_service.accounts, account_service.store, _references(), Windows(), Holds())
        loop = self._loop = asyncio.get_running_loop()
        self.is_leaving = False  # from the signal that ends the process on: readiness says no
        self.worker = Worker(loop.call_soon_threadsafe, monotonic, memory.size_bytes() // 4)
        self.gateway = Gateway(
            current, self.upstreams, self.counters, self.access_log, breakers=self.breakers, random=random.random,
            large_bodies=LargeBodies(loop, Slices(loop.call_soon), self.worker), meter=self.meter,
        )  # fmt: skip
        self.public_pages = PublicPages(current, self._is_leaving, self.breakers, monotonic)
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
        self.control_plane = application(self.public_pages, images, pages)
        self._control_plane = web.AppRunner(self.control_plane, access_log=None, handler_cancellation=True)
        self.listener = Listener(current, self.sweeper, memory.size_bytes() // 4, relayed=RELAYED)
        self.admin_listener = Listener(
            current, self.sweeper, memory.size_bytes() // 4, policy=admin_policy, max_connections=_MAX_ADMIN_CONNECTIONS
        )
        self.admin_application = admin_application(
            current, self._is_leaving, self._metrics, lambda: configuration.reload("POST /admin/reload"),
            admin_pages, status=lambda: self.public_pages.full_status,
        )  # fmt: skip
        self._admin = web.AppRunner(self.admin_application, access_log=None)
        self._health_checks = HealthChecks(current, client, self.breakers, random.random)
        self._checking: asyncio.Task[None] | None = None
        collector = CountersCollector(
            self.counters, self._gauges(), reloads=configuration.reloads, health_checks=self._health_checks.results,
            open_breakers=self._open_breakers, jobs=self.jobs.scheduler.ended,
        )  # fmt: skip
        self._registry = registry(collector)
        self._current = current
        configuration.on_change(self._apply_snapshot)

    async def open(self) -> None:
        """Start the periodic work: deadlines, flushes of the log, warm connections, health checks."""
        await self._control_plane.setup()
        await self._admin.setup()
        if self.access_log is not None:
            self.sweeper.every_tick(self.access_log.flush)
        if self.meter is not None:
            meter = self.meter
            self.sweeper.every_tick(lambda: meter.sweep(monotonic()))
        self.jobs.open()
        self.sweeper.every_tick(self.jobs.sweep)
        self.sweeper.every_tick(self.worker.sweep)
        self.sweeper.start(self._loop)
        self._checking = self._loop.create_task(self._health_checks.run())
        self._apply_snapshot()

    def _apply_snapshot(self) -> None:
        """Adapt to the snapshot in force: judge heads anew, open warm connections, drop breakers of sources that are gone."""
        self.listener.apply_snapshot()
        self.admin_listener.apply_snapshot()
        snapshot = self._current()
        sources = [source for model in snapshot.models.values() for source in each_key((*model.pool, *model.reserve))]
        used = {
            source.provider.origin: source.provider
            for model in snapshot.models.values()
            for source in model.pool
            if not model.is_image
        }
        self.upstreams.warm(provider for provider in used.values() if provider.off is None)
        self.breakers.retain(sources, snapshot.models)

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

    def _metrics(self) -> bytes:
        return render(self._registry)

    def _open_breakers(self) -> dict[tuple[str, str], dict[str, bool]]:
        """For each source that is on, by provider and provider's model id, and each endpoint: True if its breaker is open."""
        models = self._current().models.values()
        now = monotonic()
        found: dict[tuple[str, str], dict[str, bool]] = {}
        for source in each_key(source for model in models for source in (*model.pool, *model.reserve)):
            if source.provider.off is None:
                opened = found.setdefault((source.provider.name, source.model), {})
                for endpoint, breaker in self.breakers.endpoints_of(source.key).items():  # all keys must be out of use
                    opened[endpoint] = opened.get(endpoint, True) and breaker.state(now) == OPEN
        return found

    def _gauges(self) -> dict[str, Callable[[], float]]:
        scheduler = self.jobs.scheduler
        gauges: dict[str, Callable[[], float]] = {
            "kyma_in_flight": lambda: self.gateway.in_flight,
            "kyma_connections": lambda: len(self.listener.connections),
            "kyma_provider_connections": lambda: self.upstreams.statistics()["open"],
            "kyma_provider_connections_idle": lambda: self.upstreams.statistics()["idle"],
            "kyma_jobs_active": lambda: len(scheduler),
            "kyma_jobs_unwritten": lambda: scheduler.awaiting_write,
            "kyma_jobs_running": lambda: scheduler.running,
            "kyma_access_log_lost_lines": lambda: self.access_log.lost_lines if self.access_log else 0,
        }
        if self.account_service is not None:
            accounts, store = self.account_service.accounts, self.account_service.store
            gauges |= {
                "kyma_accounts": lambda: len(accounts),
                "kyma_charges_waiting": lambda: store.waiting,
                "kyma_charges_lost": lambda: store.statistics().lost,
                "kyma_accounts_failing": lambda: int(store.is_failing),
            }
        return gauges

    async def close(self) -> None:
        """Close everything; requests in progress are cut."""
        for downstream in [*self.listener.connections, *self.admin_listener.connections]:
            downstream.abort()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        self.jobs.drain()
        await self._control_plane.cleanup()
        await self._admin.cleanup()
        with contextlib.suppress(TimeoutError):  # a disk that is stuck must not keep the process
            async with asyncio.timeout(_MAX_LAST_CHANGES_S):
                await self.jobs.close()
                if self.account_service is not None:
                    await self.account_service.drain()
        await self.upstreams.close()
        await self.addresses.close()
        self.sweeper.stop()
        await asyncio.to_thread(self.worker.close)
        if self.account_service is not None:
            await asyncio.to_thread(self.account_service.store.close)
        if self.access_log is not None:
            self.access_log.close()
