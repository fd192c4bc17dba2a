"""Keeps ended jobs and their pictures in memory, for an hour or until there is no room. Nothing of it is on disk."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final

from kyma_proxy.core.jobs.job import Job

RETENTION_S: Final = 3600
MAX_JOBS: Final = 20_000
MAX_BYTES: Final = 256 * 2**20
MAX_BYTES_PER_ACCOUNT: Final = 64 * 2**20
"""The limit for one account's pictures, so that no account can evict those of all others."""


class FinishedJobs:
    """The jobs that ended last, oldest first. The metadata of an evicted job stays in the store, if there is one."""

    def __init__(
        self, *, max_jobs: int = MAX_JOBS, max_bytes: int = MAX_BYTES, max_bytes_per_account: int = MAX_BYTES_PER_ACCOUNT
    ) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._bytes_of: Counter[str] = Counter()
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._max_bytes_per_account = max_bytes_per_account

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """Newest first."""
        return reversed(self._jobs.values())

    def get(self, ident: str) -> Job | None:
        """The job with this id."""
        return self._jobs.get(ident)

    def add(self, job: Job, now: int) -> list[Job]:
        """Keep a job that has ended. Returns the jobs that were evicted for it before their pictures were delivered.

        Delivered jobs are evicted first; the new job itself stays, however large it is. `now` is Unix time.
        """
        size, owner = sum(picture.size_bytes for picture in job.pictures), job.owner
        self._jobs[job.id] = job
        self._sizes[job.id] = size
        self._bytes += size
        self._bytes_of[owner] += size
        self.sweep(now)
        lost: list[Job] = []
        while self._bytes_of[owner] > self._max_bytes_per_account and self._evict(job, owner, lost):
            pass
        while self._bytes > self._max_bytes:
            largest = max(self._bytes_of, key=self._bytes_of.__getitem__)
            if not self._evict(job, largest, lost):
                break
        while len(self._jobs) > self._max_jobs and self._evict(job, None, lost):
            pass
        return lost

    def sweep(self, now: int) -> None:
        """Drop the jobs that ended more than an hour ago."""
        while self._jobs:
            oldest = next(iter(self._jobs.values()))
            if (oldest.completed or 0) >= now - RETENTION_S:
                return
            self._remove(oldest)

    def _evict(self, newest: Job, owner: str | None, lost: list[Job]) -> bool:
        """Evict one job of an account (None: of any) in favour of the newest one. Returns True if there was one."""
        evicted: Job | None = None
        for one in self._jobs.values():
            if one is not newest and owner in (None, one.owner):
                evicted = one if evicted is None or one.is_delivered else evicted
                if one.is_delivered:
                    break
        if evicted is None:
            return False
        if evicted.pictures and not evicted.is_delivered:
            lost.append(evicted)
        self._remove(evicted)
        return True

    def _remove(self, job: Job) -> None:
        del self._jobs[job.id]
        size = self._sizes.pop(job.id)
        self._bytes -= size
        self._bytes_of[job.owner] -= size
        if not self._bytes_of[job.owner]:
            del self._bytes_of[job.owner]
