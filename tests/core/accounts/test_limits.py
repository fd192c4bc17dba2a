"""Rate limit windows decide exactly as a plain list of all admissions would; the clock is a number."""

from __future__ import annotations

import gc
import itertools
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.config.snapshot import Tier
from kyma_proxy.core.accounts.limits import WINDOW_S, Admission, Limit, Refusal, Window, Windows
from kyma_proxy.loading.tiers import SHIPPED_TIERS

HUGE = replace(SHIPPED_TIERS[4], rpm=10**6, per_model_rpm=10**6, tpm=10**12, max_request_tokens=10**12)
START = 1_000_000.0


def tier(rpm: int = 3, per_model_rpm: int = 2, tpm: int = 100, max_request_tokens: int = 80) -> Tier:
    return replace(SHIPPED_TIERS[0], rpm=rpm, per_model_rpm=per_model_rpm, tpm=tpm, max_request_tokens=max_request_tokens)


def admitted(window: Window, now: float, model: str = "a", tokens: int = 1, limits: Tier = HUGE) -> Admission:
    found = window.admit(now, model, tokens, limits)
    assert isinstance(found, Admission)
    return found


def refused(window: Window, now: float, model: str = "a", tokens: int = 1, limits: Tier = HUGE) -> Refusal:
    found = window.admit(now, model, tokens, limits)
    assert isinstance(found, Refusal)
    return found


class Entry(msgspec.Struct):
    at: float
    model: str
    tokens: int


