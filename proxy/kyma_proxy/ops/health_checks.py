"""This file probes the sources that nobody has asked for long, so that the plan and `/v1/status` know of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Snapshot, Source
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.health_check import check_request, check_verdict, due_for_check
from kyma_proxy.net.upstream.connection import UpstreamConnection, monotonic
from kyma_proxy.net.upstream.pool import DialError, UpstreamPool

_log: Final = logging.getLogger("kyma-proxy")
_LOOKS_EVERY_S: Final = 1.0
_LONGEST_PROBE_S: Final = 30.0
_AT_ONCE: Final = 16


class HealthChecks:
    """Probes sources as they become due, some at once; `probes` counts them by result."""

    def __init__(
        self, current: Callable[[], Snapshot], upstreams: UpstreamPool, health: BreakerTable, random: Callable[[], float]
    ) -> None:
        self._current = current
        self._upstreams = upstreams
        self._health = health
        self._random = random
        self._started = monotonic()
        self.probes: dict[str, int] = {"answered": 0, "failed": 0}

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            await asyncio.sleep(_LOOKS_EVERY_S)
            due = due_for_check(self._current(), self._health, monotonic(), self._started)
            for at in range(0, len(due), _AT_ONCE):
                async with asyncio.TaskGroup() as group:
                    for source in due[at : at + _AT_ONCE]:
                        group.create_task(self._probe(source))

    async def _probe(self, source: Source) -> None:
        health = self._health.of(source.key)
        is_trial = health.begin(monotonic())
        try:
            failed = await self._ask(source)
        except BaseException:
            health.abandoned(is_trial=is_trial)
            raise
        if failed is None:
            health.answered(monotonic(), is_trial=is_trial, is_traffic=False)
        else:
            health.failed(monotonic(), failed, self._random, is_trial=is_trial, is_traffic=False)
            _log.warning("probe: %s at %s failed: %s", source.model, source.provider.name, failed.detail)
        self.probes["answered" if failed is None else "failed"] += 1

    async def _ask(self, source: Source) -> AttemptFailure | None:
        """Why the source does not answer; None where it does."""
        told: asyncio.Future[AttemptFailure | None] = asyncio.get_running_loop().create_future()
        answer = _ProbeAnswer(source.provider.name, told)
        # A fresh connection: an idle one may have been closed at the other end, which says nothing of the source.
        dialling = self._upstreams.dial(source.provider, source.timeouts.connect, lambda made: answer.dialled(made, source))
        try:
            return await told
        finally:
            dialling.cancel()
            answer.let_go()


class _ProbeAnswer:
    """Waits for the answer to a probe, and looks at nothing but its status."""

    def __init__(self, provider: str, told: asyncio.Future[AttemptFailure | None]) -> None:
        self._provider = provider
        self._told = told
        self._status = 0
        self._fields: dict[bytes, bytes] = {}
        self._connection: UpstreamConnection | None = None

    def dialled(self, made: UpstreamConnection | DialError, source: Source) -> None:
        if isinstance(made, DialError):
            self._tell(AttemptFailure(made.failure, self._provider, made.detail))
        elif self._told.done():  # nobody waits any more
            made.abandon()
        else:
            self.ask(made, source)

    def ask(self, connection: UpstreamConnection, source: Source) -> None:
        now = monotonic()
        self._connection = connection
        connection.send(self, [check_request(source, now)], source.timeouts, now + _LONGEST_PROBE_S)

    def let_go(self) -> None:
        """Nobody waits any more."""
        if self._connection is not None:
            self._connection.abandon()

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        self._status = status
        self._fields = fields

    def on_body(self, piece: bytes) -> None:
        """What it says is of no interest."""

    def on_end(self, *, is_certain: bool) -> None:
        self._connection = None
        self._tell(check_verdict(self._status, self._fields, self._provider))

    def on_cut(self, failure: FailureKind, detail: str, *, nothing_came: bool) -> None:
        self._connection = None
        self._tell(AttemptFailure(failure, self._provider, detail))

    def _tell(self, failed: AttemptFailure | None) -> None:
        if not self._told.done():
            self._told.set_result(failed)
