"""Hands the accounts over to the process that takes the place of this one. (`taking_over` is its side.)

From `begin` on no account, key or job is changed here, while requests are served and what they cost is written as ever: the
other process reads the database meanwhile, and at the end once more what has changed since. From `complete` on it has the
accounts: what the remaining requests of this process cost is sent to it, and what their accounts hold. The jobs of this process
go on here, and it is told of each that ends. If the other process has to upgrade the database, nothing is written from `begin`
on: what requests cost waits.

    {"left": true} + a file with an `AccountsState`          {"charge": [...]}      {"key_used": [KEY, DAY]}
    {"holds": true} + a file: held and unheld by account     {"job": true} + a file with an `EndedJob`
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kyma_proxy.accounting.meter import Ledger, Meter
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.core.jobs.job import Job
from kyma_proxy.errors import StartError
from kyma_proxy.jobs.earlier_jobs import EndedJob, JobElsewhere
from kyma_proxy.jobs.service import JobService
from kyma_proxy.store.contract import Charge

_log: Final = logging.getLogger("kyma-proxy")
Admissions = dict[str, list[tuple[float, int, str]]]
"""By account: the second of the monotonic clock at which each expires, its tokens, and its model."""
Send = Callable[[dict[str, Any], list[int]], None]
"""Sends a message with descriptors. Raises BlockingIOError if there is no room for it, OSError if nobody reads it."""
_MAY_BE_LOST_S: Final = 2.0
"""A charge that was sent is on the other process's disk after a tenth of a second, unless that process has died."""


class AccountsState(msgspec.Struct, frozen=True):
    """The part of the accounts that is in memory: what each holds (nano-dollars, held and unheld), its minute, and its jobs."""

    holds: dict[str, tuple[int, int]]
    admissions: Admissions
    jobs: dict[str, JobElsewhere]


