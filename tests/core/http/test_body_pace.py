"""A body must keep coming: no long silence, and a least rate over a sliding window."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http.body_pace import BodyPace

SILENCE_S = 8.0
RATE = 100


def pace(total: int = 0) -> BodyPace:
    return BodyPace(1000.0, total, SILENCE_S, RATE)


def late_at(pieces: list[tuple[float, int]], *, until: float = 100.0) -> float | None:
    """The second after its beginning at which a body of these pieces (second, bytes) is found to be late; None if never."""
    arriving, total = pace(), 0
    waiting = sorted(pieces)
    due = 1000.0 + SILENCE_S
    while due < 1000.0 + until:
        while waiting and 1000.0 + waiting[0][0] <= due:
            second, size = waiting.pop(0)
            total += size
            arriving.add(1000.0 + second, total)
        if arriving.is_late(due):
            return due - 1000.0
        following = arriving.due(due)
        assert due < following <= due + SILENCE_S  # it is looked at again, and not in a loop
        due = following
    return None


def test_silence_ends_a_body_whatever_has_come_before() -> None:
    assert late_at([]) == SILENCE_S
    found = late_at([(1.0, 32 * 2**20)])
    assert found is not None
    assert 1.0 + SILENCE_S <= found <= 1.0 + SILENCE_S * 9 / 8


def test_a_byte_now_and_then_is_too_slow() -> None:
    found = late_at([(float(second), 1) for second in range(100)])
    assert found is not None
    assert SILENCE_S <= found <= SILENCE_S * 9 / 8


def test_a_fast_beginning_buys_no_slow_end() -> None:
    found = late_at([(0.5, 2**25), *((float(second), 1) for second in range(1, 100))])
    assert found is not None
    assert found <= 2 * SILENCE_S


@given(st.lists(st.floats(0.05, SILENCE_S / 4), min_size=1, max_size=60))
def test_who_sends_twice_the_rate_without_long_pauses_is_never_late(gaps: list[float]) -> None:
    moments = list(itertools.accumulate(gaps))
    pieces = [(0.0, int(2 * RATE * SILENCE_S)), *((at, int(2 * RATE * gap) + 1) for at, gap in zip(moments, gaps, strict=True))]
    assert late_at(pieces, until=moments[-1]) is None


@given(st.lists(st.floats(0.5, SILENCE_S / 4), min_size=1, max_size=20))
def test_half_the_rate_is_late_after_two_windows_at_most(gaps: list[float]) -> None:
    moments = [0.0, *itertools.takewhile(lambda at: at < 4 * SILENCE_S, itertools.accumulate(itertools.cycle(gaps)))]
    found = late_at([(at, int(RATE * (at - before) / 2)) for before, at in itertools.pairwise(moments)])
    assert found is not None
    assert found <= 2 * SILENCE_S
