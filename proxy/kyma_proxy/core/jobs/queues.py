"""Decides which image jobs run and which wait: each account has a limit for both. (Contract §7.)

An account's jobs run in the order of their arrival; accounts do not wait for one another. `add` takes a slot and `remove`
gives it back, which must happen once for each job, however it ends.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from kyma_proxy.core.jobs.job import Job
from kyma_proxy.errors import GatewayError, Kind

_RETRY_AFTER_S: Final = 5
MAX_JOBS: Final = 10_000
"""The limit for all accounts' jobs, waiting and running; more would only expire."""
MAX_BYTES: Final = 256 * 2**20
"""The limit for the requests of all these jobs; only requests with pictures are large."""
_OWNERS_SHARE: Final = 4
"""An account's jobs take no more than this part of these bytes, so that it keeps out no other; a lone one may be larger."""


class JobLimits(NamedTuple):
    """The number of an account's jobs that may run at once, and that may wait."""

    concurrent: int
    queued: int


class _Queue:
    __slots__ = ("bytes", "running", "waiting")

    def __init__(self) -> None:
        self.bytes = 0
        self.running: set[Job] = set()
        self.waiting: deque[Job] = deque()


class JobQueues:
    """The waiting and running jobs of all accounts. `owner` is the id of a job's account, or "" if it has none."""

    def __init__(self, *, max_jobs: int = MAX_JOBS, max_bytes: int = MAX_BYTES) -> None:
        self._queues: dict[str, _Queue] = {}
        self._sizes: dict[Job, int] = {}
        self._bytes = 0
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self.running = 0
        """The number of jobs that run."""

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def owners(self) -> frozenset[str]:
        """The owners of the jobs that wait or run."""
        return frozenset(self._queues)

    def add(self, owner: str, job: Job, limits: JobLimits) -> list[Job]:
        """Queue a job. Returns the jobs that may run now, in the order of their arrival.

        That is this job, unless it has to wait; jobs that wait come before it if the account's tier has risen. Raises
        GatewayError if there is no slot.
        """
        size = 0 if job.request is None else job.request.size_bytes
        if len(self._sizes) >= self._max_jobs or self._bytes + size > self._max_bytes:
            raise GatewayError(Kind.OVERLOADED, "Too many image jobs are in progress; try again.", retry_after=_RETRY_AFTER_S)
        if not limits.concurrent:
            raise GatewayError(Kind.FORBIDDEN, "This tier has no image jobs; GET /v1/limits/tiers says which tiers do.")
        queue = self._queues.get(owner) or _Queue()
        running, waiting = len(queue.running), len(queue.waiting)
        if running + waiting >= max(limits.concurrent, running) + limits.queued:
            raise _queue_full(limits)
        if owner and queue.bytes and queue.bytes + size > self._max_bytes // _OWNERS_SHARE:
            raise GatewayError(
                Kind.RATE_LIMIT_EXCEEDED, "The pictures of your waiting image jobs are too large together; try again when one "
                "has ended, or send their URLs.", retry_after=_RETRY_AFTER_S,
            )  # fmt: skip
        self._queues[owner] = queue
        self._count(job, size)
        queue.bytes += size
        queue.waiting.append(job)
        return self._promote(queue, limits)

    def add_running(self, owner: str, job: Job) -> None:
        """Add a job that was running before a restart. It runs at once, and no limit applies to it."""
        self._queues.setdefault(owner, _Queue()).running.add(job)
        self._count(job, 0)
        self.running += 1

    def remove(self, owner: str, job: Job, limits: JobLimits) -> list[Job]:
        """Give back a job's slot. Returns the jobs that may run now."""
        queue = self._queues[owner]
        size = self._sizes.pop(job)
        self._bytes -= size
        queue.bytes -= size
        if job in queue.running:
            queue.running.remove(job)
            self.running -= 1
        else:
            queue.waiting.remove(job)
        promoted = self._promote(queue, limits)
        if not queue.running and not queue.waiting:
            del self._queues[owner]
        return promoted

    def _promote(self, queue: _Queue, limits: JobLimits) -> list[Job]:
        """Let waiting jobs run while there is a slot; returns them in the order of their arrival."""
        promoted: list[Job] = []
        while queue.waiting and len(queue.running) < limits.concurrent:
            promoted.append(queue.waiting.popleft())
            queue.running.add(promoted[-1])
        self.running += len(promoted)
        return promoted

    def _count(self, job: Job, size: int) -> None:
        self._sizes[job] = size
        self._bytes += size


def _queue_full(limits: JobLimits) -> GatewayError:
    return GatewayError(
        Kind.RATE_LIMIT_EXCEEDED,
        f"The queue of image jobs is full: {limits.concurrent} run and {limits.queued} wait; try again when one has ended.",
        retry_after=_RETRY_AFTER_S,
    )
