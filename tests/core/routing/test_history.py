"""Times to the first byte and hourly counts, as a list of everything would have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.routing.history import FirstByteTimes, HourlyCounts


def test_hours_hold_a_day_and_no_more() -> None:
    hours = HourlyCounts()
    for hour in range(30):
        hours.add(hour * 3600.0, succeeded=bool(hour % 2))
    assert hours.sums(29 * 3600.0) == (12, 12)
    assert hours.sums(40 * 3600.0) == (7, 6)
    assert hours.sums(1000 * 3600.0) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 10_000), st.booleans())))
def test_hours_count_what_a_list_would(events: list[tuple[float, bool]]) -> None:
    hours, now, seen = HourlyCounts(), 0.0, []
    for passed, succeeded in events:
        now += passed
        hours.add(now, succeeded=succeeded)
        seen.append((int(now // 3600), succeeded))
    recent = [succeeded for hour, succeeded in seen if hour > int(now // 3600) - 24]
    assert hours.sums(now) == (sum(recent), len(recent) - sum(recent))


def test_a_quantile_of_first_bytes_is_right_to_the_step_and_follows_the_times() -> None:
    times = FirstByteTimes()
    assert times.quantile_s(0.95) is None
    for number in range(100):
        times.add(0.0, 0.1 if number < 94 else 1.0)
    fast = times.quantile_s(0.9)
    slow = times.quantile_s(0.95)
    assert fast is not None
    assert slow is not None
    assert 0.1 <= fast <= 0.125
    assert 1.0 <= slow <= 1.25
    for _ in range(5000):
        times.add(0.0, 0.01)
    later = times.quantile_s(0.95)
    assert later is not None
    assert later < 0.02
    assert times.average_s == pytest.approx(0.01)
