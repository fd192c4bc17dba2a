"""This file is where image jobs are handed in, asked for and cancelled. (Contract §10.)

At a start it looks after the jobs of before: what a source has taken goes on, and what can't is given back, as prompts are
never stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import hmac
import itertools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import msgspec

from kyma_proxy.accounting.meter import insufficient_credits
from kyma_proxy.config.snapshot import Route, Snapshot
from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.core.jobs.finished import KEPT_S
from kyma_proxy.core.jobs.job import ImageRequest, Job, JobEvent, JobState, Taken
from kyma_proxy.core.jobs.request import ImageJobRequest
from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.core.routing.failures import exhausted
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.jobs.provider_client import ProviderClient
from kyma_proxy.jobs.repository import JobRepository, job_of
from kyma_proxy.jobs.runner import JobRunner
from kyma_proxy.jobs.scheduler import JobScheduler, lost
from kyma_proxy.jobs.timing import USUAL, Timing
from kyma_proxy.net.upstream.client import UpstreamClient
from kyma_proxy.store.contract import JobRow

_ID_BYTES: Final = 16
_DIGEST_BYTES: Final = 16
KEPT_DAYS: Final = 30
"""So long an account's jobs are listed; what they cost stays in the ledger."""
_DAY_S: Final = 86_400
_CANCEL_S: Final = 10.0
_LAST_CALLS_S: Final = 1.0
_CALLED_OFF: Final = frozenset({JobEvent.CANCEL, JobEvent.EXPIRE, JobEvent.LOSE})
_TELLS_OF_THE_MODEL: Final = frozenset({JobEvent.DELIVER, JobEvent.FAIL, JobEvent.EXPIRE})
_T = TypeVar("_T")


