"""Which sources are tried and in which order, what an outcome means, and what a caller is told when none answered."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.config.snapshot import Route
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, exhausted, moves_on
from kyma_proxy.core.routing.plan import Step, plan, unasked
from kyma_proxy.errors import Kind
from tests.factories import snapshot

UNTRANSLATED = {"openai": "completions", "anthropic": "count_tokens"}
"""An endpoint of each dialect at which only sources of that dialect are asked."""
TIMEOUTS = (FailureKind.CONNECT_TIMEOUT, FailureKind.FIRST_BYTE_TIMEOUT, FailureKind.TOTAL_TIMEOUT)


def model(
    *weights: float,
    off: tuple[int, ...] = (),
    dialects: tuple[str, ...] = (),
    dialect: str = "openai",
    policy: str = "weighted",
) -> Route:
    """The route of a model whose sources, m0, m1, …, have these weights."""
    providers = "".join(
        f"  - {{name: p{at}, base_url: http://p{at}.example, dialect: {dialects[at] if dialects else 'openai'}"
        + (', api_key: "${NOT_SET}"' if at in off else "")
        + "}\n"
        for at in range(len(weights))
    )
    pool = "".join(f"      - {{provider: p{at}, model: m{at}, weight: {weight}}}\n" for at, weight in enumerate(weights))
    text = f"providers:\n{providers}models:\n  - id: m\n    policy: {policy}\n    pool:\n{pool}"
    return snapshot(text).routes[UNTRANSLATED[dialect]]["m"]


def planned(of: Route, random: Random, table: BreakerTable | None = None, now: float = 0.0) -> tuple[Step, ...]:
    return plan(of, table or BreakerTable(), now, random.random)


def order(of: Route, random: Random) -> list[str]:
    return [step.source.model for step in planned(of, random)]


LAYERED = """\
providers:
  - {name: a, base_url: http://a.example, dialect: openai}
  - {name: b, base_url: http://b.example, dialect: openai}
  - {name: c, base_url: http://c.example, dialect: openai}
models:
  - {id: m, policy: priority, pool: [{provider: a, model: m1}, {provider: b, model: m2}], reserve: [{provider: c, model: m3}]}
  - {id: n, policy: priority, pool: [{provider: a, model: n1}], reserve: [{provider: c, model: n2}]}
  - {id: o, policy: priority, pool: [{provider: b, model: o1}]}
fallbacks: {m: [n, o], n: [m]}
"""
REFUSED = AttemptFailure(FailureKind.CONNECT, "a", "no connection: refused")


def open_for_ten_seconds(table: BreakerTable, *keys: str) -> None:
    """Open the breakers of these sources for ten seconds from 0.0 on."""
    for key in keys:
        for _ in range(2):
            table.at(key, "chat").record_failure(0.0, REFUSED, lambda: 0.0)


def test_the_layers_come_in_their_order_and_a_substitute_goes_through_its_own_pool_and_reserve() -> None:
    routes = snapshot(LAYERED).routes["chat"]
    steps = planned(routes["m"], Random(7))
    assert [(step.model.id, step.source.model, step.layer) for step in steps] == [
        ("m", "m1", 0), ("m", "m2", 1), ("m", "m3", 2), ("n", "n1", 3), ("n", "n2", 3), ("o", "o1", 3),
    ]  # fmt: skip
    assert [step.source.model for step in planned(routes["n"], Random(7))] == ["n1", "n2", "m1", "m2", "m3"]
    assert [step.layer for step in planned(routes["o"], Random(7))] == [0]


def test_open_breakers_are_skipped_and_the_source_that_answers_instead_keeps_its_layer() -> None:
    route, table = snapshot(LAYERED).routes["chat"]["m"], BreakerTable()
    open_for_ten_seconds(table, "a m1", "c m3")
    assert [(step.source.model, step.layer) for step in planned(route, Random(7), table, 5.0)] == [
        ("m2", 1), ("n1", 3), ("n2", 3), ("o1", 3),
    ]  # fmt: skip
    assert [one.detail.split(" after")[0] for one in unasked(route, table, 5.0, ())] == [
        "is skipped for 5 s",
        "is skipped for 5 s",
    ]
    assert [one.provider for one in unasked(route, table, 5.0, ["a m1"])] == ["c"]
    assert next(step.source.model for step in planned(route, Random(7), table, 10.0)) == "m1"


def test_with_every_breaker_open_the_plan_is_empty_and_says_why() -> None:
    route, table = snapshot(LAYERED).routes["chat"]["o"], BreakerTable()
    open_for_ten_seconds(table, "b o1")
    assert planned(route, Random(7), table, 1.0) == ()
    error = exhausted("o", unasked(route, table, 1.0, ()))
    assert (error.kind, error.retry_after) == (Kind.NO_SOURCE_AVAILABLE, 9)
    assert "is skipped for 9 s after: no connection: refused" in error.message


def test_priority_is_the_order_of_the_file() -> None:
    assert order(model(1, 9, 0, 3, policy="priority"), Random(7)) == ["m0", "m1", "m2", "m3"]


def test_the_faster_of_two_random_choices_goes_first() -> None:
    route, table, random = model(1, 1, 1, policy="fastest"), BreakerTable(), Random(7)
    for key, seconds in (("p0 m0", 0.3), ("p1 m1", 0.1), ("p2 m2", 0.2)):
        table.at(key, "completions").record_success(0.0, first_byte_s=seconds)
    firsts = Counter(planned(route, random, table)[0].source.model for _ in range(3000))
    assert firsts["m0"] == 0
    assert round(firsts["m1"] / 3000, 1) == 0.7  # of three pairs, two hold the fastest
    assert round(firsts["m2"] / 3000, 1) == 0.3


def test_a_source_whose_time_is_not_known_is_given_the_chance_to_show_it() -> None:
    route, table = model(1, 1, policy="fastest"), BreakerTable()
    table.at("p0 m0", "completions").record_success(0.0, first_byte_s=0.001)
    assert {planned(route, Random(seed), table)[0].source.model for seed in range(20)} == {"m1"}


def status(code: int, retry_after: int | None = None, provider: str = "alpha") -> AttemptFailure:
    return AttemptFailure(FailureKind.STATUS, provider, f"answered {code}", code, retry_after)


def test_sources_come_first_as_often_as_their_weights_say() -> None:
    weighted, random = model(3, 1, 6), Random(7)
    firsts = Counter(order(weighted, random)[0] for _ in range(20_000))
    assert [round(firsts[name] / 20_000, 1) for name in ("m0", "m1", "m2")] == [0.3, 0.1, 0.6]


def test_the_second_choice_is_drawn_by_weight_among_the_rest() -> None:
    weighted, random = model(3, 1, 6), Random(7)
    seconds = Counter(drawn[1] for drawn in (order(weighted, random) for _ in range(20_000)) if drawn[0] == "m2")
    assert round(seconds["m0"] / seconds["m1"], 0) == 3


def test_a_source_of_weight_0_comes_last_and_does_come() -> None:
    weighted, random = model(0, 1, 2, 0), Random(7)
    for _ in range(1000):
        assert set(order(weighted, random)[2:]) == {"m0", "m3"}


@given(st.lists(st.sampled_from([0, 0.1, 1, 2.5, 1e6]), min_size=1, max_size=5).filter(any), st.randoms())
def test_every_usable_source_is_tried_exactly_once_and_only_the_first_is_layer_0(weights: list[float], random: Random) -> None:
    steps = planned(model(*weights), random)
    assert sorted(step.source.model for step in steps) == [f"m{at}" for at in range(len(weights))]
    assert [step.layer for step in steps] == [0] + [1] * (len(weights) - 1)


@pytest.mark.parametrize("point", [0.0, 0.5, 1 - 2**-53])
def test_the_ends_of_chance_are_drawn_like_the_rest(point: float) -> None:
    assert len(plan(model(0.1, 0.2, 0.7), BreakerTable(), 0.0, lambda: point)) == 3
    assert plan(model(0, 1), BreakerTable(), 0.0, lambda: point)[0].source.model == "m1"


def test_rounding_never_puts_a_source_of_weight_0_first() -> None:
    crumbs = model(0.1, 0.2, 0.7, 0)
    assert plan(crumbs, BreakerTable(), 0.0, lambda: 1 - 2**-53)[0].source.weight


def test_sources_of_weight_0_come_in_the_order_of_the_file() -> None:
    assert order(model(1, 0, 0), Random(7)) == ["m0", "m1", "m2"]


def test_providers_that_are_off_are_never_tried() -> None:
    assert order(model(5, 1, off=(0,)), Random(7)) == ["m1"]
    assert order(model(1, off=(0,)), Random(7)) == []
    assert order(model(1, 1, off=(0, 1)), Random(7)) == []


def test_sources_of_another_dialect_are_never_tried() -> None:
    mixed = ("openai", "anthropic", "openai")
    assert sorted(order(model(1, 1, 1, dialects=mixed), Random(7))) == ["m0", "m2"]
    assert order(model(1, 1, 1, dialects=mixed, dialect="anthropic"), Random(7)) == ["m1"]
    assert order(model(1, dialect="anthropic"), Random(7)) == []


def test_the_first_source_is_layer_0_even_when_a_heavier_one_is_off() -> None:
    assert [step.layer for step in planned(model(9, 1, 1, off=(0,)), Random(7))] == [0, 1]


@pytest.mark.parametrize(("code", "goes_on"), [
    *((code, False) for code in (200, 201, 202, 206, 299)),
    *((code, True) for code in (101, 300, 301, 302, 304, 307, 308)),
    *((code, True) for code in (401, 402, 403, 408, 409, 412, 424, 429, 498, 499)),
    *((code, False) for code in (400, 406, 410, 411, 413, 414, 415, 416, 418, 422, 426, 431, 451)),
    *((code, True) for code in (500, 502, 503, 504, 520, 529, 599)),
])  # fmt: skip
def test_another_source_is_asked_exactly_where_it_may_help(code: int, goes_on: bool) -> None:
    assert moves_on(code, is_last=False) is goes_on
    assert moves_on(code, is_last=True) is goes_on


@pytest.mark.parametrize("code", [404, 405, 501])
def test_a_missing_endpoint_leads_to_the_next_source_and_the_last_ones_answer_is_the_callers_to_see(code: int) -> None:
    assert moves_on(code, is_last=False)
    assert not moves_on(code, is_last=True)


def test_no_source_at_all_is_said_to_be_unavailable() -> None:
    error = exhausted("small", ())
    assert (error.kind, error.retry_after) == (Kind.NO_SOURCE_AVAILABLE, None)
    assert "small" in error.message


@pytest.mark.parametrize(("hints", "smallest"), [([7], 7), ([None], None), ([30, 2, 9], 2), ([None, 5], 5), ([0, 3], 0)])
def test_rate_limits_everywhere_are_told_with_the_smallest_hint(hints: list[int | None], smallest: int | None) -> None:
    error = exhausted("small", [status(429, hint) for hint in hints])
    assert (error.kind, error.retry_after) == (Kind.PROVIDER_RATE_LIMITED, smallest)


@pytest.mark.parametrize("failure", TIMEOUTS)
def test_time_outs_everywhere_are_told_as_one(failure: FailureKind) -> None:
    failures = [
        AttemptFailure(failure, "alpha", "was late"),
        AttemptFailure(FailureKind.CONNECT_TIMEOUT, "beta", "did not answer"),
    ]
    error = exhausted("small", failures)
    assert error.kind is Kind.PROVIDER_TIMEOUT
    assert "alpha: was late; beta: did not answer" in error.message


@pytest.mark.parametrize("code", [401, 402, 403, 412, 424, 498, 499])
def test_an_error_about_the_operators_account_says_only_that_the_model_is_not_available(code: int) -> None:
    for failures in ([status(code)], [status(429, 5), status(code)]):
        error = exhausted("small", failures)
        assert error.kind is Kind.NO_SOURCE_AVAILABLE
    assert exhausted("small", [status(500), status(code)]).kind is Kind.PROVIDER_ERROR


@pytest.mark.parametrize("other", [
    status(500), AttemptFailure(FailureKind.CONNECT, "beta", "refused"),
    AttemptFailure(FailureKind.BROKEN, "beta", "hung up"), AttemptFailure(FailureKind.ERROR_EVENT, "beta", "overloaded"),
])  # fmt: skip
def test_failures_of_several_kinds_are_a_providers_error(other: AttemptFailure) -> None:
    for failures in ([other], [status(429, 5), other], [AttemptFailure(TIMEOUTS[0], "alpha", "late"), other]):
        assert exhausted("small", failures).kind is Kind.PROVIDER_ERROR


@pytest.mark.parametrize(("others", "hint"), [
    ([status(503, 4)], 4), ([status(429, 9), status(503, 3)], 3), ([status(503)], None),
    ([AttemptFailure(FailureKind.CONNECT, "beta", "refused", retry_after=8, was_tried=False)], 8),
])  # fmt: skip
def test_a_mixed_failure_passes_on_the_smallest_hint(others: list[AttemptFailure], hint: int | None) -> None:
    error = exhausted("small", [status(500), *others])
    assert (error.kind, error.retry_after) == (Kind.PROVIDER_ERROR, hint)


def test_what_was_tried_says_more_than_what_was_skipped() -> None:
    skipped = AttemptFailure(FailureKind.CONNECT, "beta", "is skipped for 8 s after: refused", retry_after=8, was_tried=False)
    assert (
        exhausted("small", [AttemptFailure(FailureKind.FIRST_BYTE_TIMEOUT, "alpha", "late"), skipped]).kind
        is Kind.PROVIDER_TIMEOUT
    )
    assert exhausted("small", [status(429, 5), skipped._replace(status=429)]).kind is Kind.PROVIDER_RATE_LIMITED


def test_a_failure_is_logged_as_a_status_or_a_word() -> None:
    assert status(503).word == "503"
    assert [AttemptFailure(failure, "alpha", "").word for failure in FailureKind if failure is not FailureKind.STATUS] == [
        "connect", "connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout", "broken", "error_event",
        "no_answer", "overtaken",
    ]  # fmt: skip
