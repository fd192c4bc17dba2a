"""This file decides whose image jobs run and whose wait: so many at once an account, and so many in its queue. (Contract §7.)

First come, first served within an account; accounts do not wait for one another. A place is taken with `enter` and given back
with `leave`, once, on every way out.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from proxy.core.job import Job
from proxy.errors import GatewayError, Kind

_LOOK_AGAIN_S: Final = 5
MOST_JOBS: Final = 10_000
"""So many of all accounts, waiting and running; more would only expire."""


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
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def running(self) -> int:
        """How many run."""
        return sum(len(queue.running) for queue in self._queues.values())

    def enter(self, owner: str, job: Job, places: Places) -> bool:
        """Take a place; whether it is one to run, not to wait. Raises GatewayError where there is none."""
        if self._count >= MOST_JOBS:
            raise GatewayError(Kind.OVERLOADED, "Too many image jobs are under way; try again.", retry_after=_LOOK_AGAIN_S)
        if not places.at_once:
            raise GatewayError(Kind.FORBIDDEN, "This tier has no image jobs; GET /v1/limits/tiers says which tiers do.")
        queue = self._queues.get(owner)
        runs = (0 if queue is None else len(queue.running)) < places.at_once
        if not runs and (0 if queue is None else len(queue.waiting)) >= places.queued:
            raise _full(places)
        if queue is None:
            queue = self._queues[owner] = _Queue()
        self._count += 1
        if runs:
            queue.running.add(job)
        else:
            queue.waiting.append(job)
        return runs

    def run(self, owner: str, job: Job) -> None:
        """Take a place to run, whatever the bounds: the job was running before a restart."""
        self._queues.setdefault(owner, _Queue()).running.add(job)
        self._count += 1

    def leave(self, owner: str, job: Job, places: Places) -> list[Job]:
        """Give a place back; returns the jobs whose turn has come by that."""
        queue = self._queues[owner]
        self._count -= 1
        if job in queue.running:
            queue.running.remove(job)
        else:
            queue.waiting.remove(job)
        turns: list[Job] = []
        while queue.waiting and len(queue.running) < places.at_once:
            turn = queue.waiting.popleft()
            queue.running.add(turn)
            turns.append(turn)
        if not queue.running and not queue.waiting:
            del self._queues[owner]
        return turns


def _full(places: Places) -> GatewayError:
    return GatewayError(
        Kind.RATE_LIMIT_EXCEEDED,
        f"The queue of image jobs is full: {places.at_once} run and {places.queued} wait; try again when one has ended.",
        retry_after=_LOOK_AGAIN_S,
    )
