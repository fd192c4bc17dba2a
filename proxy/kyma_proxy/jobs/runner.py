"""The way of one image job through the sources of its model: plan, ask, follow; the next where one fails. (Contract §9, §10.)

Whoever calls decides when the time is over, by cancelling. What a source has taken is kept before it is followed, so that the
job can go on after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from kyma_proxy.config.snapshot import Route
from kyma_proxy.core.exchange import ABANDONED, ANSWERED
from kyma_proxy.core.jobs.job import Job, JobEvent, Taken
from kyma_proxy.core.routing.breaker import BreakerTable, Permit
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, exhausted
from kyma_proxy.core.routing.plan import Step, last_resort, open_breakers, plan
from kyma_proxy.dialect.images.contract import Unsupported
from kyma_proxy.errors import GatewayError
from kyma_proxy.jobs.provider_client import ProviderClient, SourceFailed
from kyma_proxy.jobs.timing import Timing

_MAX_HINT_S: Final = 60


class _Course:
    """How far a job has come with the sources of its model.

    `spent` are those that are not asked again: they may have made the pictures, or can't be told what is wanted, for which
    `unsupported` is the reason. `tried` are they and those of this round.
    """

    __slots__ = ("_keys", "failures", "spent", "tried", "unsupported")

    def __init__(self, route: Route) -> None:
        self._keys = {one.key for way in (route, *route.substitutes) for one in (*way.pool, *way.reserve)}
        self.spent: set[str] = set()
        self.tried: set[str] = set()
        self.failures: dict[str, AttemptFailure] = {}
        self.unsupported: GatewayError | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is nobody left who could be asked, now or later."""
        return self.spent >= self._keys

    def failed(self, key: str, failing: SourceFailed) -> None:
        """A source has failed. If it surely did nothing, it may be asked once more."""
        self.failures[key] = failing.failed
        if not failing.is_undone:
            self.spent.add(key)

    def could_not_be_told(self, key: str, why: GatewayError) -> None:
        """A source can't be told what is wanted."""
        self.unsupported = why
        self.spent.add(key)


class JobRunner:
    """Runs jobs. `keep` keeps who works on one, `call_off` tells a source that it works for nothing."""

    def __init__(
        self, provider_client: ProviderClient, breakers: BreakerTable, timing: Timing, *, clock: Callable[[], float],
        random: Callable[[], float], keep: Callable[[Job], Awaitable[None]], call_off: Callable[[Taken], None],
    ) -> None:  # fmt: skip
        self._provider_client = provider_client
        self._breakers = breakers
        self._timing = timing
        self._clock = clock
        self._random = random
        self._keep = keep
        self._call_off = call_off

    async def run(self, job: Job, route: Route) -> None:
        """Have the job's pictures made. Raises GatewayError where nobody makes them."""
        course = _Course(route)
        for pause in (*self._timing.rounds, None):
            if await self._round(job, route, course):
                return
            others = open_breakers(route, self._breakers, self._clock(), course.failures)
            if course.is_over and course.unsupported is not None and not course.failures:
                raise course.unsupported
            if pause is None or course.is_over:
                break
            hints = [one.retry_after for one in (*course.failures.values(), *others) if one.retry_after is not None]
            await asyncio.sleep(max(pause, min(min(hints, default=0), _MAX_HINT_S)))
            course.tried = set(course.spent)
        raise exhausted(route.model.id, [*course.failures.values(), *others])

    async def resume(self, job: Job) -> None:
        """Follow a job that a source had taken before a restart. Raises SourceFailed or GatewayError."""
        taken = job.taken
        assert taken is not None and taken.source is not None  # noqa: S101, PT018  (else there is nothing to resume)
        job.pictures = (await self._provider_client.follow(taken.source, taken.provider_job))[: job.n]
        job.attempts.append(f"{taken.provider}:answered")

    async def _round(self, job: Job, route: Route, course: _Course) -> bool:
        """Ask each source whose breaker allows it, until one has delivered. Returns True if one has."""
        steps = list(plan(route, self._breakers, self._clock(), self._random))
        while steps or (steps := last_resort(route, self._breakers, self._clock(), course.tried)):
            step = steps.pop(0)
            if step.source.key in course.tried:
                continue
            permit = step.breaker.acquire(self._clock(), bypass=step.bypass_breaker)
            if permit is None:
                continue  # its breaker has opened since the plan was made
            course.tried.add(step.source.key)
            try:
                await self._attempt(job, step, permit)
            except SourceFailed as failing:
                course.failed(step.source.key, failing)
            except Unsupported as error:
                course.could_not_be_told(step.source.key, error.fresh())
            else:
                return True
        return False

    async def _attempt(self, job: Job, step: Step, permit: Permit) -> None:
        """Have one source make the pictures. Raises SourceFailed, Unsupported, or GatewayError if no other need be asked."""
        source, began = step.source, self._clock()
        assert job.request is not None  # noqa: S101  (until its end)
        result: str | None = ABANDONED
        try:
            told = await self._provider_client.begin(source, job.request)
            now = self._clock()
            permit.success(now, streams=False, first_byte_s=now - began)
            job.taken = Taken(
                provider=source.provider.name, provider_model=source.model, provider_job=told if isinstance(told, str) else "",
                model=step.model.id, layer=step.layer, price=step.model.price.image or 0, source=source,
            )  # fmt: skip
            if isinstance(told, str):
                job.step(JobEvent.ACCEPT)
                await self._keep(job)
                told = await self._provider_client.follow(source, told)
            job.pictures = told[: job.n]
            result = ANSWERED
        except SourceFailed as failing:
            result = failing.failed.word
            if job.taken is None:
                permit.failure(self._clock(), failing.failed, self._random)
            else:
                step.breaker.record_broken(self._clock(), failing.failed, self._random)
            self._leave(job, failing.failed)
            raise
        except Unsupported:
            result = None  # it was not asked
            raise
        except GatewayError:  # the source is well, and does not want this request
            result = ANSWERED
            permit.success(self._clock(), streams=False)
            raise
        finally:
            permit.release()
            if result is not None:
                job.attempts.append(f"{source.provider.name}:{result}")

    def _leave(self, job: Job, failed: AttemptFailure) -> None:
        """Another source is asked; one that only went silent may still be at work, and is told that nobody waits."""
        if job.taken is not None and failed.kind is FailureKind.IDLE_TIMEOUT:
            self._call_off(job.taken)
        job.step(JobEvent.MOVE_ON)
        job.taken = None
