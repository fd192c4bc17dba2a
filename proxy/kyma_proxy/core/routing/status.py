"""Reports the availability of models and sources, now and over the last 24 hours of real traffic. (Contract §2.)"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from kyma_proxy.config.snapshot import Model, Snapshot, Source
from kyma_proxy.core.routing.breaker import CLOSED, CircuitBreaker
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.history import HourlyCounts
from kyma_proxy.core.routing.plan import each_key

_PUBLIC: Final = ("id", "status", "availability_24h")


def status(snapshot: Snapshot, breakers: BreakerTable, now: float) -> dict[str, object]:
    """The document of `/v1/status`; `now` is in seconds of the monotonic clock.

    A model is `available` if every source of its pool that has a key is available. It is `unavailable` if no source can be
    asked now, neither its own nor a substitute's. Else it is `degraded`. A pattern has one entry for all its models: its
    sources are as they are for the model for which they are worst, and no name that a caller has chosen is shown.
    """
    entries = {model.id: model for model in snapshot.entries}
    can_answer = {name: _can_answer(model, breakers, now) for name, model in entries.items()}
    models = [
        {
            "id": model.id,
            "status": _model_status(
                model, breakers, now, can_answer=any(can_answer[one] for one in (name, *snapshot.fallbacks.get(name, ())))
            ),
            **_counts("requests", breakers.of_model(name), now),
            "sources": [
                *(_source(source, "pool", breakers, now) for source in each_key(model.pool)),
                *(_source(source, "reserve", breakers, now) for source in each_key(model.reserve)),
            ],
        }
        for name, model in entries.items()
    ]
    statuses = {model["status"] for model in models}
    return {"object": "status", "status": statuses.pop() if len(statuses) == 1 else "degraded", "models": models}


def public_status(document: dict[str, object]) -> dict[str, object]:
    """The part of a status for callers with accounts: models and their availability, and nothing of who serves them."""
    models = document["models"]
    assert isinstance(models, list)  # noqa: S101  (so it was made)
    return {**document, "models": [{name: model[name] for name in _PUBLIC} for model in models]}


def _can_answer(model: Model, breakers: BreakerTable, now: float) -> bool:
    sources = each_key((*model.pool, *model.reserve))
    return any(source.provider.off is None and _can_be_asked(source, breakers, now) for source in sources)


def _can_be_asked(source: Source, breakers: BreakerTable, now: float) -> bool:
    """True if some endpoint can be asked; one that is missing says nothing about those that nobody has asked yet."""
    known = _breakers(source, breakers)
    return not known or any(breaker.allows(now) or breaker.is_missing(now) for breaker in known)


def _model_status(model: Model, breakers: BreakerTable, now: float, *, can_answer: bool) -> str:
    on = [source for source in model.pool if source.provider.off is None]
    if on and all(_is_closed(source, breakers, now) for source in on):
        return "available"
    return "degraded" if can_answer else "unavailable"


def _is_closed(source: Source, breakers: BreakerTable, now: float) -> bool:
    """True if the source can be asked with any of its keys."""
    return any(_worst(_breakers(one, breakers), now).state(now) == CLOSED for one in source.with_keys)


def _breakers(source: Source, breakers: BreakerTable) -> list[CircuitBreaker]:
    return [breaker for endpoints in breakers.of_all(source) for breaker in endpoints.values()]


def _worst(breakers: Iterable[CircuitBreaker], now: float) -> CircuitBreaker:
    """The breaker that stands for a source: the one that is open for the longest, else one that is half-open, else the busiest.

    A new one if the source was never asked.
    """
    return max(
        breakers,
        key=lambda one: (one.open_for_s(now), one.state(now) != CLOSED, sum(one.hours.sums(now))),
        default=CircuitBreaker(),
    )


def _source(source: Source, part: str, breakers: BreakerTable, now: float) -> dict[str, object]:
    """A source is `off` if its provider has no key, else it is as its worst endpoint; the counts are those of all endpoints.

    With several keys there is one entry for each, and `key` is its number in the configuration. A pattern's shows no single
    endpoint: one may be missing for the names that its callers make up.
    """
    known, off, is_pattern = _breakers(source, breakers), source.provider.off, source.model.endswith("*")
    worst = _shown(_worst(known, now), now)
    counts = [breaker.hours.sums(now) for breaker in known]
    return {
        "provider": source.provider.name,
        "model": source.model,
        "part": part,
        "key": source.key_number if source.siblings else None,
        **worst,
        "status": worst["status"] if off is None else "off",
        "breaker": worst["breaker"] if off is None else None,
        "reason": off or worst["reason"],
        **_shares("attempts", sum(succeeded for succeeded, _ in counts), sum(failed for _, failed in counts)),
        "endpoints": [
            _endpoint(name, breaker, now)
            for name, breaker in ({} if is_pattern else breakers.endpoints_of(source.key)).items()
            if breaker.asked_at or breaker.state(now) != CLOSED or now < breaker.seen_missing_until
        ],
    }


def _endpoint(name: str, breaker: CircuitBreaker, now: float) -> dict[str, object]:
    """A source at one endpoint, which is `missing` if the source has said of late that it lacks it."""
    shown = {"endpoint": name, **_shown(breaker, now), **_counts("attempts", breaker.hours, now)}
    if now < breaker.seen_missing_until:
        shown |= {
            "status": "missing",
            "reason": f"answered {breaker.missing_status}",
            "retry_in_s": math.ceil(breaker.seen_missing_until - now),
        }
    return shown


def _shown(breaker: CircuitBreaker, now: float) -> dict[str, object]:
    """It is `available` if its breaker is closed, else `unavailable`."""
    state, open_for, last = breaker.state(now), breaker.open_for_s(now), breaker.reason()
    return {
        "status": "available" if state == CLOSED else "unavailable",
        "breaker": state,
        "reason": None if last is None else last.detail,
        "retry_in_s": math.ceil(open_for) if open_for else None,
        "first_byte_ms": round(breaker.first_byte_s * 1000, 1) or None,
    }


def _counts(what: str, hours: HourlyCounts, now: float) -> dict[str, object]:
    return _shares(what, *hours.sums(now))


def _shares(what: str, succeeded: int, failed: int) -> dict[str, object]:
    total = succeeded + failed
    return {f"{what}_24h": total, "availability_24h": round(succeeded / total, 6) if total else None}
