"""Takes the accounts over from the process whose place this one takes. (`handing_over` is its side.)"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.jobs.earlier_jobs import EndedJob
from kyma_proxy.jobs.service import JobService
from kyma_proxy.ops.accounts.handing_over import AccountsState
from kyma_proxy.store.contract import Charge


class AccountsTakeover:
    """Takes in what the other process had in memory, and what it still tells."""

    def __init__(self, service: AccountService, meter: Meter, jobs: JobService, state: AccountsState) -> None:
        """Set the accounts up as the other process had them, and open the jobs."""
        self._service = service
        self._meter = meter
        self._jobs = jobs
        self._held: dict[str, tuple[int, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hold(state.holds)
        for ident, admissions in state.admissions.items():
            window = meter.windows.of(ident)
            for expires_at, tokens, model in admissions:
                window.restore(expires_at, tokens, model)
        jobs.open(state.jobs)

    def receive(self, message: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Take in a message of the other process; one that is not known says nothing."""
        if "charge" in message:
            self._charge(msgspec.convert(message["charge"], Charge))
        elif "key_used" in message:
            key, day = message["key_used"]
            self._meter.ledger.key_used(key, day)
        elif "holds" in message and descriptors:
            self._hold(read(descriptors[0], dict[str, tuple[int, int]]))
        elif "job" in message and descriptors:
            self._spawn(self._jobs.earlier.came(read(descriptors[0], EndedJob)))

    def other_ended(self) -> None:
        """The other process has ended: nothing is held for its requests, and its jobs are nobody's."""
        self._hold(dict.fromkeys(self._held, (0, 0)))
        before = [*self._tasks]
        self._spawn(self._settle_jobs(before))

    async def _settle_jobs(self, before: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.gather(*before, return_exceptions=True)
        await self._jobs.earlier.other_ended()

    def _charge(self, charge: Charge) -> None:
        account = self._service.accounts.account(charge.account)
        if account is not None:
            account.post(-charge.amount)
        self._meter.ledger.charge(charge)

    def _hold(self, holds: Mapping[str, Sequence[int]]) -> None:
        for ident, (held, unheld) in holds.items():
            account = self._service.accounts.account(ident)
            held_before, unheld_before = self._held.pop(ident, (0, 0))
            if account is not None:
                account.hold(held - held_before)
                account.expose(unheld - unheld_before)
                self._held[ident] = held, unheld

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def read(descriptor: int, kind: Any) -> Any:
    """Decode a file that the other process has sent. Raises OSError, ValueError."""
    return msgspec.msgpack.decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0), type=kind)
