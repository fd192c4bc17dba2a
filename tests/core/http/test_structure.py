"""The values of a body are counted exactly, however strings are written and wherever a step ends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http import structure
from kyma_proxy.core.http.structure import ValueCounter, count_values

NO_LIMIT = 10**9
STRINGS = st.text(st.sampled_from('\\"{[,a é'), max_size=12)
VALUES = st.recursive(
    STRINGS | st.integers() | st.none(), lambda one: st.lists(one, max_size=4) | st.dictionaries(STRINGS, one, max_size=4)
)


def values_of(body: str) -> int:
    """Count as a reader of characters would."""
    count, is_within, is_escaped = 0, False, False
    for character in body:
        if is_escaped:
            is_escaped = False
        elif is_within and character == "\\":
            is_escaped = True
        elif character == '"':
            is_within = not is_within
        elif not is_within and character in ",{[":
            count += 1
    return count


@given(VALUES, st.sampled_from([1, 2, 3, 7, 65_536]), st.booleans())
def test_the_count_is_that_of_a_slow_reader(value: object, window: int, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_WINDOW_BYTES", window)
        assert count_values(body.encode(), NO_LIMIT) == values_of(body)


def test_the_count_stops_at_its_limit() -> None:
    counter = ValueCounter(b"[" + b'"",' * 10**6 + b'""]', 100)
    counter.step()
    assert counter.is_done
    assert counter.values == 101


@pytest.mark.parametrize(
    "unit", [b'"",', b"[],", b'"' + b"\\" * 1000 + b'",', b'"\\"' * 10 + b'",', b'"' + b"a" * 10**6 + b'",']
)
def test_a_step_goes_only_so_far(unit: bytes) -> None:
    body = b"[" + unit * (4 * 2**20 // len(unit)) + b"0]"
    counter = ValueCounter(body, NO_LIMIT)
    counter.step()
    assert counter.quotes <= 4_200
    assert counter.is_done == (len(unit) > 10**5)  # to step over a long string costs next to nothing
