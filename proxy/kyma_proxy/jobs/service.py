"""Takes in image jobs, finds, lists and cancels them. (Contract §10.)

The jobs from before the start are settled by `EarlierJobs`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import heapq
import hmac
import itertools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import msgspec

from kyma_proxy.accounting.meter import Meter, insufficient_credits
from kyma_proxy.config.snapshot import Route, Snapshot
from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.core.jobs.job import AcceptedBy, ImageRequest, Job, JobEvent, JobState
from kyma_proxy.core.jobs.price import image_price
from kyma_proxy.core.jobs.request import ImageJobRequest
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import exhausted
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable, draining
from kyma_proxy.jobs.earlier_jobs import EarlierJobs, JobElsewhere
from kyma_proxy.jobs.provider_client import ProviderClient
from kyma_proxy.jobs.repository import JobRepository
from kyma_proxy.jobs.runner import JobRunner
from kyma_proxy.jobs.scheduler import JobScheduler
from kyma_proxy.jobs.timing import DEFAULT_TIMING, Timing
from kyma_proxy.net.upstream.client import UpstreamClient

_ID_BYTES: Final = 16
_DIGEST_BYTES: Final = 16
LISTED_DAYS: Final = 30
"""How long an account's jobs are listed. Their cost stays in the ledger."""
_DAY_S: Final = 86_400
_LAST_CANCELS_S: Final = 1.0
_COUNTED_FOR_MODEL: Final = frozenset({JobEvent.DELIVER, JobEvent.FAIL, JobEvent.EXPIRE})
_T = TypeVar("_T")


