"""Which source is asked next, and what a caller is told when nobody is left."""

from __future__ import annotations

from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.candidates import Candidates, candidates_of
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.plan import plan
from kyma_proxy.errors import GatewayError, Kind
from tests.factories import snapshot

TEXT = """\
providers:
  - {name: a, base_url: http://a.example, dialect: openai}
  - {name: b, base_url: http://b.example, dialect: openai}
models:
  - {id: m, policy: priority, pool: [{provider: a, model: m1}, {provider: b, model: m2}]}
"""
ROUTE = snapshot(TEXT).routes["chat"]["m"]
ALONE = """\
providers:
  - {name: a, base_url: http://a.example, dialect: openai}
models:
  - {id: m, pool: [{provider: a, model: m1}], reserve: [{provider: a, model: m2}, {provider: a, model: m3}]}
  - {id: n, pool: [{provider: a, model: n1}, {provider: a, model: n2}], reserve: [{provider: a, model: n3}]}
fallbacks: {m: [n]}
"""


def unavailable(provider: str) -> AttemptFailure:
    return AttemptFailure(FailureKind.STATUS, provider, "answered 503", 503)


def open_breaker(breakers: BreakerTable, key: str, provider: str) -> None:
    """Let a source fail at second 0 until its breaker opens, for 10 s."""
    for _ in range(4):
        breakers.at(key, "chat").record_failure(0.0, unavailable(provider), lambda: 0.0)


def test_a_source_that_failed_in_the_first_round_and_is_skipped_in_the_second_is_named_once() -> None:
    breakers = BreakerTable()
    candidates = Candidates(ROUTE, breakers, plan(ROUTE, breakers, 0.0, lambda: 0.0))
    while step := candidates.next(0.0, is_last_resort=True):
        provider = step.source.provider.name
        candidates.failures[step.source.key] = unavailable(provider)
        open_breaker(breakers, step.source.key, provider)
    candidates.restart(plan(ROUTE, breakers, 1.0, lambda: 0.0), ())
    assert candidates.next(1.0, is_last_resort=True) is None
    error = candidates.error(1.0)
    assert error.message == "No source of m could answer (a: answered 503; b: answered 503); try again."
    assert (error.kind, error.retry_after) == (Kind.PROVIDER_ERROR, None)  # no source has given a hint


def test_a_source_that_was_never_asked_is_named_with_the_reason() -> None:
    breakers = BreakerTable()
    open_breaker(breakers, "b m2", "b")
    candidates = Candidates(ROUTE, breakers, plan(ROUTE, breakers, 1.0, lambda: 0.0))
    step = candidates.next(1.0, is_last_resort=True)
    assert step is not None
    candidates.failures[step.source.key] = unavailable("a")
    error = candidates.error(1.0)
    reasons = "a: answered 503; b: is skipped for 9 s after: answered 503"
    assert (error.message, error.retry_after) == (f"No source of m could answer ({reasons}); try again.", 9)


def test_a_request_that_one_source_can_not_express_is_not_blamed_while_another_is_skipped_that_can() -> None:
    breakers = BreakerTable()
    open_breaker(breakers, "b m2", "b")
    candidates = Candidates(ROUTE, breakers, plan(ROUTE, breakers, 1.0, lambda: 0.0))
    assert candidates.next(1.0, is_last_resort=True) is not None
    candidates.unsupported = GatewayError(Kind.INVALID_REQUEST, "It makes one image at a time.")
    assert str(candidates.error(1.0)) == "It makes one image at a time."
    error = candidates.error(1.0, is_expressible=True)
    assert (error.kind, error.retry_after) == (Kind.NO_SOURCE_AVAILABLE, 9)
    candidates.failures["a m1"] = unavailable("a")
    assert candidates.error(1.0).kind is Kind.PROVIDER_ERROR


def test_the_rest_of_a_plan_is_drawn_when_it_is_needed_and_is_the_plans() -> None:
    route, breakers = snapshot(ALONE).routes["chat"]["m"], BreakerTable()
    drawn: list[float] = []

    def random() -> float:
        drawn.append(0.3 + 0.6 * (len(drawn) % 2))
        return drawn[-1]

    whole = [step.source.key for step in plan(route, breakers, 0.0, random)]
    count, drawn[:] = len(drawn), []
    candidates = candidates_of(route, breakers, 0.0, random, None)
    first = candidates.next(0.0, is_last_resort=True)
    assert first is not None
    assert drawn == []
    assert candidates.has_more(0.0)
    others = list(iter(lambda: candidates.next(0.0, is_last_resort=True), None))
    assert [step.source.key for step in (first, *others) if step is not None] == whole
    assert [step.layer for step in (first, *others) if step is not None] == [0, 2, 2, 3, 3, 3]
    assert len(drawn) == count


def test_a_hedge_asks_the_rest_of_a_plan_that_was_not_drawn_yet() -> None:
    route, breakers = snapshot(ALONE).routes["chat"]["m"], BreakerTable()
    candidates = candidates_of(route, breakers, 0.0, lambda: 0.0, None)
    assert candidates.next(0.0, is_last_resort=True) is not None
    other = candidates.next(0.0, is_last_resort=False)
    assert other is not None
    assert other.layer == 2
