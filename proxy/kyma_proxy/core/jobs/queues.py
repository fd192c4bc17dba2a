"""This file decides whose image jobs run and whose wait: so many at once an account, and so many in its queue. (Contract §7.)

First come, first served within an account; accounts do not wait for one another. A place is taken with `enter` and given back
with `leave`, once, on every way out.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from kyma_proxy.core.jobs.job import Job
from kyma_proxy.errors import GatewayError, Kind

_LOOK_AGAIN_S: Final = 5
MAX_JOBS: Final = 10_000
"""So many of all accounts, waiting and running; more would only expire."""
MAX_BYTES: Final = 256 * 2**20
"""What they may hold together of what was sent with them, which is much only where pictures are sent."""


class Places(NamedTuple):
    """How many of an account's jobs run at once, and how many wait."""

    at_once: int
    queued: int


class _Queue:
    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running: set[Job] = set()
        self.waiting: deque[Job] = deque()


class JobQueues:
    """The jobs of all accounts that wait or run; each is of the account whose id is its `owner`, or of nobody ("")."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._sizes: dict[Job, int] = {}
        self._bytes = 0
        self.running = 0
        """How many run."""

    def __len__(self) -> int:
        return len(self._sizes)

    def enter(self, owner: str, job: Job, places: Places) -> list[Job]:
        """Take a place; returns the jobs whose turn has come: this one, if it need not wait, after those whom a higher tier
        lets run. Raises GatewayError where there is no place.
        """
        size = 0 if job.request is None else job.request.size_bytes
        if len(self._sizes) >= MAX_JOBS or self._bytes + size > MAX_BYTES:
            raise GatewayError(Kind.OVERLOADED, "Too many image jobs are under way; try again.", retry_after=_LOOK_AGAIN_S)
        if not places.at_once:
            raise GatewayError(Kind.FORBIDDEN, "This tier has no image jobs; GET /v1/limits/tiers says which tiers do.")
        queue = self._queues.get(owner) or _Queue()
        running, waiting = len(queue.running), len(queue.waiting)
        if running + waiting >= max(places.at_once, running) + places.queued:
            raise _full(places)
        self._queues[owner] = queue
        self._take(job, size)
        queue.waiting.append(job)
        return self._turns(queue, places)

    def run(self, owner: str, job: Job) -> None:
        """Take a place to run, whatever the bounds: the job was running before a restart."""
        self._queues.setdefault(owner, _Queue()).running.add(job)
        self._take(job, 0)
        self.running += 1

    def leave(self, owner: str, job: Job, places: Places) -> list[Job]:
        """Give a place back; returns the jobs whose turn has come by that."""
        queue = self._queues[owner]
        self._bytes -= self._sizes.pop(job)
        if job in queue.running:
            queue.running.remove(job)
            self.running -= 1
        else:
            queue.waiting.remove(job)
        turns = self._turns(queue, places)
        if not queue.running and not queue.waiting:
            del self._queues[owner]
        return turns

    def _turns(self, queue: _Queue, places: Places) -> list[Job]:
        """Let run whoever may; returns them in the order in which they came."""
        turns: list[Job] = []
        while queue.waiting and len(queue.running) < places.at_once:
            turns.append(queue.waiting.popleft())
            queue.running.add(turns[-1])
        self.running += len(turns)
        return turns

    def _take(self, job: Job, size: int) -> None:
        self._sizes[job] = size
        self._bytes += size


def _full(places: Places) -> GatewayError:
    return GatewayError(
        Kind.RATE_LIMIT_EXCEEDED,
        f"The queue of image jobs is full: {places.at_once} run and {places.queued} wait; try again when one has ended.",
        retry_after=_LOOK_AGAIN_S,
    )
