"""Reports the availability of models and sources, now and over the last 24 hours of real traffic. (Contract §2.)"""

from __future__ import annotations

import math

from kyma_proxy.config.snapshot import Model, Snapshot, Source
from kyma_proxy.core.routing.breaker import CLOSED, BreakerTable
from kyma_proxy.core.routing.history import HourlyCounts


def status(snapshot: Snapshot, breakers: BreakerTable, now: float) -> dict[str, object]:
    """The document of `/v1/status`; `now` is in seconds of the monotonic clock.

    A model is `available` if every source of its pool that has a key is available. It is `unavailable` if no source can be
    asked now, neither its own nor a substitute's. Else it is `degraded`.
    """
    can_answer = {name: _can_answer(model, breakers, now) for name, model in snapshot.models.items()}
    models = [
        {
            "id": model.id,
            "status": _model_status(
                model, breakers, now, can_answer=any(can_answer[one] for one in (name, *snapshot.fallbacks.get(name, ())))
            ),
            **_counts("requests", breakers.of_model(name), now),
            "sources": [
                *(_source(source, "pool", breakers, now) for source in model.pool),
                *(_source(source, "reserve", breakers, now) for source in model.reserve),
            ],
        }
        for name, model in snapshot.models.items()
    ]
    statuses = {model["status"] for model in models}
    return {"object": "status", "status": statuses.pop() if len(statuses) == 1 else "degraded", "models": models}


def _can_answer(model: Model, breakers: BreakerTable, now: float) -> bool:
    return any(source.provider.off is None and breakers.of(source.key).allows(now) for source in (*model.pool, *model.reserve))


def _model_status(model: Model, breakers: BreakerTable, now: float, *, can_answer: bool) -> str:
    on = [source for source in model.pool if source.provider.off is None]
    if on and all(breakers.of(source.key).state(now) == CLOSED for source in on):
        return "available"
    return "degraded" if can_answer else "unavailable"


def _source(source: Source, part: str, breakers: BreakerTable, now: float) -> dict[str, object]:
    """A source is `available` if its breaker is closed, and `off` if its provider has no key. Else it is `unavailable`."""
    breaker = breakers.of(source.key)
    off = source.provider.off
    state = breaker.state(now)
    is_closed = state == CLOSED
    open_for = breaker.open_for_s(now)
    last = None if is_closed else breaker.last
    return {
        "provider": source.provider.name,
        "model": source.model,
        "part": part,
        "status": "off" if off is not None else "available" if is_closed else "unavailable",
        "breaker": None if off is not None else state,
        "reason": off or (last.detail if last is not None else None),
        "retry_in_s": math.ceil(open_for) if open_for else None,
        "first_byte_ms": round(breaker.first_byte_s * 1000, 1) or None,
        **_counts("attempts", breaker.hours, now),
    }


def _counts(what: str, hours: HourlyCounts, now: float) -> dict[str, object]:
    succeeded, failed = hours.sums(now)
    total = succeeded + failed
    return {f"{what}_24h": total, "availability_24h": round(succeeded / total, 6) if total else None}