class JobService:
    """All image jobs of this process. Made inside the loop; `open` begins, `close` ends.

    `clock` is monotonic, `wall` Unix time; `note` hears of every job that has ended.
    """

    def __init__(
        self, current: Callable[[], Snapshot], repository: JobRepository, calls: UpstreamClient, health: BreakerTable,
        *, clock: Callable[[], float], wall: Callable[[], float], random: Callable[[], float],
        random_bytes: Callable[[int], bytes], note: Callable[[Job], None], timing: Timing = USUAL,
    ) -> None:  # fmt: skip
        self._current = current
        self._repository = repository
        self._health = health
        self._clock = clock
        self._wall = wall
        self._random_bytes = random_bytes
        self._numbers = itertools.count(1)
        self._by_key: WeakValueDictionary[tuple[str, str], Job] = WeakValueDictionary()
        self._arriving: dict[tuple[str, str], asyncio.Task[Job]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._forgets_at = 0.0
        self._note = note
        self.scheduler = JobScheduler(current, repository, timing, wall=wall, note=self._ended)
        self._provider_client = ProviderClient(calls, timing, clock=clock, running=lambda: self.scheduler.running)
        self._runner = JobRunner(
            self._provider_client, health, timing, clock=clock, random=random, keep=repository.accepted, call_off=self._call_off
        )

    # ---- what callers ask for

    async def submit(self, wanted: ImageJobRequest, key: Key | None, request_id: str) -> tuple[Job, bool]:
        """Take a job in; or give the one that has its idempotency key, with False. Raises GatewayError, StoreUnavailable."""
        account = None if key is None else key.account
        named = None if wanted.idempotency_key is None else (_name(account), wanted.idempotency_key)
        if named is not None and (known := await self._known(named, account)) is not None:
            return _the_same(known, wanted), False
        if self.scheduler.is_draining:
            raise GatewayError(Kind.DRAINING, "The gateway is going down; send the request again.")
        job = self._made(wanted, key, request_id)
        self._admit(job, wanted.route)
        task = self._spawn(self._take_in(job, wanted.route))
        if named is not None:
            self._arriving[named] = task
            task.add_done_callback(lambda ended: self._arrived(named, ended))
        kept = await asyncio.shield(task)
        return (job, True) if kept is job else (_the_same(kept, wanted), False)

    async def find(self, account: Account | None, ident: str) -> Job | None:
        """An account's job; None where it has no such job, even where another has. Raises StoreUnavailable."""
        job = self.scheduler.get(ident)
        if job is not None:
            return job if job.account is account else None
        account_service = self._repository.account_service
        row = None if account_service is None or account is None else await account_service.store.job(account.id, ident)
        return None if row is None else self._job_of(row)

    async def newest(self, account: Account | None, before: str | None, limit: int) -> list[Job]:
        """An account's jobs, the newest first, or those that follow the one `before`. Raises GatewayError, StoreUnavailable."""
        account_service = self._repository.account_service
        if account_service is None or account is None:
            return self._newest_in_memory(before, limit)
        row = None if before is None else await account_service.store.job(account.id, before)
        if before is not None and row is None:
            raise _no_such_job()
        return [
            self._job_of(one)
            for one in await account_service.store.jobs(account.id, None if row is None else row.number, limit)
        ]

    async def wait(self, job: Job, seconds: float) -> None:
        """Wait for a job's end, for so long at most; nobody waits while the gateway goes down."""
        await self.scheduler.wait(job.id, seconds)

    async def cancel(self, job: Job) -> None:
        """End a job early. One that is just ending, or has ended, ends as it does; a disk that is stuck is not waited out."""
        self.scheduler.stop(job.id, JobEvent.CANCEL)
        await self.scheduler.wait(job.id, _CANCEL_S)

    def delivered(self, job: Job) -> None:
        """A caller has had the pictures."""
        if job.state is JobState.SUCCEEDED and job.pictures:
            self._repository.delivered(job)

    # ---- from the start of the process to its end

    def open(self) -> None:
        """Go on with the jobs of before, as far as that can be done, and give back what the others cost."""
        account_service = self._repository.account_service
        rows = [] if account_service is None else account_service.store.unfinished_jobs(int(self._wall()) - KEPT_S)
        for row in rows:
            assert account_service is not None  # noqa: S101  (it has the row)
            job = job_of(row, account_service)
            job.taken = self._still(job.taken)
            if job.taken is None or job.taken.source is None:
                self.scheduler.give_back(job, _restarted(job))
                continue
            if job.state is JobState.SUCCEEDED:
                job.step(JobEvent.RESUME)
            self.scheduler.resume(job, self._runner, len(rows))

    def sweep(self) -> None:
        """Let go of what is too old to be asked for."""
        now = self._wall()
        self.scheduler.finished.sweep(int(now))
        if now >= self._forgets_at:
            self._forgets_at = now + _DAY_S
            self._spawn(self._repository.forget(int(now) - KEPT_DAYS * _DAY_S))

    def drain(self) -> None:
        """Take no further jobs, and let nobody wait for one."""
        self.scheduler.drain()

    async def close(self) -> None:
        """End everything. What a source works on goes on after the next start, where there is a store."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.scheduler.close()
        if self._tasks:  # sources are told that they work for nothing, if they hear it soon
            _, late = await asyncio.wait(self._tasks, timeout=_LAST_CALLS_S)
            for task in late:
                task.cancel()
        await self._repository.settled()

    # ---- one job

    def _made(self, wanted: ImageJobRequest, key: Key | None, request_id: str) -> Job:
        request, model = wanted.request, wanted.route.model
        account = None if key is None else key.account
        ident = f"job_{self._random_bytes(_ID_BYTES).hex()}"
        job = Job(ident, account=account, model=model.id, n=request.n, price=model.price.image or 0, created=self._wall())
        job.number = next(self._numbers)
        job.request, job.alias, job.request_id = request, wanted.alias, request_id
        if key is not None:
            job.key_id, job.key_prefix = key.id, key.prefix
        if wanted.idempotency_key is not None:
            job.idempotency_key, job.digest = wanted.idempotency_key, _digest(ident, request)
        return job

    def _admit(self, job: Job, route: Route) -> None:
        """Take a place and money for a job, or nothing. Raises GatewayError."""
        if route.is_empty:
            raise exhausted(route.model.id, ())
        account = job.account
        if self._repository.is_failing:
            raise accounts_unavailable()
        if account is not None and not account.can_afford(job.held):
            raise insufficient_credits(account, job.held, self._current().accounts.top_up, "ask for fewer images")
        self.scheduler.admit(job)
        self._repository.hold(job)

    async def _take_in(self, job: Job, route: Route) -> Job:
        """Keep an admitted job and start it; or dismiss it, and return the one that has its idempotency key."""
        try:
            row = await self._repository.add(job)
        except BaseException:
            self.scheduler.dismiss(job)
            raise
        if row is not None:
            self.scheduler.dismiss(job)
            return self._job_of(row)
        if self._repository.account_service is None and job.idempotency_key is not None:
            self._by_key[_name(job.account), job.idempotency_key] = job
        self.scheduler.start(job, self._runner, route)
        return job

    async def _known(self, named: tuple[str, str], account: Account | None) -> Job | None:
        """The job that has an account's idempotency key, one that is just being taken in among them."""
        account_service = self._repository.account_service
        if account_service is not None and account is not None and named not in self._arriving:
            row = await account_service.store.job_of_key(account.id, named[1])
            if row is not None:
                return self._job_of(row)
        arriving = self._arriving.get(named)  # it may have come while the store was read
        if arriving is None:
            return self._by_key.get(named)
        try:
            return await asyncio.shield(arriving)
        except GatewayError:
            return None  # it was not taken in, so this one may be

    def _job_of(self, row: JobRow) -> Job:
        """The job in memory, where there is more of it, or as the store has it."""
        job = self.scheduler.get(row.id)
        account_service = self._repository.account_service
        assert account_service is not None  # noqa: S101  (it has the row)
        return job_of(row, account_service) if job is None else job

    def _newest_in_memory(self, before: str | None, limit: int) -> list[Job]:
        known: Iterable[Job] = itertools.chain(self.scheduler, self.scheduler.finished)
        if before is not None:
            first = self.scheduler.get(before)
            if first is None:
                raise _no_such_job()
            known = (job for job in known if job.number < first.number)
        return heapq.nlargest(limit, known, key=lambda job: job.number)

    def _still(self, taken: Taken | None) -> Taken | None:
        """By whom a job was taken before a restart, with what is known of that source today."""
        model = None if taken is None or not taken.provider_job else self._current().models.get(taken.model)
        if taken is None or model is None:
            return taken
        for source in (*model.pool, *model.reserve):
            if (source.provider.name, source.model) == (taken.provider, taken.provider_model) and source.provider.off is None:
                return msgspec.structs.replace(taken, source=source, price=model.price.image or 0)
        return taken

    def _ended(self, job: Job, event: JobEvent) -> None:
        """A job has ended: tell the source that works on it for nothing, and whoever listens."""
        if event in _CALLED_OFF and job.taken is not None:
            self._call_off(job.taken)
        if event in _TELLS_OF_THE_MODEL:
            went_well = job.failure is None or job.failure.kind is Kind.INVALID_REQUEST
            self._health.of_model(job.model).add(self._clock(), succeeded=went_well)
        self._note(job)

    def _call_off(self, taken: Taken) -> None:
        if taken.source is not None and taken.provider_job:
            self._spawn(self._provider_client.cancel(taken.source, taken.provider_job))

    def _arrived(self, named: tuple[str, str], task: asyncio.Task[Job]) -> None:
        if self._arriving.get(named) is task:
            del self._arriving[named]

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _name(account: Account | None) -> str:
    return "" if account is None else account.id


def _digest(ident: str, request: ImageRequest) -> bytes:
    """By which a request is recognised when it comes again, and which says nothing of it: it is salted with the job's id."""
    digest = hashlib.blake2b(key=ident.encode(), digest_size=_DIGEST_BYTES)
    rest = (request.model, request.n, request.size, request.extra, request.response_format, len(request.images))
    digest.update(msgspec.json.encode(rest))
    for text in (request.prompt, *request.images):
        digest.update(b"%d:%b" % (len(text), text.encode()))
    return digest.digest()


def _the_same(job: Job, wanted: ImageJobRequest) -> Job:
    """The job, if it is for the same. Raises GatewayError."""
    if not hmac.compare_digest(job.digest, _digest(job.id, wanted.request)):
        raise GatewayError(
            Kind.CONFLICT,
            "The idempotency key was used for another request; send a new key with a new request.",
            param="idempotency_key",
        )
    return job


def _restarted(job: Job) -> GatewayError:
    if job.state is JobState.SUCCEEDED:
        return lost("the gateway was restarted before anybody fetched the pictures, which are never stored")
    if job.state is JobState.ACCEPTED:
        return lost("the gateway was restarted, and the source that worked on it is not configured any more")
    return lost("the gateway was restarted, and prompts are never stored")


def _no_such_job() -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, "`before` is the id of no job of yours.", param="before")