def file_of(content: object) -> int:
    """The descriptor of a file in memory with this content."""
    descriptor = os.memfd_create("kyma-proxy", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(msgspec.msgpack.encode(content))
    return descriptor


class AccountsHandover:
    """The accounts of this process, on their way to another one."""

    def __init__(self, service: AccountService, meter: Meter, jobs: JobService, clock: Callable[[], float]) -> None:
        """`clock` is monotonic."""
        self._service = service
        self._meter = meter
        self._jobs = jobs
        self._clock = clock
        self._settlements = _Settlements(service.store, clock)
        self._known: dict[str, tuple[int, int]] = {}
        self._may_be_upgraded = False

    async def begin(self, *, is_upgrade: bool) -> int | None:
        """Change no account, key or job any more; returns a descriptor of the database's lock. Raises StoreUnavailable.

        `is_upgrade`: write nothing at all.
        """
        self._service.is_paused = True
        self._may_be_upgraded |= is_upgrade
        if is_upgrade:
            self._divert()
        await self._jobs.pause()
        await self._service.drain()
        await self._service.store.flush()
        return self._service.store.lock_descriptor

    async def write_all(self) -> None:
        """Write what requests have cost, and then nothing more. Raises StoreUnavailable."""
        self._divert()
        await self._service.store.flush()

    def _state(self) -> AccountsState:
        """The part of the accounts that is in no database."""
        self._known = {one.id: (one.held, one.unheld) for one in self._service.accounts if one.held or one.unheld}
        scheduler = self._jobs.scheduler
        jobs = {job.id: JobElsewhere(job.owner, has_ended=True) for job in scheduler.finished if job.account is not None}
        jobs |= {job.id: JobElsewhere(job.owner, has_ended=job.is_settled) for job in scheduler if job.account is not None}
        return AccountsState(self._known, self._meter.windows.admissions(self._clock()), jobs)

    def _divert(self) -> None:
        if self._meter.ledger is not self._settlements:
            self._settlements = _Settlements(self._service.store, self._clock)  # those of an earlier try are kept for good
            self._meter.ledger = self._settlements

    def undo(self) -> None:
        """The other process has gone: go on as before; unless it has upgraded the database, which this program can't write."""
        if self._may_be_upgraded and self._was_upgraded():
            self._settlements.is_stuck = True
            _log.error(
                "the database was upgraded by a process that has ended: requests with keys are refused until a kyma-proxy of "
                "its version takes the place of this one (serve --replace)"
            )
            return
        self._service.is_paused = False
        self._settlements.keep()
        self._meter.ledger = self._service.store
        self._jobs.go_on()

    def _was_upgraded(self) -> bool:
        try:
            return self._service.store.was_upgraded
        except StartError as error:
            _log.error("%s", error)
            return True

    def complete(self, send: Send) -> None:
        """Leave the accounts to the other process: send it what is in no database, and from now on what happens here.

        Raises OSError if it has ended; then nothing has changed.
        """
        file = file_of(self._state())
        try:
            send({"left": True}, [file])
        finally:
            os.close(file)
        self._settlements.begin(send)
        self._service.store.release_lock()
        scheduler = self._jobs.scheduler
        scheduler.on_settled = self._job_settled
        self._jobs.settle_again()
        for job in reversed([job for job in scheduler.finished if job.account is not None]):
            self._job_settled(job, 0)

    def tick(self) -> None:
        """Send what has changed of what accounts hold, and what could not be sent before. To be called often."""
        changed: dict[str, tuple[int, int]] = {}
        for ident, before in self._known.items():
            account = self._service.accounts.account(ident)
            now = (0, 0) if account is None else (account.held, account.unheld)
            if now != before:
                changed[ident] = now
        if changed:
            self._known |= changed
            self._known = {ident: held for ident, held in self._known.items() if any(held)}
            self._settlements.tell({"holds": True}, changed)
        self._settlements.send_waiting()

    def successor_ended(self) -> None:
        """The other process has ended: what it may not have written is written here, and all that comes."""
        self._settlements.keep(also_sent=True)

    def close(self) -> None:
        """This process ends: what could not be sent is written here."""
        self._settlements.keep()

    def _job_settled(self, job: Job, posted: int) -> None:
        if job.account is not None:
            failure = None if job.failure is None else job.failure.message
            ended = EndedJob(job.id, job.pictures, job.alias, failure, posted)
            self._settlements.tell({"job": True}, ended)


class _Settlements:
    """The ledger of this process meanwhile: what comes waits, or goes to the other process, or after all to the store."""

    def __init__(self, store: Ledger, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._send: Send | None = None
        self._is_kept = False
        self.is_stuck = False
        """True while nothing can be written: the database is of a newer version, and no other process takes it over."""
        self._waiting: deque[tuple[dict[str, Any], object]] = deque()
        self._sent: deque[tuple[float, Charge]] = deque()

    @property
    def is_failing(self) -> bool:
        """True if charges can't be written just now."""
        return self._store.is_failing or self.is_stuck

    def charge(self, charge: Charge) -> None:
        """Take a charge."""
        if self._is_kept:
            self._store.charge(charge)
        else:
            self.tell({"charge": msgspec.to_builtins(charge)}, charge)

    def key_used(self, key: str, day: int) -> None:
        """Take a note of a key's first use on a day."""
        if self._is_kept:
            self._store.key_used(key, day)
        else:
            self.tell({"key_used": [key, day]})

    def tell(self, message: dict[str, Any], content: object = None) -> None:
        """Send a message as soon as that can be done; content that is no charge goes in a file."""
        self._waiting.append((message, content))
        self.send_waiting()

    def begin(self, send: Send) -> None:
        """Send what waits, and from now on what comes."""
        self._send = send
        self.is_stuck = False
        self.send_waiting()

    def send_waiting(self) -> None:
        """Send what waits, as far as there is room for it."""
        while self._waiting and self._send is not None:
            message, content = self._waiting[0]
            files = [] if content is None or isinstance(content, Charge) else [file_of(content)]
            try:
                self._send(message, files)
            except OSError:  # it has no room, or it has ended, which its connection tells
                return
            finally:
                for file in files:
                    os.close(file)
            self._waiting.popleft()
            if isinstance(content, Charge):
                self._remember(content)

    def _remember(self, charge: Charge) -> None:
        now = self._clock()
        self._sent.append((now, charge))
        while self._sent[0][0] < now - _MAY_BE_LOST_S:
            self._sent.popleft()

    def keep(self, *, also_sent: bool = False) -> None:
        """Write what waits here, with `also_sent` what was sent lately, and all that comes. The ledger has nothing twice."""
        self._send, self._is_kept = None, True
        since = self._clock() - _MAY_BE_LOST_S
        if also_sent:
            for at, charge in self._sent:
                if at >= since and charge.amount:  # one without an amount leaves no line in the ledger by which it is known
                    self._store.charge(charge)
        self._sent.clear()
        for message, content in self._waiting:
            if isinstance(content, Charge):
                self._store.charge(content)
            elif "key_used" in message:
                self._store.key_used(*message["key_used"])
        self._waiting.clear()
