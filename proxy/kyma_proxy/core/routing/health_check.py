"""Decides which sources get an active health check, and what its answer means. (Contract §9.)

A health check is an ordinary request for one token. It costs money, so it is off unless `defaults.probe_after` says otherwise.
It does not count as traffic.
"""

from __future__ import annotations

from kyma_proxy.config.snapshot import Snapshot, Source
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, moves_on, status_failure
from kyma_proxy.core.routing.plan import each_key


def due_for_check(snapshot: Snapshot, breakers: BreakerTable, now: float, started: float) -> list[Source]:
    """The sources of text models that are on, may be asked, and were not asked for `probe_after` (or since `started`).

    A source is checked at its main endpoint; one that lacks it is not.
    """
    after = snapshot.probe_after
    if after is None:
        return []
    due: dict[str, Source] = {}
    for model in snapshot.models.values():
        for source in () if model.is_image else each_key((*model.pool, *model.reserve)):
            if source.provider.off is not None or source.main_endpoint not in source.endpoints:
                continue
            is_idle = now - max(breakers.asked_at(source.key), started) >= after
            if is_idle and breakers.at(source.key, source.main_endpoint, is_main=True).allows(now):
                due[source.key] = source
    return list(due.values())


def check_verdict(status: int, fields: dict[bytes, bytes], provider: str, wall: float) -> AttemptFailure | None:
    """The failure that an answer with this status, at `wall` (Unix time), means; None if the source is healthy.

    A model that does not chat (one for embeddings, say) refuses the check with a 4xx: the source is there. One that lacks the
    endpoint is not down either; see `AttemptFailure.is_missing`.
    """
    if not moves_on(status, is_last=False):
        return None
    return status_failure(provider, status, fields, wall=wall)
