"""Keeps ended jobs and their pictures in memory, for an hour or until there is no room. Nothing of it is on disk.

Memory is bounded per account and in total, but for the newest job. If the total is too large, an account loses pictures only
if it keeps more than its share: the total divided by the accounts with jobs. So nobody pushes out the pictures of an account
within its share.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from kyma_proxy.core.jobs.job import Job

RETENTION_S: Final = 3600
MAX_JOBS: Final = 20_000
MAX_BYTES: Final = 256 * 2**20
MAX_BYTES_PER_ACCOUNT: Final = 64 * 2**20
"""The limit for one account's pictures."""


class _AccountJobs:
    """The jobs of one account, oldest first, and the size of their pictures."""

    __slots__ = ("bytes", "jobs")

    def __init__(self) -> None:
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.bytes = 0


class FinishedJobs:
    """The jobs that ended last, oldest first. The metadata of an evicted job stays in the store, if there is one."""

    def __init__(
        self, *, max_jobs: int = MAX_JOBS, max_bytes: int = MAX_BYTES, max_bytes_per_account: int = MAX_BYTES_PER_ACCOUNT
    ) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._accounts: dict[str, _AccountJobs] = {}
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

        An account's delivered jobs are evicted first; the new job itself stays, however large it is. `now` is Unix time.
        """
        size = sum(picture.size_bytes for picture in job.pictures)
        mine = self._accounts.setdefault(job.owner, _AccountJobs())
        self._jobs[job.id] = mine.jobs[job.id] = job
        self._sizes[job.id] = size
        self._bytes += size
        mine.bytes += size
        self.sweep(now)
        lost: list[Job] = []
        while mine.bytes > self._max_bytes_per_account and self._evict(mine, job, lost, has_pictures=True):
            pass
        while self._bytes > self._max_bytes:
            loser = mine if mine.bytes > size and self._is_beyond_share(mine) else self._largest_but(mine)
            if not self._is_beyond_share(loser) or not self._evict(loser, job, lost, has_pictures=True):
                break
        while len(self._jobs) > self._max_jobs:
            loser = max(self._accounts.values(), key=lambda account: len(account.jobs))
            if not self._evict(loser, job, lost, has_pictures=False):
                break
        return lost

    def sweep(self, now: int) -> None:
        """Drop the jobs that ended more than an hour ago."""
        while self._jobs:
            oldest = next(iter(self._jobs.values()))
            if (oldest.completed or 0) >= now - RETENTION_S:
                return
            self._remove(oldest)

    def _is_beyond_share(self, account: _AccountJobs) -> bool:
        return account.bytes * len(self._accounts) > self._max_bytes

    def _largest_but(self, mine: _AccountJobs) -> _AccountJobs:
        """The account with the largest pictures, besides the one with the newest job if there is another."""
        others = (account for account in self._accounts.values() if account is not mine)
        return max(others, key=lambda account: account.bytes, default=mine)

    def _evict(self, account: _AccountJobs, newest: Job, lost: list[Job], *, has_pictures: bool) -> bool:
        """Evict one job of an account in favour of the newest one. Returns True if there was one.

        It is the oldest one that nobody waits for, or else the oldest; with `has_pictures` only one that frees memory.
        """
        evicted: Job | None = None
        for one in account.jobs.values():
            if one is newest or (has_pictures and not self._sizes[one.id]):
                continue
            if one.is_delivered or not one.pictures:
                evicted = one
                break
            evicted = evicted or one
        if evicted is None:
            return False
        if evicted.pictures and not evicted.is_delivered:
            lost.append(evicted)
        self._remove(evicted)
        return True

    def _remove(self, job: Job) -> None:
        del self._jobs[job.id]
        size = self._sizes.pop(job.id)
        account = self._accounts[job.owner]
        del account.jobs[job.id]
        self._bytes -= size
        account.bytes -= size
        if not account.jobs:
            del self._accounts[job.owner]