class JobService:
    """All image jobs of this process. Construct it inside the loop, then call `open`, and `close` at the end.

    `clock` is monotonic, `wall` is Unix time; `on_ended` is called with each job that has ended.
    """

    def __init__(
        self, current: Callable[[], Snapshot], repository: JobRepository, client: UpstreamClient, breakers: BreakerTable,
        *, clock: Callable[[], float], wall: Callable[[], float], random: Callable[[], float],
        random_bytes: Callable[[int], bytes], on_ended: Callable[[Job], None], meter: Meter | None = None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:  # fmt: skip
        self._current = current
        self._repository = repository
        self._breakers = breakers
        self._clock = clock
        self._wall = wall
        self._random_bytes = random_bytes
        self._numbers = itertools.count(1)
        self._by_key: WeakValueDictionary[tuple[str, str], Job] = WeakValueDictionary()
        self._being_stored: dict[tuple[str, str], asyncio.Task[Job]] = {}
        self._being_taken_in: set[asyncio.Task[Job]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._delete_at = 0.0
        self._on_ended = on_ended
        self._meter = meter
        self.scheduler = JobScheduler(
            current, repository, timing, wall=wall, withdraw=self._withdraw, on_ended=self._job_ended
        )  # fmt: skip
        self._provider_client = ProviderClient(client, timing, clock=clock, running=lambda: self.scheduler.running)
        self._runner = JobRunner(
            self._provider_client, breakers, timing, clock=clock, random=random,
            mark_accepted=self._mark_accepted, cancel_remote=self._cancel_at_source,
        )  # fmt: skip
        self.earlier = EarlierJobs(current, repository, self.scheduler, self._runner, wall)

    # ---- for callers

    async def submit(self, request: ImageJobRequest, key: Key | None, request_id: str) -> tuple[Job, bool]:
        """Take in a job, with True; or return the job that has its idempotency key, with False: that one counts for no limit.

        Raises GatewayError, StoreUnavailable.
        """
        account = None if key is None else key.account
        scope = None if request.idempotency_key is None else (_account_id(account), request.idempotency_key)
        if scope is not None and (earlier := await self._find_by_key(scope, account)) is not None:
            return _check_same_request(earlier, request), False
        if self.scheduler.is_draining:
            raise draining()
        job = self._new_job(request, key, request_id)
        self._admit(job, request.route, key)
        task = self._spawn(self._store_and_start(job, request.route))
        self._being_taken_in.add(task)
        task.add_done_callback(self._being_taken_in.discard)
        if scope is not None:
            self._being_stored[scope] = task
            task.add_done_callback(lambda done: self._stored(scope, done))
        stored = await asyncio.shield(task)
        return (job, True) if stored is job else (_check_same_request(stored, request), False)

    async def find(self, account: Account | None, ident: str) -> Job | None:
        """An account's job; None if the account has no such job, even if another account has. Raises StoreUnavailable."""
        job = self.scheduler.get(ident)
        if job is not None:
            return job if job.account is account else None
        stored = None if account is None else await self._repository.find(account, ident)
        return None if stored is None else self._freshest(stored)

    async def newest(self, account: Account | None, before: str | None, limit: int) -> list[Job]:
        """An account's jobs, newest first; only those older than the job `before`. Raises GatewayError, StoreUnavailable."""
        if account is None or not self._repository.is_persistent:
            return self._newest_in_memory(before, limit)
        first = None if before is None else await self._repository.find(account, before)
        if before is not None and first is None:
            raise _no_such_job()
        stored = await self._repository.newest(account, None if first is None else first.number, limit)
        return [self._freshest(job) for job in stored]

    async def wait(self, job: Job, seconds: float) -> None:
        """Wait for a job's end, at most this long. Returns at once while the gateway drains."""
        await self.scheduler.wait(job.id, seconds)

    async def cancel(self, job: Job) -> None:
        """End a job early if no source has begun it. Otherwise it goes on, and what is delivered is charged."""
        self.scheduler.stop(job.id, JobEvent.CANCEL)
        await self.scheduler.wait_stopped(job.id)

    def mark_delivered(self, job: Job) -> None:
        """Record that a caller has had the pictures, if the job has any."""
        if job.state is JobState.SUCCEEDED and job.pictures:
            self._repository.mark_delivered(job)

    # ---- from the start of the process to its end

    def open(self, elsewhere: Mapping[str, JobElsewhere] = MappingProxyType({})) -> None:
        """Settle the jobs from before the start, but for those that another process has."""
        self.earlier.elsewhere.update(elsewhere)
        self.earlier.settle()

    def sweep(self) -> None:
        """Drop ended jobs from memory after an hour, and from the store after 30 days."""
        now = self._wall()
        self.scheduler.finished.sweep(int(now))
        if now >= self._delete_at:
            self._delete_at = now + _DAY_S
            self._spawn(self._repository.delete_before(int(now) - LISTED_DAYS * _DAY_S))

    def drain(self) -> None:
        """Refuse new jobs, and end all waits."""
        self.scheduler.drain()

    async def pause(self) -> None:
        """Refuse new jobs and end all waits, until `go_on`. Those that run go on, but none of them is settled."""
        self.scheduler.drain()
        self._repository.may_settle.clear()
        await asyncio.gather(*self._being_taken_in, return_exceptions=True)

    def go_on(self) -> None:
        """Take in jobs again."""
        self.scheduler.is_draining = False
        self.settle_again()

    def settle_again(self) -> None:
        """Settle the jobs that run to their end."""
        self._repository.may_settle.set()

    async def close(self) -> None:
        """End everything. If there is a store, a job that a source has accepted continues after the next start."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.scheduler.close()
        if self._tasks:  # cancellations at sources; only a fast answer is waited for
            _, late = await asyncio.wait(self._tasks, timeout=_LAST_CANCELS_S)
            for task in late:
                task.cancel()
        await self._repository.flush()

    # ---- one job

    def _new_job(self, wanted: ImageJobRequest, key: Key | None, request_id: str) -> Job:
        request, model = wanted.request, wanted.route.model
        account = None if key is None else key.account
        price = image_price(model.price, request)
        ident = f"job_{self._random_bytes(_ID_BYTES).hex()}"
        job = Job(ident, account=account, model=model.id, n=request.n, price=price, created=self._wall())
        job.number = next(self._numbers)
        job.request, job.alias, job.request_id = request, wanted.alias, request_id
        if key is not None:
            job.key_id, job.key_prefix = key.id, key.prefix
        if wanted.idempotency_key is not None:
            job.idempotency_key, job.digest = wanted.idempotency_key, _digest(ident, request)
        return job

    def _admit(self, job: Job, route: Route, key: Key | None) -> None:
        """Take a slot and a place in the account's minute, and hold the cost of a job, or nothing. Raises GatewayError."""
        if route.is_empty:
            raise exhausted(route.model.id, (), are_named=key is None)
        account = job.account
        if self._repository.is_failing:
            raise accounts_unavailable()
        if account is not None and not account.can_afford(job.held):
            raise insufficient_credits(account, job.held, self._current().accounts.top_up, "ask for fewer images")
        self.scheduler.admit(job)
        if self._meter is not None and key is not None:
            try:
                self._meter.admit_job(key, route.model.id, self._current().tiers, self._clock())
            except GatewayError:
                self.scheduler.dismiss(job)
                raise
        self._repository.hold(job)

    async def _store_and_start(self, job: Job, route: Route) -> Job:
        """Store an admitted job and start it; or dismiss it, and return the job that has its idempotency key."""
        try:
            older = await self._repository.add(job)
        except BaseException:
            self.scheduler.dismiss(job)
            raise
        if older is not None:
            self.scheduler.dismiss(job)
            return self._freshest(older)
        if not self._repository.is_persistent and job.idempotency_key is not None:
            self._by_key[_account_id(job.account), job.idempotency_key] = job
        self.scheduler.start(job, functools.partial(self._runner.run, job, route))
        return job

    async def _find_by_key(self, scope: tuple[str, str], account: Account | None) -> Job | None:
        """The job that has an account's idempotency key, even if it is only being stored."""
        if account is not None and scope not in self._being_stored:
            stored = await self._repository.find_by_key(account, scope[1])
            if stored is not None:
                return self._freshest(stored)
        being_stored = self._being_stored.get(scope)  # it may have come while the store was read
        if being_stored is None:
            return self._by_key.get(scope)
        try:
            return await asyncio.shield(being_stored)
        except GatewayError:
            return None  # it was refused, so this one may be taken in

    def _freshest(self, stored: Job) -> Job:
        """A stored job as it is in memory, where it has more members; as it is stored if it is not there."""
        job = self.scheduler.get(stored.id)
        if job is None and self.earlier.is_elsewhere(stored) and stored.state is JobState.SUCCEEDED:
            stored.state = JobState.ACCEPTED  # its pictures are on their way
        return stored if job is None else job

    def _newest_in_memory(self, before: str | None, limit: int) -> list[Job]:
        jobs: Iterable[Job] = itertools.chain(self.scheduler, self.scheduler.finished)
        if before is not None:
            first = self.scheduler.get(before)
            if first is None:
                raise _no_such_job()
            jobs = (job for job in jobs if job.number < first.number)
        return heapq.nlargest(limit, jobs, key=lambda job: job.number)

    def _job_ended(self, job: Job, event: JobEvent) -> None:
        """A job has ended: cancel it at the source if the gateway has lost it, count it, and report it."""
        if event is JobEvent.LOSE and job.accepted_by is not None:
            self._cancel_at_source(job.accepted_by)
        if event in _COUNTED_FOR_MODEL:
            went_well = job.failure is None or job.failure.kind is Kind.INVALID_REQUEST
            self._breakers.of_model(job.model).add(self._clock(), succeeded=went_well)
        self._on_ended(job)

    async def _mark_accepted(self, job: Job) -> None:
        self.scheduler.accepted(job)
        await self._repository.mark_accepted(job)

    async def _withdraw(self, job: Job) -> bool:
        by = job.accepted_by
        source = None if by is None else by.source
        if by is None or source is None or not by.provider_jobs:
            return False
        is_withdrawn = True
        for name in by.provider_jobs:
            is_withdrawn = await self._provider_client.cancel(source, name) and is_withdrawn
        return is_withdrawn

    def _cancel_at_source(self, by: AcceptedBy) -> None:
        source = by.source
        if source is not None:
            for name in by.provider_jobs:
                self._spawn(self._provider_client.cancel(source, name))

    def _stored(self, scope: tuple[str, str], task: asyncio.Task[Job]) -> None:
        if self._being_stored.get(scope) is task:
            del self._being_stored[scope]

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _account_id(account: Account | None) -> str:
    return "" if account is None else account.id


def _digest(ident: str, request: ImageRequest) -> bytes:
    """Recognises a request when it comes again. It reveals nothing of the request, as it is keyed with the job's id."""
    digest = hashlib.blake2b(key=ident.encode(), digest_size=_DIGEST_BYTES)
    members = (request.model, request.n, request.size, request.extra, request.response_format, len(request.images))
    digest.update(msgspec.json.encode(members))
    for text in (request.prompt, *request.images):
        digest.update(b"%d:%b" % (len(text), text.encode()))
    return digest.digest()


def _check_same_request(job: Job, wanted: ImageJobRequest) -> Job:
    """The job, if its request was the same. Raises GatewayError if not."""
    if not hmac.compare_digest(job.digest, _digest(job.id, wanted.request)):
        raise GatewayError(
            Kind.CONFLICT,
            "The idempotency key was used for another request; send a new key with a new request.",
            param="idempotency_key",
        )
    return job


def _no_such_job() -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, "`before` must be the id of one of your jobs.", param="before")
