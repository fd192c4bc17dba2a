"""Gets a job's pictures from one source: in one request, or by submitting the job to its queue and polling it until it is done.

There are three results: pictures; SourceFailed, after which another source may be asked; or GatewayError, after which none need
be asked, as it would answer the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Source, Timeouts
from kyma_proxy.core.http.body import with_members
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, moves_on, status_failure
from kyma_proxy.dialect.density import is_too_dense
from kyma_proxy.dialect.images.contract import ImageDialect, ImageQueue, ProviderRequest, QueueStage, Unsupported
from kyma_proxy.dialect.registry import IMAGE_DIALECTS
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.jobs.look_rate import LookRate
from kyma_proxy.jobs.timing import Timing
from kyma_proxy.net.upstream.client import NoResponse, NoResponseError, ProviderResponse, UpstreamClient

_NOTHING_DONE: Final = frozenset({429, 503})
_TRANSIENT: Final = frozenset({408, 429, 502, 503, 504})
_POLL_BACKOFF: Final = 1.3
_LARGE_BYTES: Final = 64 * 1024


class SourceFailed(Exception):
    """A source will not deliver. `is_undone` is True if it certainly did nothing, so that it may be asked again."""

    def __init__(self, failed: AttemptFailure, *, is_undone: bool = False) -> None:
        super().__init__(failed.detail)
        self.failed = failed
        self.is_undone = is_undone


class ProviderClient:
    """Submits jobs to sources, polls and cancels them. `clock` is monotonic; `running` returns the number of running jobs."""

    def __init__(
        self, client: UpstreamClient, timing: Timing, *, clock: Callable[[], float], running: Callable[[], int]
    ) -> None:
        self._client = client
        self._timing = timing
        self._clock = clock
        self._running = running
        self._looks = LookRate(timing.max_polls_per_s, clock)
        self._pauses: dict[tuple[str, str], asyncio.Future[None]] = {}
        """The pauses between polls, by the source's key and its id of the job."""

    async def begin(self, source: Source, request: ImageRequest, on_sent: Callable[[], None]) -> str | tuple[Picture, ...]:
        """Submit a job. Returns the pictures, or the source's id for the job if it has accepted it into its queue.

        `on_sent` is called in the moment in which the source gets the request. Raises Unsupported before that; SourceFailed or
        GatewayError.
        """
        dialect = IMAGE_DIALECTS[source.provider.dialect]
        call = dialect.submit(request, source)
        if source.body and call.body is not None:
            call = call._replace(body=with_members(call.body, source.body))
        if dialect.queue is None:
            return _pictures(source, dialect, await self._submit(source, dialect, call, source.timeouts, on_sent))
        answer = await self._submit(source, dialect, call, self._short_timeouts(source), on_sent)
        try:
            return dialect.queue.job_id(answer.body)
        except (ValueError, RecursionError):
            raise _broken(source, "accepted the job without giving it an id") from None

    async def follow(self, source: Source, name: str, may_leave: Callable[[], bool] = lambda: False) -> tuple[Picture, ...]:
        """Poll a job that the source has accepted until it is done, and fetch its pictures.

        A job that has only waited for `leave_queue_after` is withdrawn if `may_leave` is true then: another can be asked.
        """
        dialect = IMAGE_DIALECTS[source.provider.dialect]
        queue = dialect.queue
        if queue is None:
            raise _broken(source, "has no queue in which the job could be")
        call, interval, answered_at = queue.status(source, name), self._timing.first_poll, self._clock()
        patience = None if source.image is None else source.image.leave_queue_after
        leave_at = None if patience is None else answered_at + patience
        while True:
            await self._pause((source.key, name), max(interval, self._running() / self._timing.max_polls_per_s))
            interval = min(interval * _POLL_BACKOFF, self._timing.max_poll_interval)
            await self._looks.wait()
            stage = _stage(source, dialect, queue, await self._send_or_none(source, call))
            if stage is QueueStage.DONE or stage is QueueStage.FAILED:
                return await self._fetch(source, dialect, queue, name, has_failed=stage is QueueStage.FAILED)
            if stage is not None:
                answered_at = self._clock()
                if stage is QueueStage.WAITS and leave_at is not None and answered_at >= leave_at and may_leave():
                    if await self.cancel(source, name):
                        raise _left(source)
                    leave_at = None  # it may be about to begin: what comes of it is taken
            elif self._clock() - answered_at > self._timing.contact:
                raise _unresponsive(source)

    async def cancel(self, source: Source, name: str) -> bool:
        """Ask a source to cancel a job. Returns True if it confirms that it has not begun the job and never will."""
        queue = IMAGE_DIALECTS[source.provider.dialect].queue
        if queue is None:
            return False
        try:
            answer = await self._send_or_none(source, queue.cancel(source, name))
            return answer is not None and queue.is_withdrawn(answer.status, answer.body)
        except (SourceFailed, ValueError, RecursionError):
            return False
        finally:  # poll it now: a queue may take a job back without saying so
            pause = self._pauses.get((source.key, name))
            if pause is not None:
                _end(pause)

    async def _pause(self, job: tuple[str, str], seconds: float) -> None:
        """Wait before the next poll of a job, at most until it is cancelled."""
        loop = asyncio.get_running_loop()
        pause = self._pauses[job] = loop.create_future()
        timer = loop.call_later(seconds, _end, pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.pop(job, None)

    async def _fetch(
        self, source: Source, dialect: ImageDialect, queue: ImageQueue, name: str, *, has_failed: bool
    ) -> tuple[Picture, ...]:
        """The pictures of a job that is over. A trouble of the queue is tried again, a stored failure is not."""
        call, interval, began = queue.result(source, name), self._timing.first_poll, self._clock()
        while True:
            await self._looks.wait()
            answer = await self._send_or_none(source, call)
            if answer is not None and (
                has_failed or answer.status not in _TRANSIENT or queue.is_result(answer.fields, answer.body)
            ):
                break
            if has_failed:
                raise _broken(source, "failed to make it")
            if self._clock() - began > self._timing.contact:
                raise _unresponsive(source)
            await asyncio.sleep(interval)
            interval = min(interval * _POLL_BACKOFF, self._timing.max_poll_interval)
        if answer.status >= 300:
            raise _refused(source, dialect, answer, is_result=True)
        return _pictures(source, dialect, answer)

    def _short_timeouts(self, source: Source) -> Timeouts:
        """For an answer that the source need not compute."""
        return Timeouts(source.timeouts.connect, self._timing.request, self._timing.request)

    async def _submit(
        self, source: Source, dialect: ImageDialect, call: ProviderRequest, timeouts: Timeouts, on_sent: Callable[[], None]
    ) -> ProviderResponse:
        """The 2xx answer to a submission. Raises SourceFailed or GatewayError."""
        try:
            answer = await self._client.send(source.provider, call.request(source.provider), timeouts, on_sent=on_sent)
        except NoResponseError as failed:
            raise _no_response(source, failed.why) from None
        if not 200 <= answer.status < 300:
            raise _refused(source, dialect, await _sparse(source, answer))
        return await _sparse(source, answer)

    async def _send_or_none(self, source: Source, call: ProviderRequest) -> ProviderResponse | None:
        """The answer to a request about a submitted job; None if there is none, but may be one next time."""
        try:
            answer = await self._client.send(source.provider, call.request(source.provider), self._short_timeouts(source))
        except NoResponseError as failed:
            if failed.why.is_final:
                raise _no_response(source, failed.why) from None
            return None
        return await _sparse(source, answer)


def can_make(request: ImageRequest, source: Source) -> bool:
    """True if a source's dialect can express a request."""
    try:
        IMAGE_DIALECTS[source.provider.dialect].submit(request, source)
    except Unsupported:
        return False
    return True


async def _sparse(source: Source, answer: ProviderResponse) -> ProviderResponse:
    """The same answer, to be decoded in another turn of the loop if it is large. Raises SourceFailed if it is too dense."""
    if len(answer.body) > _LARGE_BYTES:
        if is_too_dense(answer.body):
            raise _broken(source, "its answer has too many values")
        await asyncio.sleep(0)
    return answer


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


def _stage(source: Source, dialect: ImageDialect, queue: ImageQueue, answer: ProviderResponse | None) -> QueueStage | None:
    """The stage that a poll tells of; None if its answer is not valid. Raises if the job does not exist any more."""
    if answer is None or answer.status in _TRANSIENT or answer.status == 500:
        return None
    if answer.status >= 300:
        raise _refused(source, dialect, answer, is_result=True)
    try:
        return queue.stage(answer.body)
    except (ValueError, RecursionError):
        return None


def _refused(
    source: Source, dialect: ImageDialect, answer: ProviderResponse, *, is_result: bool = False
) -> SourceFailed | GatewayError:
    """The meaning of an error. A result is that of a job that was accepted, so that something may have been made."""
    status, word = answer.status, dialect.passing_failure(answer.fields, answer.body)
    if word is not None or moves_on(status, is_last=False):
        detail = "does not know the model or the job" if status == 404 else None if word is None else f"failed ({word})"
        failed = status_failure(source.provider.name, status, answer.fields, wall=time.time(), detail=detail)
        return SourceFailed(failed, is_undone=status in _NOTHING_DONE and not is_result)
    why = dialect.message(answer.body) or f"it answered {status} without a message"
    return GatewayError(Kind.INVALID_REQUEST, f"The provider refused the request: {why.rstrip('.')}.")


def _pictures(source: Source, dialect: ImageDialect, answer: ProviderResponse) -> tuple[Picture, ...]:
    try:
        pictures = dialect.images(answer.body)
    except (ValueError, RecursionError):
        raise _broken(source, "its answer is not valid in its dialect") from None
    if not pictures:
        raise _broken(source, "delivered no image")
    return tuple(pictures)


def _no_response(source: Source, why: NoResponse) -> SourceFailed:
    failed = AttemptFailure(why.kind, source.provider.name, why.detail, nothing_came=why.nothing_came)
    return SourceFailed(failed, is_undone=why.is_undone)


def _broken(source: Source, detail: str) -> SourceFailed:
    return SourceFailed(AttemptFailure(FailureKind.BROKEN, source.provider.name, detail))


def _left(source: Source) -> SourceFailed:
    failed = AttemptFailure(FailureKind.FIRST_BYTE_TIMEOUT, source.provider.name, "did not begin it in time")
    return SourceFailed(failed, is_undone=True)


def _unresponsive(source: Source) -> SourceFailed:
    return SourceFailed(AttemptFailure(FailureKind.IDLE_TIMEOUT, source.provider.name, "gave no valid answer about the job"))
