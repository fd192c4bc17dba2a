"""Ends the gateway: nothing new is accepted, and what runs may end by itself for a while before it is cut. (Contract §13.)"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.predecessor import Predecessor

_log: Final = logging.getLogger("kyma-proxy")
_FINAL_WRITES_S: Final = 1.0
_LOOK_S: Final = 0.02


class Ending:
    """The end of the gateway: by a signal, or as another process has taken its place.

    It does not end before the process whose place it has taken, which tells it how its requests end: what this one does not
    pass on to the next would be known to nobody that serves.
    """

    def __init__(self, app: App, predecessor: Predecessor | None) -> None:
        self._app = app
        self._predecessor = predecessor
        self._is_signalled = asyncio.Event()
        self._skip_waiting = asyncio.Event()
        self.begun = asyncio.Event()
        self.is_replaced = False

    def stop(self) -> None:
        """End within `drain`, and a process that this one has replaced as well. A second call does not wait for what runs."""
        if self._predecessor is not None:
            self._predecessor.end()
        if self._is_signalled.is_set():
            self._skip_waiting.set()
        self._is_signalled.set()
        self.begun.set()

    async def run(self, close: Callable[[], None], snapshot: Snapshot) -> None:
        """Wait until all requests and image jobs have ended, then cut them: after `drain`, or when nobody shall wait.

        `close` closes the listeners.

        A process that was replaced is in nobody's way, and waits as long as an answer takes, unless it gets a signal.
        """
        app = self._app
        if not self.is_replaced:
            app.is_leaving = True
            await self._delay(snapshot.shutdown_delay)
            close()
            app.listener.drain()
        app.jobs.drain()
        if not self._is_signalled.is_set():
            await self._until_idle(None, self._is_signalled)
        if self._at_risk:
            requests, jobs = app.gateway.in_flight, app.jobs.scheduler.at_risk
            _log.info("draining: %d requests and %d image jobs, for up to %g s", requests, jobs, snapshot.drain)
        await self._until_idle(snapshot.drain, self._skip_waiting)
        if self._at_risk:
            _log.warning(
                "drained: %d requests are cut, %d image jobs are refunded", app.gateway.in_flight, app.jobs.scheduler.at_risk
            )
            app.gateway.drain()
        await self._until_idle(_FINAL_WRITES_S, asyncio.Event())

    async def _delay(self, seconds: float) -> None:
        """Serve on for a while, in which readiness says no, so that nobody is sent here when the listeners close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._skip_waiting.wait()

    @property
    def _at_risk(self) -> int:
        return self._app.gateway.in_flight + self._app.jobs.scheduler.at_risk

    @property
    def _is_needed(self) -> bool:
        listener, before = self._app.listener, self._predecessor
        is_served = bool(self._at_risk or listener.connections or listener.waiting)
        return is_served or not (before is None or before.has_ended)

    async def _until_idle(self, seconds: float | None, skip: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._is_needed and not skip.is_set():  # noqa: ASYNC110  (two conditions, once)
                    await asyncio.sleep(_LOOK_S)
