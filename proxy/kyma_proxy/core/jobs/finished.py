"""This file keeps the jobs that have ended, with their pictures, for as long as there is room and time. Nothing is on disk."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final

from kyma_proxy.core.jobs.job import Job

KEPT_S: Final = 3600
MAX_KEPT: Final = 20_000
MAX_BYTES: Final = 256 * 2**20
MAX_BYTES_OF_ONE: Final = 64 * 2**20
"""Of an account's pictures, so that none can push out all others'."""


class FinishedJobs:
    """The jobs that ended last, oldest first. What is pushed out keeps its metadata in the store, where there is one."""

    def __init__(self, most_bytes: int = MAX_BYTES, most_bytes_of_one: int = MAX_BYTES_OF_ONE) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._bytes_of: Counter[str] = Counter()
        self._most_bytes = most_bytes
        self._most_bytes_of_one = most_bytes_of_one

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """The newest first."""
        return reversed(self._jobs.values())

    def get(self, ident: str) -> Job | None:
        """The job with this id."""
        return self._jobs.get(ident)

    def add(self, job: Job, now: int) -> list[Job]:
        """Keep a job that has ended; returns those whose pictures have to go for it though nobody has had them.

        Those that were delivered go first, and the newest stays, however large. `now` is Unix time.
        """
        size, owner = sum(picture.size_bytes for picture in job.pictures), job.owner
        self._jobs[job.id] = job
        self._sizes[job.id] = size
        self._bytes += size
        self._bytes_of[owner] += size
        self.sweep(now)
        lost: list[Job] = []
        while self._bytes_of[owner] > self._most_bytes_of_one and self._make_room(job, owner, lost):
            pass
        while self._bytes > self._most_bytes:
            largest = max(self._bytes_of, key=self._bytes_of.__getitem__)
            if not self._make_room(job, largest, lost):
                break
        while len(self._jobs) > MAX_KEPT and self._make_room(job, None, lost):
            pass
        return lost

    def sweep(self, now: int) -> None:
        """Let go of what is too old."""
        while self._jobs:
            oldest = next(iter(self._jobs.values()))
            if (oldest.completed or 0) >= now - KEPT_S:
                return
            self._let_go(oldest)

    def _make_room(self, newest: Job, owner: str | None, lost: list[Job]) -> bool:
        """Let go of one job of an account (None: of any) for the newest one; whether there was one."""
        gone: Job | None = None
        for one in self._jobs.values():
            if one is not newest and owner in (None, one.owner):
                gone = one if gone is None or one.is_delivered else gone
                if one.is_delivered:
                    break
        if gone is None:
            return False
        if gone.pictures and not gone.is_delivered:
            lost.append(gone)
        self._let_go(gone)
        return True

    def _let_go(self, job: Job) -> None:
        del self._jobs[job.id]
        size = self._sizes.pop(job.id)
        self._bytes -= size
        self._bytes_of[job.owner] -= size
        if not self._bytes_of[job.owner]:
            del self._bytes_of[job.owner]
