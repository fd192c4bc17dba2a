"""Runs active health checks on sources that nobody has asked for long, so that the plan and `/v1/status` know of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final

from kyma_proxy.config.snapshot import Snapshot, Source
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure
from kyma_proxy.core.routing.health_check import check_verdict, due_for_check
from kyma_proxy.dialect.health_check import check_request
from kyma_proxy.net.upstream.client import NoResponseError, UpstreamClient

_log: Final = logging.getLogger("kyma-proxy")
_INTERVAL_S: Final = 1.0
_MAX_CHECK_S: Final = 30.0
_MAX_AT_ONCE: Final = 16


class HealthChecks:
    """Checks sources as they become due, some at once; `results` counts the checks."""

    def __init__(
        self, current: Callable[[], Snapshot], client: UpstreamClient, breakers: BreakerTable, random: Callable[[], float]
    ) -> None:
        self._current = current
        self._client = client
        self._breakers = breakers
        self._random = random
        self._started = monotonic()
        self.results: dict[str, int] = {"answered": 0, "failed": 0}

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            due = due_for_check(self._current(), self._breakers, monotonic(), self._started)
            for at in range(0, len(due), _MAX_AT_ONCE):
                async with asyncio.TaskGroup() as group:
                    for source in due[at : at + _MAX_AT_ONCE]:
                        group.create_task(self._check(source))

    async def _check(self, source: Source) -> None:
        breaker = self._breakers.at(source.key, source.main_endpoint, is_main=True)
        if not breaker.allows(monotonic()):
            return  # it has opened since the check was planned
        permit = breaker.acquire(monotonic())
        try:
            failure = await self._failure_of(source)
            if failure is None:
                permit.success(monotonic(), is_traffic=False)
            else:
                permit.failure(monotonic(), failure, self._random, is_traffic=False)
                _log.warning("health check: %s at %s failed: %s", source.model, source.provider.name, failure.detail)
            self.results["answered" if failure is None or failure.is_missing else "failed"] += 1
        finally:
            permit.release()  # does something only if the check was cancelled

    async def _failure_of(self, source: Source) -> AttemptFailure | None:
        """The reason why the source does not answer; None if it does."""
        provider = source.provider
        timeouts = replace(source.timeouts, total=_MAX_CHECK_S)
        try:
            # On a fresh connection: an idle one may have been closed at the other end, which says nothing of the source.
            response = await self._client.send(provider, check_request(source), timeouts, is_fresh=True)
        except NoResponseError as error:
            return AttemptFailure(error.why.kind, provider.name, error.why.detail, nothing_came=error.why.nothing_came)
        return check_verdict(response.status, response.fields, provider.name, time.time())