class Listed:
    """The rule as it is written: it keeps every admission, and walks over all of them for every question."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def alive(self, now: float) -> list[Entry]:
        return [entry for entry in self.entries if now < entry.at + WINDOW_S]

    def open_limits(self, now: float, model: str, tokens: int, limits: Tier) -> dict[Limit, bool]:
        alive = self.alive(now)
        return {
            Limit.REQUESTS: len(alive) < limits.rpm,
            Limit.MODEL_REQUESTS: sum(entry.model == model for entry in alive) < limits.per_model_rpm,
            Limit.TOKENS: sum(entry.tokens for entry in alive) + tokens <= limits.tpm,
        }

    def admit(self, now: float, model: str, tokens: int, limits: Tier) -> tuple[Limit, float] | None:
        """None if it is admitted; else the limit with the longest wait, and when that wait ends."""
        moments = [now, *sorted(entry.at + WINDOW_S for entry in self.alive(now))]
        waits = [
            (limit, next(moment for moment in moments if self.open_limits(moment, model, tokens, limits)[limit]))
            for limit in (Limit.REQUESTS, Limit.MODEL_REQUESTS, Limit.TOKENS)
        ]
        longest = max(waits, key=lambda wait: wait[1])  # the first of those that are as long
        if longest[1] > now:
            return longest
        self.entries.append(Entry(now, model, tokens))
        return None


STEPS = st.one_of(st.sampled_from([0.0, 0.25, 1.0, 20.0, 59.75, 60.0, 60.25]), st.floats(0.0, 70.0))
TIERS = st.builds(tier, st.integers(1, 5), st.integers(1, 3), st.integers(20, 90), st.just(20))
REQUESTS = st.tuples(st.just("admit"), st.sampled_from("abc"), st.integers(0, 20))
SETTLEMENTS = st.tuples(st.just("settle"), st.integers(0, 20), st.integers(0, 60))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(STEPS, st.one_of(REQUESTS, REQUESTS, SETTLEMENTS)), max_size=60), st.lists(TIERS, min_size=1, max_size=3)
)
def test_a_window_decides_like_a_list_of_all_admissions(steps: list[tuple[float, tuple[Any, ...]]], tiers: list[Tier]) -> None:
    window, listed, now = Window("x"), Listed(), START
    admissions: list[Admission] = []
    for at, (step, what) in enumerate(steps):
        now += step
        limits = tiers[at * len(tiers) // len(steps)]  # the tier changes on the way
        if what[0] == "settle":
            if admissions:
                chosen = what[1] % len(admissions)
                admissions[chosen].settle(what[2])
                listed.entries[chosen].tokens = what[2]
        else:
            found = window.admit(now, what[1], what[2], limits)
            expected = listed.admit(now, what[1], what[2], limits)
            if isinstance(found, Admission):
                assert expected is None
                admissions.append(found)
            else:
                assert (found.limit, found.at) == expected
        alive = listed.alive(now)
        assert window.used_requests(now) == len(alive)
        assert window.used_tokens(now) == sum(entry.tokens for entry in alive)
        assert window.remaining_requests(now, limits) == max(0, limits.rpm - len(alive))
        assert window.remaining_tokens(now, limits) == max(0, limits.tpm - sum(entry.tokens for entry in alive))
        assert window.requests_reset_s(now) == max((entry.at + WINDOW_S - now for entry in alive), default=0.0)
        assert window.tokens_reset_s(now) == max((entry.at + WINDOW_S - now for entry in alive if entry.tokens), default=0.0)
        assert window.is_idle(now) == (not alive)


@given(st.lists(st.floats(0.0, 8.0), max_size=150), st.integers(1, 12))
def test_in_no_minute_are_more_admitted_than_the_limit_says(steps: list[float], rpm: int) -> None:
    window, now = Window("x"), START
    moments: list[float] = []
    for step in steps:
        now += step
        if isinstance(window.admit(now, "a", 1, tier(rpm, rpm)), Admission):
            moments.append(now)
    assert all(later >= earlier + WINDOW_S for earlier, later in zip(moments, moments[rpm:], strict=False))


@given(
    st.lists(st.tuples(st.floats(0.0, 15.0), st.sampled_from("ab"), st.integers(1, 40)), min_size=1, max_size=25),
    st.floats(0.0, 30.0), TIERS,
)  # fmt: skip
def test_a_refused_request_is_admitted_exactly_at_the_second_that_it_was_given(
    requests: list[tuple[float, str, int]], then: float, limits: Tier
) -> None:
    def window_after_requests() -> tuple[Window, float]:
        window, now = Window("x"), START
        for step, model, tokens in requests:
            now += step
            admitted(window, now, model, tokens)
        return window, now + then

    window, now = window_after_requests()
    found = window.admit(now, "a", 15, limits)
    if isinstance(found, Admission):
        return
    for moment, is_admitted in (
        (math.nextafter(found.at, 0.0), False),
        (found.at, True),
        (now + found.retry_after, True),
        (now + found.retry_after - 1, found.retry_after == 1 and now >= found.at),
    ):
        if moment >= now:
            window, _ = window_after_requests()
            assert isinstance(window.admit(moment, "a", 15, limits), Admission) is is_admitted
    assert found.retry_after >= 1
    assert not found.is_final


@pytest.mark.parametrize(("wait", "seconds"), [(0.001, 1), (0.999, 1), (1.0, 1), (1.001, 2), (59.5, 60), (60.0, 60)])
def test_retry_after_is_the_wait_rounded_up_to_whole_seconds(wait: float, seconds: int) -> None:
    window = Window("x")
    admitted(window, START, limits=tier(1))
    assert refused(window, START + WINDOW_S - wait, limits=tier(1)).retry_after == seconds


def test_an_admission_counts_for_a_minute_and_not_a_moment_longer() -> None:
    window = Window("x")
    admitted(window, START, limits=tier(1))
    assert refused(window, math.nextafter(START + 60.0, 0.0), limits=tier(1)).at == START + 60.0
    admitted(window, START + 60.0, limits=tier(1))


def test_requests_of_the_same_moment_are_all_counted() -> None:
    window = Window("x")
    for model in ("a", "b", "c"):
        admitted(window, START, model, limits=tier(3))
    assert refused(window, START, "d", limits=tier(3)).retry_after == 60


@pytest.mark.parametrize(("limits", "limit", "allowed"), [
    (tier(rpm=2, per_model_rpm=9), Limit.REQUESTS, 2),
    (tier(rpm=9, per_model_rpm=2), Limit.MODEL_REQUESTS, 2),
    (tier(rpm=9, per_model_rpm=9, tpm=35, max_request_tokens=35), Limit.TOKENS, 35),
    (tier(rpm=2, per_model_rpm=2), Limit.REQUESTS, 2),
])  # fmt: skip
def test_a_refusal_names_its_limit(limits: Tier, limit: Limit, allowed: int) -> None:
    window = Window("x")
    for second in range(2):
        admitted(window, START + second, tokens=10, limits=limits)
    found = refused(window, START + 5, tokens=20, limits=limits)
    assert (found.limit, found.allowed, found.at, found.is_final) == (limit, allowed, START + 60, False)


def test_a_refusal_by_several_limits_names_the_one_with_the_longest_wait() -> None:
    window, limits = Window("x"), tier(rpm=3, per_model_rpm=1, tpm=100)
    admitted(window, START, "a", 10, limits)
    admitted(window, START + 1, "b", 10, limits)
    admitted(window, START + 2, "c", 70, limits)
    assert (refused(window, START + 3, "d", 10, limits).limit, refused(window, START + 3, "d", 10, limits).at) == (
        Limit.REQUESTS,
        START + 60,
    )
    assert (refused(window, START + 3, "b", 10, limits).limit, refused(window, START + 3, "b", 10, limits).at) == (
        Limit.MODEL_REQUESTS,
        START + 61,
    )
    assert (refused(window, START + 3, "b", 50, limits).limit, refused(window, START + 3, "b", 50, limits).at) == (
        Limit.TOKENS,
        START + 62,
    )


@pytest.mark.parametrize(("tokens", "limit", "allowed"), [(81, Limit.REQUEST_TOKENS, 80), (80, Limit.TOKENS, 50)])
def test_a_request_that_no_wait_could_admit_is_refused_for_good(tokens: int, limit: Limit, allowed: int) -> None:
    found = refused(Window("x"), START, tokens=tokens, limits=tier(tpm=50, max_request_tokens=80))
    assert (found.is_final, found.limit, found.allowed, found.retry_after) == (True, limit, allowed, 0)


def test_a_request_as_large_as_the_tier_allows_is_admitted() -> None:
    window = Window("x")
    admitted(window, START, tokens=100, limits=tier(tpm=100, max_request_tokens=100))
    assert refused(window, START, tokens=1, limits=tier(tpm=100)).at == START + 60


def test_tokens_that_expire_make_room_exactly_when_enough_have_expired() -> None:
    window, limits = Window("x"), tier(rpm=9, per_model_rpm=9, tpm=60)
    for second, tokens in enumerate((10, 20, 30)):
        admitted(window, START + second, tokens=tokens, limits=limits)
    assert [refused(window, START + 3, tokens=tokens, limits=limits).at - START for tokens in (1, 10, 11, 30, 31, 60)] == [
        60, 60, 61, 61, 62, 62,
    ]  # fmt: skip


def test_a_refused_request_counts_against_no_limit() -> None:
    window, limits = Window("x"), tier(rpm=3, per_model_rpm=1)
    admitted(window, START, "a", limits=limits)
    for second in range(1, 60):
        refused(window, START + second, "a", 30, limits)
    refused(window, START + 59, "b", 81, limits)
    assert (window.used_requests(START + 59), window.used_tokens(START + 59)) == (1, 1)
    admitted(window, START + 60, "a", limits=limits)


def test_earlier_admissions_still_count_under_a_smaller_tier() -> None:
    window, small = Window("x"), tier(rpm=2, per_model_rpm=2)
    for second in range(10):
        admitted(window, START + second)
    assert refused(window, START + 10, "other", limits=small).at == START + 68
    assert refused(window, START + 10, "a", limits=small).at == START + 68
    assert window.remaining_requests(START + 10, small) == 0
    admitted(window, START + 68, limits=small)


def test_a_larger_tier_admits_at_once() -> None:
    window = Window("x")
    admitted(window, START, limits=tier(rpm=1))
    refused(window, START, limits=tier(rpm=1))
    admitted(window, START, limits=tier(rpm=2))
    assert window.used_requests(START) == 2


def observed(window: Window, now: float) -> tuple[object, ...]:
    """All that a decision depends on, and the decisions of the next two minutes under a small tier."""
    facts = (window.used_requests(now), window.used_tokens(now), window.requests_reset_s(now), window.tokens_reset_s(now))
    decisions = []
    for second in range(0, 120, 3):
        found = window.admit(now + second, "ab"[second % 2], 15, tier(5, 3, 90, 20))
        decisions.append((found.limit, found.at) if isinstance(found, Refusal) else None)
    return facts, decisions


@given(
    st.lists(st.tuples(st.floats(0.0, 25.0), st.sampled_from("ab"), st.integers(0, 50), st.integers(0, 50)), max_size=25),
    st.lists(st.integers(0, 200)), st.floats(0.0, 70.0),
)  # fmt: skip
def test_settling_an_estimate_equals_having_admitted_the_fact(
    requests: list[tuple[float, str, int, int]], delays: list[int], then: float
) -> None:
    held, known, now = Window("x"), Window("x"), START
    pending: list[tuple[float, Admission, int]] = []
    for (step, model, estimate, fact), delay in zip(requests, itertools.chain(delays, itertools.repeat(0)), strict=False):
        now += step
        for due, admission, tokens in pending:
            if due <= now:
                admission.settle(tokens)
        pending.append((now + delay, admitted(held, now, model, estimate), fact))
        admitted(known, now, model, fact)
    now += then
    for _, admission, tokens in reversed(pending):
        admission.settle(tokens)
    assert observed(held, now) == observed(known, now)


def test_settling_an_expired_admission_changes_nothing() -> None:
    window = Window("x")
    early = admitted(window, START, tokens=10)
    admitted(window, START + 30, tokens=20)
    assert window.used_tokens(START + 60) == 20
    early.settle(10**6)
    assert window.used_tokens(START + 60) == 20
    late = admitted(window, START + 60, tokens=5)
    late.settle(10**6)  # before the window has noticed that its minute is over
    assert window.used_tokens(START + 120) == 0


def test_an_answer_that_took_more_than_its_estimate_counts_in_full() -> None:
    window = Window("x")
    admitted(window, START, tokens=10, limits=tier()).settle(500)
    assert (window.remaining_tokens(START, tier()), window.used_tokens(START)) == (0, 500)
    assert refused(window, START + 1, limits=tier()).at == START + 60


def test_a_window_and_its_admissions_let_go_of_what_has_expired() -> None:
    window = Window("x")
    first = admitted(window, START, "a")
    for at in range(100):
        admitted(window, START + at / 10, f"model {at}")
    assert window.is_idle(START + 100)
    assert (window.models, first.next, first.next_of_model, first.window) == (frozenset(), None, None, None)


def test_a_window_of_many_admissions_can_be_freed_without_recursion() -> None:
    window = Window("x")
    for at in range(200_000):
        admitted(window, START + at / 10**4)
    del window  # freeing the list by recursion would end the process here
    assert gc.collect() >= 200_000


ACCOUNTS = st.sampled_from("stuvwxyz")


@given(st.lists(st.tuples(st.floats(0.0, 20.0), ACCOUNTS, st.integers(0, 50), st.integers(0, 3)), max_size=60))
def test_sweeping_idle_windows_changes_no_decision(steps: list[tuple[float, str, int, int]]) -> None:
    swept, kept, now = Windows(), Windows(), START
    pending: list[tuple[Admission, Admission]] = []
    for step, account, tokens, sweeps in steps:
        now += step
        found = swept.of(account).admit(now, "a", tokens, tier())
        expected = kept.of(account).admit(now, "a", tokens, tier())
        if isinstance(found, Admission) and isinstance(expected, Admission):
            pending.append((found, expected))
        else:
            assert isinstance(found, Refusal)
            assert isinstance(expected, Refusal)
            assert (found.limit, found.at) == (expected.limit, expected.at)
        if len(pending) > 3:
            for admission in pending.pop(0):
                admission.settle(tokens)
        before = len(swept)
        assert swept.sweep(now, sweeps) == before - len(swept) <= sweeps
    for account in "stuvwxyz":
        assert observed(swept.of(account), now) == observed(kept.of(account), now)


def test_a_sweep_reaches_every_window_in_turn_and_drops_the_idle_ones() -> None:
    windows = Windows()
    for at in range(10):
        admitted(windows.of(f"account {at}"), START + at)
    assert (len(windows), windows.sweep(START + 30, 100)) == (10, 0)
    assert sum(windows.sweep(START + 62.5, 1) for _ in range(10)) == 3
    assert len(windows) == 7
    for at in range(5):  # newcomers do not keep the others from being looked at
        windows.sweep(START + 1000, 2)
        admitted(windows.of(f"new {at}"), START + 1000)
    assert len(windows) == 5
    assert windows.sweep(START + 2000, 100) == 5
    assert (len(windows), windows.sweep(START + 2000, 100)) == (0, 0)
    admitted(windows.of("account 1"), START + 2000)
    assert len(windows) == 1


def test_a_sweep_drops_idle_windows_behind_a_busy_one() -> None:
    windows = Windows()
    for at in range(4):
        admitted(windows.of(f"account {at}"), START + (60 if at % 2 == 0 else 0))
    assert sum(windows.sweep(START + 61, 1) for _ in range(4)) == 2
    assert len(windows) == 2


def test_settling_an_admission_of_a_dropped_window_changes_nothing() -> None:
    windows = Windows()
    long = admitted(windows.of("x"), START, tokens=10)
    assert windows.sweep(START + 60, 1) == 1
    long.settle(10**6)
    assert windows.of("x").used_tokens(START + 60) == 0
