"""Keeps the requests of accounts to be looked at later: hands lines of the access log to the store, and has old ones deleted.

A request costs nothing more for it: its line is made anyway, and lines are taken by the batch. They are no money: while the
disk can't be written they are dropped and counted. (Contract §11.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.store.contract import DAY_S, Store, StoreError

INTERVAL_S: Final = 1.0
"""The time between two writes: each is a commit of its own."""
_MAX_WAITING_BYTES: Final = 8 * 2**20
_FORGET_INTERVAL_S: Final = 600.0
"""The time between two looks for old rows while nothing is written."""
_MAX_FORGETS: Final = 20
"""The most deletions in a row. Each makes room for a thousand rows, so they keep pace with any load."""

_log: Final = logging.getLogger("kyma-proxy")


class Activity:
    """The lines that wait to be kept. `clock` is monotonic, `wall` is Unix time. For the event loop's thread."""

    def __init__(
        self, current: Callable[[], Snapshot], store: Store, *, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._current = current
        self._store = store
        self._clock = clock
        self._wall = wall
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._due = self._forget_due = 0.0
        self._may_have_rows = True
        self._writing: asyncio.Task[None] | None = None
        self._has_warned = False
        self.lost = 0
        """Lines that could not be written, or that were too many."""

    def take(self, lines: bytes) -> None:
        """Take whole lines of the access log, to be written soon."""
        if self._current().activity is None:
            return
        if self._waiting_bytes + len(lines) > _MAX_WAITING_BYTES:
            self._lose(lines.count(b"\n"), "the disk is too slow")
            return
        self._may_have_rows = True
        self._waiting.append(lines)
        self._waiting_bytes += len(lines)

    def sweep(self) -> None:
        """Begin to write what waits, or to delete what is old, if it is time; called every tick."""
        now = self._clock()
        if self._writing is None and now >= self._due and (self._waiting or (self._may_have_rows and now >= self._forget_due)):
            self._due = now + INTERVAL_S
            self._writing = asyncio.get_running_loop().create_task(self._look_after())

    async def close(self) -> None:
        """Write what is left. Call it before the store is closed."""
        if self._writing is not None:
            await self._writing
        await self._write()

    async def _look_after(self) -> None:
        try:
            await self._write()
            await self._forget()
        finally:
            self._writing = None

    async def _write(self) -> None:
        lines, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        if not lines:
            return
        try:
            await self._store.add_activity(lines)
        except StoreError as error:
            self._lose(lines.count(b"\n"), error)
        else:
            self._has_warned = False

    async def _forget(self) -> None:
        """Delete some of what is beyond the bounds; all of it, if nothing is to be kept any more."""
        bounds = self._current().activity
        before, rows = (0, 0) if bounds is None else (int(self._wall()) - bounds.days * DAY_S, bounds.rows)
        with contextlib.suppress(StoreError):  # it is tried again after the interval
            for _ in range(_MAX_FORGETS):
                if not await self._store.forget_activity(before, rows):
                    self._may_have_rows = bounds is not None
                    break
            else:
                return
        self._forget_due = self._clock() + _FORGET_INTERVAL_S

    def _lose(self, lines: int, why: object) -> None:
        self.lost += lines
        if not self._has_warned:
            self._has_warned = True
            _log.warning("activity: %s; requests are served and charged, and are missing in the activity", why)
