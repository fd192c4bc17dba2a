"""This file keeps the jobs that have ended, with their pictures, for as long as there is room and time. Nothing is on disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from proxy.core.job import Job

KEPT_S: Final = 3600
MOST_KEPT: Final = 20_000
MOST_BYTES: Final = 256 * 2**20


class FinishedJobs:
    """The jobs that ended last, oldest first. What is pushed out keeps its metadata in the store, where there is one."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._most_bytes = most_bytes

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
        self._jobs[job.id] = job
        size = self._sizes[job.id] = sum(picture.size_bytes for picture in job.pictures)
        self._bytes += size
        self.sweep(now)
        lost: list[Job] = []
        while len(self._jobs) > 1 and (len(self._jobs) > MOST_KEPT or self._bytes > self._most_bytes):
            gone = next((one for one in self._jobs.values() if one.is_delivered and one is not job), None)
            if gone is None:
                gone = next(iter(self._jobs.values()))
                if gone.pictures:
                    lost.append(gone)
            self._let_go(gone)
        return lost

    def sweep(self, now: int) -> None:
        """Let go of what is too old."""
        while self._jobs:
            oldest = next(iter(self._jobs.values()))
            if (oldest.completed or 0) >= now - KEPT_S:
                return
            self._let_go(oldest)

    def _let_go(self, job: Job) -> None:
        del self._jobs[job.id]
        self._bytes -= self._sizes.pop(job.id)
