"""Which sources are tried and in which order, what an outcome means, and what a caller is told when none answered."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.snapshot import Model
from proxy.core.outcome import Failed, Failure, exhausted, moves_on
from proxy.core.plan import plan
from proxy.errors import Kind
from tests.snapshots import snapshot

TIMEOUTS = (Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.TOTAL_TIMEOUT)


def model(*weights: float, off: tuple[int, ...] = (), dialects: tuple[str, ...] = ()) -> Model:
    """A model whose sources, m0, m1, …, have these weights."""
    providers = "".join(
        f"  - {{name: p{at}, base_url: http://p{at}.example, dialect: {dialects[at] if dialects else 'openai'}"
        + (', api_key: "${NOT_SET}"' if at in off else "")
        + "}\n"
        for at in range(len(weights))
    )
    pool = "".join(f"      - {{provider: p{at}, model: m{at}, weight: {weight}}}\n" for at, weight in enumerate(weights))
    return snapshot(f"providers:\n{providers}models:\n  - id: m\n    pool:\n{pool}").models["m"]


def order(of: Model, random: Random, dialect: str = "openai") -> list[str]:
    return [step.source.model for step in plan(of, dialect, random.random)]


def status(code: int, retry_after: int | None = None, provider: str = "alpha") -> Failed:
    return Failed(Failure.STATUS, provider, f"answered {code}", code, retry_after)


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


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 0.1, 1, 2.5, 1e6]), min_size=1, max_size=5).filter(any), st.randoms())
def test_every_usable_source_is_tried_exactly_once_and_only_the_first_is_layer_0(weights: list[float], random: Random) -> None:
    steps = plan(model(*weights), "openai", random.random)
    assert sorted(step.source.model for step in steps) == [f"m{at}" for at in range(len(weights))]
    assert [step.layer for step in steps] == [0] + [1] * (len(weights) - 1)


@pytest.mark.parametrize("point", [0.0, 0.5, 1 - 2**-53])
def test_the_ends_of_chance_are_drawn_like_the_rest(point: float) -> None:
    assert len(plan(model(0.1, 0.2, 0.7), "openai", lambda: point)) == 3
    assert plan(model(0, 1), "openai", lambda: point)[0].source.model == "m1"


def test_rounding_never_puts_a_source_of_weight_0_first() -> None:
    crumbs = model(0.1, 0.2, 0.7, 0)
    assert plan(crumbs, "openai", lambda: 1 - 2**-53)[0].source.weight


def test_sources_of_weight_0_come_in_the_order_of_the_file() -> None:
    assert order(model(1, 0, 0), Random(7)) == ["m0", "m1", "m2"]


def test_providers_that_are_off_are_never_tried() -> None:
    assert order(model(5, 1, off=(0,)), Random(7)) == ["m1"]
    assert order(model(1, off=(0,)), Random(7)) == []
    assert order(model(1, 1, off=(0, 1)), Random(7)) == []


def test_sources_of_another_dialect_are_never_tried() -> None:
    mixed = model(1, 1, 1, dialects=("openai", "anthropic", "openai"))
    assert sorted(order(mixed, Random(7))) == ["m0", "m2"]
    assert order(mixed, Random(7), "anthropic") == ["m1"]
    assert order(model(1), Random(7), "anthropic") == []


def test_the_first_source_is_layer_0_even_when_a_heavier_one_is_off() -> None:
    assert [step.layer for step in plan(model(9, 1, 1, off=(0,)), "openai", Random(7).random)] == [0, 1]


@pytest.mark.parametrize(("code", "goes_on"), [
    *((code, False) for code in (200, 201, 202, 206, 299)),
    *((code, True) for code in (101, 300, 301, 302, 304, 307, 308)),
    *((code, True) for code in (401, 403, 408, 409, 429)),
    *((code, False) for code in (400, 402, 405, 406, 410, 411, 412, 413, 414, 415, 416, 418, 422, 426, 431, 451)),
    *((code, True) for code in (500, 501, 502, 503, 504, 520, 529, 599)),
])  # fmt: skip
def test_another_source_is_asked_exactly_where_it_may_help(code: int, goes_on: bool) -> None:
    assert moves_on(code, is_last=False) is goes_on
    assert moves_on(code, is_last=True) is goes_on


def test_a_404_goes_on_to_the_next_source_and_the_last_ones_is_the_callers_to_see() -> None:
    assert moves_on(404, is_last=False)
    assert not moves_on(404, is_last=True)


def test_no_source_at_all_is_said_to_be_unavailable() -> None:
    error = exhausted("small", ())
    assert (error.kind, error.retry_after) == (Kind.NO_SOURCE_AVAILABLE, None)
    assert "small" in error.message


@pytest.mark.parametrize(("hints", "smallest"), [([7], 7), ([None], None), ([30, 2, 9], 2), ([None, 5], 5), ([0, 3], 0)])
def test_rate_limits_everywhere_are_told_with_the_smallest_hint(hints: list[int | None], smallest: int | None) -> None:
    error = exhausted("small", [status(429, hint) for hint in hints])
    assert (error.kind, error.retry_after) == (Kind.PROVIDER_RATE_LIMITED, smallest)


@pytest.mark.parametrize("failure", TIMEOUTS)
def test_time_outs_everywhere_are_told_as_one(failure: Failure) -> None:
    failures = [Failed(failure, "alpha", "was late"), Failed(Failure.CONNECT_TIMEOUT, "beta", "did not answer")]
    error = exhausted("small", failures)
    assert error.kind is Kind.PROVIDER_TIMEOUT
    assert "alpha: was late; beta: did not answer" in error.message


@pytest.mark.parametrize("other", [
    status(500), status(401), Failed(Failure.CONNECT, "beta", "refused"), Failed(Failure.BROKEN, "beta", "hung up"),
    Failed(Failure.ERROR_EVENT, "beta", "overloaded"),
])  # fmt: skip
def test_failures_of_several_kinds_are_a_providers_error(other: Failed) -> None:
    for failures in ([other], [status(429, 5), other], [Failed(TIMEOUTS[0], "alpha", "late"), other]):
        assert exhausted("small", failures).kind is Kind.PROVIDER_ERROR


@pytest.mark.parametrize(("last", "hint"), [
    (status(503, 4), 4), (status(429, 9), 9), (status(500, 4), None), (status(503), None),
])  # fmt: skip
def test_a_mixed_failure_passes_on_the_last_hint_where_it_means_something(last: Failed, hint: int | None) -> None:
    assert exhausted("small", [status(500, 1), last]).retry_after == hint


def test_a_failure_is_logged_as_a_status_or_a_word() -> None:
    assert status(503).word == "503"
    assert [Failed(failure, "alpha", "").word for failure in Failure if failure is not Failure.STATUS] == [
        "connect", "connect_timeout", "first_byte_timeout", "total_timeout", "broken", "error_event",
    ]  # fmt: skip
