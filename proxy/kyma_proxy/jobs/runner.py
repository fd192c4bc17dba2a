"""Runs one image job: plan, submit, follow; the next source if one fails. (Contract §9, §10.)

The caller of `run` decides when the time is over, by cancelling. A job that a source has accepted is written to the store
before it is followed, so that it can go on after a restart.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Final

from kyma_proxy.config.snapshot import Route, Source
from kyma_proxy.core.exchange import ABANDONED, ANSWERED
from kyma_proxy.core.jobs.job import AcceptedBy, ImageRequest, Job, JobEvent
from kyma_proxy.core.jobs.price import image_price
from kyma_proxy.core.routing.breaker import Permit
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.candidates import Candidates
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.plan import Step, each_key, plan
from kyma_proxy.dialect.images.contract import Unsupported
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.jobs.parts import gather, parts_of
from kyma_proxy.jobs.provider_client import ProviderClient, SourceFailed, can_make
from kyma_proxy.jobs.timing import Timing

_MAX_HINT_S: Final = 60


class JobRunner:
    """Runs jobs. `mark_accepted` writes which source works on one; `cancel_remote` ends a job at its source."""

    def __init__(
        self, provider_client: ProviderClient, breakers: BreakerTable, timing: Timing, *, clock: Callable[[], float],
        random: Callable[[], float], mark_accepted: Callable[[Job], Awaitable[None]],
        cancel_remote: Callable[[AcceptedBy], None],
    ) -> None:  # fmt: skip
        self._provider_client = provider_client
        self._breakers = breakers
        self._timing = timing
        self._clock = clock
        self._random = random
        self._mark_accepted = mark_accepted
        self._cancel_remote = cancel_remote

    async def run(self, job: Job, route: Route) -> None:
        """Have the job's images made, in several rounds if need be. Raises GatewayError if no source makes them."""
        account = job.owner or None
        candidates = Candidates(route, self._breakers, (), account)
        keys = {one.key for part in (route, *route.substitutes) for one in each_key((*part.pool, *part.reserve))}
        spent: set[str] = set()  # not asked again: they may have made the images, or can't express the request
        unable: dict[str, str] = {}  # why a source can't express it, for the caller
        for pause in (*self._timing.rounds, None):
            candidates.restart(plan(route, self._breakers, self._clock(), self._random, account), spent)
            if await self._round(job, candidates, spent, unable):
                return
            if pause is None or spent >= keys:
                break
            failures = (*candidates.failures.values(), *candidates.skipped(self._clock()))
            hints = [one.retry_after for one in failures if one.retry_after is not None]
            await asyncio.sleep(max(pause, min(min(hints, default=0), _MAX_HINT_S)))
        error = candidates.error(self._clock(), is_expressible=not spent >= keys)
        kind = error.kind
        if kind is Kind.NOT_FOUND:  # the endpoint, or the job, is missing at the providers: the caller's job exists
            kind = Kind.PROVIDER_ERROR
        reasons = [error.message] if spent >= keys and not candidates.failures else [error.message, *unable.values()]
        raise GatewayError(kind, " ".join(dict.fromkeys(reasons)), param=error.param, retry_after=error.retry_after)

    async def resume(self, job: Job) -> None:
        """Follow a job that a source had accepted before a restart. Raises SourceFailed or GatewayError."""
        accepted_by = job.accepted_by
        assert accepted_by is not None and accepted_by.source is not None  # noqa: S101, PT018  (else it is not resumed)
        follow, source = self._provider_client.follow, accepted_by.source
        pictures, _ = await gather([follow(source, name) for name in accepted_by.provider_jobs])
        job.take(sum(pictures, ()), accepted_by)
        job.attempts.append(f"{accepted_by.provider}:{ANSWERED}")

    async def _round(self, job: Job, candidates: Candidates, spent: set[str], unable: dict[str, str]) -> bool:
        """Ask one source after the other. Returns True if one has delivered; adds to `spent` and to `unable`.

        Raises SourceFailed if the job is to be stopped: then no other source is asked.
        """
        while step := candidates.next(self._clock(), is_last_resort=True):
            key = step.source.key
            permit = step.breaker.acquire(self._clock(), candidates.account)
            try:
                await self._attempt(job, step, permit, candidates)
            except SourceFailed as error:
                if job.stopped_by is not None:
                    raise
                candidates.fail(step, error.failed, self._clock())
                if not error.is_undone:
                    spent.add(key)
            except Unsupported as error:
                candidates.unsupported = error.fresh()
                unable[key] = f"{'Another source' if job.account is not None else step.source.provider.name} {error.why}"
                spent.add(key)
            else:
                return True
        return False

    async def _attempt(self, job: Job, step: Step, permit: Permit, candidates: Candidates) -> None:
        """Have one source make the images. Raises SourceFailed, Unsupported, or GatewayError if no other need be asked."""
        source, began = step.source, self._clock()
        assert job.request is not None  # noqa: S101  (until its end)
        result: str | None = ABANDONED
        try:
            parts = parts_of(job.request, source, job.n - len(job.pictures))
            begun, failure = await gather([self._provider_client.begin(source, part, job.mark_ordered) for part in parts])
            names = [one for one in begun if isinstance(one, str)]
            pictures = [one for one in begun if not isinstance(one, str)]
            now = self._clock()
            permit.success(now, streams=False, first_byte_s=now - began)
            job.accepted_by = by = AcceptedBy(
                provider=source.provider.name, provider_model=source.model, provider_job=",".join(names),
                model=step.model.id, layer=step.layer, price=image_price(step.model.price, job.request),
                source=source,
            )  # fmt: skip
            if names:
                job.step(JobEvent.ACCEPT)
                await self._mark_accepted(job)
                may_leave = functools.partial(self._is_another_able, job.request, source, candidates)
                pictures, later = await gather([self._provider_client.follow(source, name, may_leave) for name in names])
                failure = failure or later
            job.take(sum(pictures, ()), by)
            if failure is not None:  # it made some of them: others are asked for the rest
                raise failure
            result = ANSWERED
        except SourceFailed as error:
            result = error.failed.word
            if job.accepted_by is None:
                permit.failure(self._clock(), error.failed, self._random)
            else:
                step.breaker.record_broken(self._clock(), error.failed, self._random, account=permit.account)
            self._leave(job, error.failed)
            raise
        except Unsupported:
            result = None  # it was not asked
            raise
        except GatewayError:  # the source is healthy, and refuses this request
            result = ANSWERED
            permit.success(self._clock(), streams=False)
            raise
        finally:
            permit.release()
            if result is not None:
                job.attempts.append(f"{source.provider.name}:{result}")

    def _is_another_able(self, request: ImageRequest, source: Source, candidates: Candidates) -> bool:
        """True if a source could be asked in the place of this one, and could make what is asked."""
        return any(can_make(request, step.source) for step in candidates.upcoming(self._clock(), source))

    def _leave(self, job: Job, failed: AttemptFailure) -> None:
        """Go on to the next source. One that only went silent may still be at work, so the job is cancelled there."""
        if job.accepted_by is not None and failed.kind is FailureKind.IDLE_TIMEOUT:
            self._cancel_remote(job.accepted_by)
        job.step(JobEvent.MOVE_ON)
        job.accepted_by = None
        job.is_ordered = False
