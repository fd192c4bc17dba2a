"""The way of one image job through the sources of its model: plan, ask, follow; the next where one fails. (Contract §9, §10.)

Whoever calls decides when the time is over, by cancelling. What a source has taken is kept before it is followed, so that the
job can go on after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.config.snapshot import Route, Source
from proxy.core.health import HealthTable
from proxy.core.job import Job, JobEvent, Taken
from proxy.core.outcome import Failed, exhausted
from proxy.core.plan import Step, last_resort, plan, resting
from proxy.dialect.images import Call
from proxy.errors import GatewayError
from proxy.jobs.asking import Asking, SourceFailed, Timing, call_for

_LONGEST_HINT_S: Final = 60


class _Round:
    """What has come of asking each source once."""

    __slots__ = ("can_again", "failures", "is_done", "tried", "untold")

    def __init__(self) -> None:
        self.tried: set[str] = set()
        self.failures: list[Failed] = []
        self.untold: GatewayError | None = None
        self.is_done = False
        self.can_again = False

    @property
    def is_worth_another(self) -> bool:
        """Whether a source that was not asked, or surely did nothing, may do it later; nobody shall make pictures twice."""
        return self.can_again or not (self.failures or self.untold)


class JobRunner:
    """Runs jobs. `keep` keeps who works on one."""

    def __init__(
        self, asking: Asking, health: HealthTable, timing: Timing, *, clock: Callable[[], float],
        random: Callable[[], float], keep: Callable[[Job], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._asking = asking
        self._health = health
        self._timing = timing
        self._clock = clock
        self._random = random
        self._keep = keep

    async def run(self, job: Job, route: Route) -> None:
        """Have the job's pictures made. Raises GatewayError where nobody makes them."""
        for pause in (*self._timing.rounds, None):
            round_ = await self._round(job, route)
            if round_.is_done:
                return
            if round_.untold is not None and not round_.failures:
                raise round_.untold
            if pause is None or not round_.is_worth_another:
                break
            hints = [one.retry_after for one in round_.failures if one.retry_after is not None]
            await asyncio.sleep(max(pause, min(min(hints, default=0), _LONGEST_HINT_S)))
        resting_ones = resting(route, self._health, self._clock(), round_.tried)
        raise exhausted(route.model.id, [*round_.failures, *resting_ones])

    async def resume(self, job: Job, source: Source) -> None:
        """Follow a job that a source had taken before a restart. Raises SourceFailed or GatewayError."""
        taken = job.taken
        assert taken is not None  # noqa: S101  (else there is nothing to resume)
        job.pictures = (await self._asking.follow(source, taken.name))[: job.n]
        job.attempts.append(f"{source.provider.name}:answered")

    async def _round(self, job: Job, route: Route) -> _Round:
        """Ask each source that does not rest, until one has delivered."""
        round_ = _Round()
        steps = list(plan(route, self._health, self._clock(), self._random))
        while steps or (steps := last_resort(route, self._health, self._clock(), round_.tried)):
            step = steps.pop(0)
            if step.source.key in round_.tried:
                continue
            round_.tried.add(step.source.key)
            assert job.request is not None  # noqa: S101  (until its end)
            try:
                call = call_for(job.request, step.source)
            except GatewayError as error:
                round_.untold = error
                continue
            try:
                await self._attempt(job, step, call)
            except SourceFailed as failing:
                round_.failures.append(failing.failed)
                round_.can_again = round_.can_again or failing.is_undone
            else:
                round_.is_done = True
                break
        return round_

    async def _attempt(self, job: Job, step: Step, call: Call) -> None:
        """Have one source make the pictures. Raises SourceFailed, or GatewayError where no other need be asked."""
        source, health, began = step.source, step.health, self._clock()
        is_probe = health.begin(began)
        result = "abandoned"
        try:
            told = await self._asking.begin(source, call)
            now = self._clock()
            health.answered(now, is_probe=is_probe, streams=False, first_byte_s=now - began)
            is_probe = False
            name = told if isinstance(told, str) else ""
            job.taken = Taken(source.provider.name, source.model, name, step.model.id, step.layer)
            if isinstance(told, str):
                job.step(JobEvent.ACCEPT)
                await self._keep(job)
                told = await self._asking.follow(source, told)
            job.pictures = told[: job.n]
            result = "answered"
        except SourceFailed as failing:
            result = failing.failed.word
            has_answered = job.taken is not None
            health.failed(self._clock(), failing.failed, self._random, is_probe=is_probe, after_answer=has_answered)
            job.step(JobEvent.MOVE_ON)
            job.taken = None
            raise
        except BaseException:
            health.abandoned(is_probe=is_probe)
            raise
        finally:
            job.attempts.append(f"{source.provider.name}:{result}")
