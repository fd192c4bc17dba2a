"""This file says how the models and their sources fare, now and over the last 24 hours of real traffic. (Contract §2.)"""

from __future__ import annotations

import math
from typing import Final

from kyma_proxy.config.snapshot import Model, Snapshot, Source
from kyma_proxy.core.routing.breaker import CLOSED, HALF_OPEN, OPEN, BreakerTable
from kyma_proxy.core.routing.history import HourlyCounts

_WORDS: Final = {CLOSED: "on", OPEN: "resting", HALF_OPEN: "probing"}


def status(snapshot: Snapshot, table: BreakerTable, now: float) -> dict[str, object]:
    """The document of `/v1/status`; `now` is in seconds of the monotonic clock.

    A model is `available` when every source of its pool that has a key is asked, `unavailable` when neither it nor a
    substitute can answer, else `degraded`.
    """
    can_answer = {name: _can_answer(model, table, now) for name, model in snapshot.models.items()}
    models = [
        {
            "id": model.id,
            "status": _word(model, table, now, any(can_answer[one] for one in (name, *snapshot.fallbacks.get(name, ())))),
            **_counted("requests", table.of_model(name), now),
            "sources": [
                *(_source(source, "pool", table, now) for source in model.pool),
                *(_source(source, "reserve", table, now) for source in model.reserve),
            ],
        }
        for name, model in snapshot.models.items()
    ]
    words = {model["status"] for model in models}
    return {"object": "status", "status": words.pop() if len(words) == 1 else "degraded", "models": models}


def _can_answer(model: Model, table: BreakerTable, now: float) -> bool:
    return any(source.provider.off is None and table.of(source.key).allows(now) for source in (*model.pool, *model.reserve))


def _word(model: Model, table: BreakerTable, now: float, somebody_can: bool) -> str:
    on = [source for source in model.pool if source.provider.off is None]
    if on and all(table.of(source.key).state == CLOSED for source in on):
        return "available"
    return "degraded" if somebody_can else "unavailable"


def _source(source: Source, part: str, table: BreakerTable, now: float) -> dict[str, object]:
    health = table.of(source.key)
    off = source.provider.off
    open_for_s = health.open_for_s(now)
    last = health.last if health.state != CLOSED else None
    return {
        "provider": source.provider.name,
        "model": source.model,
        "part": part,
        "status": _WORDS[health.state] if off is None else "off",
        "reason": off or (last.detail if last is not None else None),
        "retry_in_s": math.ceil(open_for_s) if open_for_s else None,
        "first_byte_ms": round(health.first_byte_s * 1000, 1) or None,
        **_counted("attempts", health.hours, now),
    }


def _counted(what: str, hours: HourlyCounts, now: float) -> dict[str, object]:
    went_well, failed = hours.sums(now)
    total = went_well + failed
    return {f"{what}_24h": total, "availability_24h": round(went_well / total, 6) if total else None}
