"""This file asks one source for a job's pictures: at once, or by handing the job over and looking at it until it is done.

What comes back means one of three things: pictures; SourceFailed, after which another source may be asked; or GatewayError,
after which none need be, as it would say the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Source, Timeouts
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, moves_on
from kyma_proxy.core.routing.retry_after import retry_after
from kyma_proxy.dialect.images.contract import ImageDialect, ProviderRequest
from kyma_proxy.dialect.registry import IMAGE_DIALECTS
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.jobs.timing import Timing
from kyma_proxy.net.upstream.client import NoResponse, NoResponseError, ProviderResponse, UpstreamClient

_UNDONE: Final = frozenset({429, 503})
_TRANSIENT: Final = frozenset({408, 429, 502, 503, 504})
_GROWTH: Final = 1.3


class SourceFailed(Exception):
    """A source will not deliver. `is_undone` says that it surely did nothing."""

    def __init__(self, failed: AttemptFailure, *, is_undone: bool = False) -> None:
        super().__init__(failed.detail)
        self.failed = failed
        self.is_undone = is_undone


class ProviderClient:
    """Asks sources. `clock` is monotonic; `running` tells how many jobs are with one."""

    def __init__(
        self, calls: UpstreamClient, timing: Timing, *, clock: Callable[[], float], running: Callable[[], int]
    ) -> None:
        self._calls = calls
        self._timing = timing
        self._clock = clock
        self._running = running

    async def begin(self, source: Source, request: ImageRequest) -> str | tuple[Picture, ...]:
        """The pictures, or the source's name for the job that it has taken. Raises Unsupported before it asks, too."""
        dialect = IMAGE_DIALECTS[source.provider.dialect]
        call = dialect.submit(request, source)
        if dialect.queue is None:
            return _pictures(source, dialect, await self._asked(source, dialect, call, source.timeouts))
        reply = await self._asked(source, dialect, call, self._soon(source))
        try:
            return dialect.queue.job_id(reply.body)
        except (ValueError, RecursionError):
            raise _broken(source, "took the job without naming it") from None

    async def follow(self, source: Source, name: str) -> tuple[Picture, ...]:
        """Look at a job that the source has taken until it is done, and fetch what was made."""
        dialect = IMAGE_DIALECTS[source.provider.dialect]
        queue = dialect.queue
        if queue is None:
            raise _broken(source, "has no queue in which the job could be")
        call, wait, heard = queue.status(source, name), self._timing.first_look, self._clock()
        while True:
            await asyncio.sleep(max(wait, self._running() / self._timing.most_looks_per_s))
            wait = min(wait * _GROWTH, self._timing.last_look)
            is_done = _is_done(source, dialect, await self._maybe(source, call))
            if is_done:
                return await self._fetch(source, dialect, queue.result(source, name))
            if is_done is not None:
                heard = self._clock()
            elif self._clock() - heard > self._timing.contact:
                raise _out_of_touch(source)

    async def cancel(self, source: Source, name: str) -> None:
        """Tell a source that a job is not wanted any more, whatever it says to that."""
        queue = IMAGE_DIALECTS[source.provider.dialect].queue
        if queue is not None:
            await self._maybe(source, queue.cancel(source, name))

    async def _fetch(self, source: Source, dialect: ImageDialect, call: ProviderRequest) -> tuple[Picture, ...]:
        """What was made; a source that can't say it just now is asked again."""
        began = self._clock()
        while True:
            reply = await self._maybe(source, call)
            if reply is not None and reply.status not in _TRANSIENT:
                break
            if self._clock() - began > self._timing.contact:
                raise _out_of_touch(source)
            await asyncio.sleep(self._timing.first_look)
        if reply.status >= 300:
            raise _refused(source, dialect, reply)
        return _pictures(source, dialect, reply)

    def _soon(self, source: Source) -> Timeouts:
        """For an answer that need not be made first."""
        return Timeouts(source.timeouts.connect, self._timing.call, self._timing.call)

    async def _asked(
        self, source: Source, dialect: ImageDialect, call: ProviderRequest, timeouts: Timeouts
    ) -> ProviderResponse:
        """The answer to what begins a job."""
        try:
            reply = await self._calls.send(source.provider, call.request(source.provider), timeouts)
        except NoResponseError as failed:
            raise _unanswered(source, failed.why) from None
        if not 200 <= reply.status < 300:
            raise _refused(source, dialect, reply)
        return reply

    async def _maybe(self, source: Source, call: ProviderRequest) -> ProviderResponse | None:
        """The answer about a job that is there anyway; None where there is none just now."""
        try:
            return await self._calls.send(source.provider, call.request(source.provider), self._soon(source))
        except NoResponseError as failed:
            if failed.why.is_final:
                raise _unanswered(source, failed.why) from None
            return None


def _is_done(source: Source, dialect: ImageDialect, reply: ProviderResponse | None) -> bool | None:
    """What a look at a job says; None where it says nothing of sense. Raises where the job is gone."""
    if reply is None or reply.status in _TRANSIENT or reply.status == 500:
        return None
    if reply.status >= 300:
        raise _refused(source, dialect, reply)
    try:
        return dialect.queue is not None and dialect.queue.is_done(reply.body)
    except (ValueError, RecursionError):
        return None


def _refused(source: Source, dialect: ImageDialect, reply: ProviderResponse) -> SourceFailed | GatewayError:
    status = reply.status
    if moves_on(status, is_last=False):
        detail = "does not know what it was asked for" if status == 404 else f"answered {status}"
        failed = AttemptFailure(FailureKind.STATUS, source.provider.name, detail, status, retry_after(reply.fields))
        return SourceFailed(failed, is_undone=status in _UNDONE)
    why = dialect.message(reply.body) or f"it answered {status} and no more"
    return GatewayError(Kind.INVALID_REQUEST, f"The provider refused what was asked for: {why.rstrip('.')}.")


def _pictures(source: Source, dialect: ImageDialect, reply: ProviderResponse) -> tuple[Picture, ...]:
    try:
        pictures = dialect.images(reply.body)
    except (ValueError, RecursionError):
        raise _broken(source, "its answer is not what its dialect promises") from None
    if not pictures:
        raise _broken(source, "delivered no image")
    return tuple(pictures)


def _unanswered(source: Source, why: NoResponse) -> SourceFailed:
    return SourceFailed(AttemptFailure(why.kind, source.provider.name, why.detail), is_undone=why.is_undone)


def _broken(source: Source, detail: str) -> SourceFailed:
    return SourceFailed(AttemptFailure(FailureKind.BROKEN, source.provider.name, detail))


def _out_of_touch(source: Source) -> SourceFailed:
    return SourceFailed(
        AttemptFailure(FailureKind.IDLE_TIMEOUT, source.provider.name, "gave no sensible word of the job any more")
    )
