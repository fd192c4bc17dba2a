"""The values of a body are counted exactly, however strings are written and wherever a step ends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http import structure
from kyma_proxy.core.http.structure import ValueCounter, count_values

NO_LIMIT = 10**9
STRINGS = st.text(st.sampled_from('\\"{[:,a é'), max_size=12)
VALUES = st.recursive(
    STRINGS | st.integers() | st.none(), lambda one: st.lists(one, max_size=4) | st.dictionaries(STRINGS, one, max_size=4)
)


def colons_of(body: bytes) -> int:
    counter = ValueCounter(body, NO_LIMIT)
    while not counter.is_done:
        counter.step()
    return counter.colons


def values_of(body: str, marks: str) -> int:
    """Count as a reader of characters would."""
    count, is_within, is_escaped = 0, False, False
    for character in body:
        if is_escaped:
            is_escaped = False
        elif is_within and character == "\\":
            is_escaped = True
        elif character == '"':
            is_within = not is_within
        elif not is_within and character in marks:
            count += 1
    return count


@given(VALUES, st.sampled_from([1, 2, 3, 7, 65_536]), st.booleans())
def test_the_count_is_that_of_a_slow_reader(value: object, size: int, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_PIECE_BYTES", size)
        patch.setattr(structure, "_STEP_BYTES", size)
        assert count_values(body.encode(), NO_LIMIT) == values_of(body, ",{[")
        assert colons_of(body.encode()) == values_of(body, ":")


def test_the_count_stops_at_its_limit() -> None:
    counter = ValueCounter(b"[" + b'"",' * 10**6 + b'""]', 100)
    counter.step()
    assert counter.is_done
    assert 100 < counter.values < 10**5


@pytest.mark.parametrize(
    "unit", [b'"",', b"[],", b'"' + b"\\" * 1000 + b'",', b'"\\"' * 10 + b'",', b'"' + b"a" * 10**6 + b'",', b'{"a":1},']
)
def test_a_step_goes_only_so_far(unit: bytes) -> None:
    body = b"[" + unit * (16 * 2**20 // len(unit)) + b"0]"
    counter = ValueCounter(body, NO_LIMIT)
    steps = 0
    while not counter.is_done:
        counter.step()
        steps += 1
    marks = body.count(b'"') + body.count(b"\\")
    assert steps >= max(len(body) // (2 * 2**20), marks // (16_384 + 65_536))


@pytest.mark.parametrize(
    "text", ["1,2,3\r\n" * 1000, '"a","b"\r\n' * 1000, 'f({"a": [1, 2]})\n' * 1000, json.dumps([{"a": "b"}] * 1000)]
)
def test_nothing_within_a_text_counts(text: str) -> None:
    body = json.dumps({"a": text, "b": [json.dumps(text)]}).encode()
    assert (count_values(body, NO_LIMIT), colons_of(body)) == (3, 2)
