"""A provider's hint is understood in every form in which providers write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.routing.retry_after import MAX_RETRY_AFTER_S, bounded_hints, retry_after

DATE = b"Sun, 22 Nov 2026 10:00:00 GMT"
WALL = 1_795_341_600.0  # the same second
LATER = b"Sun, 22 Nov 2026 10:01:30 GMT"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7),
        ({b"retry-after": b" 7 "}, 7),
        ({b"retry-after": b"0"}, 0),
        ({b"retry-after": b"2.5"}, 3),
        ({b"retry-after-ms": b"1500", b"retry-after": b"9"}, 2),
        ({b"retry-after-ms": b"soon", b"retry-after": b"9"}, 9),
        ({b"retry-after": LATER, b"date": DATE}, 90),
        ({b"retry-after": b"Sun, 22 Nov 2026 09:00:00 GMT", b"date": DATE}, 0),
        ({b"retry-after": b"Sunday, 22-Nov-26 10:01:30 GMT", b"date": DATE}, 90),
        ({b"retry-after": b"Sun Nov 22 10:01:30 2026", b"date": DATE}, 90),
        ({b"retry-after": b"Sun, 22 Nov 2026 11:01:30 -0000", b"date": DATE}, 3690),
        ({b"retry-after": LATER, b"date": b"Sun, 22 Nov 2026 09:59:30 GMT"}, 120),
        ({b"retry-after": LATER}, 90),
        ({b"retry-after": LATER, b"date": b"yesterday"}, 90),
        ({b"retry-after": b"2026-11-22T10:01:30Z"}, 90),
        ({b"retry-after": b"2026-11-22T12:01:30.5+02:00", b"date": DATE}, 91),
        ({b"retry-after": b"1795341690"}, 90),
        ({b"retry-after": b"1795341690000"}, 90),
        ({b"retry-after": b"34s"}, 34),
        ({b"retry-after": b"1m30s"}, 90),
        ({b"retry-after": b"1h2m3.5s"}, 3724),
        ({b"retry-after": b"500ms"}, 1),
        ({b"retry-after": b"1s500ms"}, 2),
        ({b"retry-after": b"6m0s"}, 360),
        ({b"retry-after": b"1d2h"}, 93_600),
        ({b"retry-after": "12µs".encode()}, 1),
        ({b"retry-after": b"0s"}, 0),
        ({b"retry-after": b"2M59.56S"}, 180),
        ({b"retry-after": b"soon", b"date": DATE}, None),
        ({b"retry-after": b""}, None),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"inf"}, None),
        ({b"retry-after": b"30s1m"}, None),
        ({b"retry-after": b"9" * 30}, None),
        ({b"retry-after": b"999999999"}, MAX_RETRY_AFTER_S),
        ({b"retry-after": b"Fri, 31 Dec 9999 23:59:59 GMT"}, MAX_RETRY_AFTER_S),
    ],
)
def test_it_is_read_in_whole_seconds(fields: dict[bytes, bytes], seconds: int | None) -> None:
    assert retry_after(503, fields, WALL) == seconds


OPENAI = {
    b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": b"8.64s",
    b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"6m0s",
}  # fmt: skip
ANTHROPIC = {
    b"anthropic-ratelimit-requests-remaining": b"49", b"anthropic-ratelimit-requests-reset": b"2026-11-22T10:01:00Z",
    b"anthropic-ratelimit-input-tokens-remaining": b"0", b"anthropic-ratelimit-input-tokens-reset": b"2026-11-22T10:00:12Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        (OPENAI, 360),
        (OPENAI | {b"x-ratelimit-remaining-tokens": b"149984"}, 9),
        (OPENAI | {b"x-ratelimit-remaining-tokens": b"5", b"x-ratelimit-remaining-requests": b"5"}, None),
        (OPENAI | {b"retry-after": b"2"}, 2),
        (OPENAI | {b"x-ratelimit-reset-tokens": b"soon"}, 9),
        (ANTHROPIC, 12),
        (ANTHROPIC | {b"date": b"Sun, 22 Nov 2026 09:59:52 GMT"}, 20),
        ({b"anthropic-ratelimit-unified-reset": b"1795341690"}, 90),
        ({b"x-ratelimit-reset": b"4"}, 4),
        ({b"x-ratelimit-reset": b"1795341690000", b"x-ratelimit-remaining": b"0"}, 90),
        ({b"x-ratelimit-reset-requests": b"1s", b"x-ratelimit-reset-tokens": b"1h"}, 1),
        ({b"x-rate-limit-reset": b"7"}, 7),
        ({b"ratelimit-reset": b"7"}, 7),
        ({b"x-reset": b"7"}, None),
    ],
)
def test_a_429_without_a_hint_waits_for_the_limits_that_are_used_up(fields: dict[bytes, bytes], seconds: int | None) -> None:
    assert retry_after(429, fields, WALL) == seconds
    assert retry_after(503, {name: value for name, value in fields.items() if name != b"retry-after"}, WALL) is None


VALUES = st.one_of(
    st.binary(max_size=80),
    st.from_regex(rb"\A(\d{1,20}(\.\d{1,12})?(d|h|m|s|ms|us)?){1,4}\Z"),
    st.datetimes().map(lambda moment: moment.isoformat().encode()),
    st.integers(-(10**20), 10**20).map(lambda number: b"%d" % number),
    st.sampled_from([b"nan", b"inf", b"1e999", b"-0", LATER, b"Sun, 31 Dec 0000 00:00:00 GMT"]),
)


@given(
    st.dictionaries(st.sampled_from([b"retry-after", b"retry-after-ms", b"date", *OPENAI, *ANTHROPIC]), VALUES),
    st.floats(0, 1e11),
)
def test_whatever_a_provider_writes_it_is_bounded_and_never_negative(fields: dict[bytes, bytes], wall: float) -> None:
    hint = retry_after(429, fields, wall)
    assert hint is None or 0 <= hint <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        (b"retry-after", b"604801", b"604800"), (b"retry-after", b"9" * 23, b"604800"), (b"retry-after", b"30d", b"604800"),
        (b"retry-after", b"Fri, 31 Dec 9999 23:59:59 GMT", b"604800"), (b"retry-after", b"9" * 5000, b"604800"),
        (b"retry-after-ms", b"9" * 23, b"604800000"),
        (b"retry-after", b"604800", None), (b"retry-after", b"0", None), (b"retry-after", b"7.5", None),
        (b"retry-after", b"34s", None), (b"retry-after", b"soon", None), (b"retry-after-ms", b"1500", None),
        (b"retry-after", b"Sun, 06 Nov 1994 08:49:37 GMT", None),
    ],
)  # fmt: skip
def test_a_hint_that_nobody_should_follow_is_bounded(name: bytes, value: bytes, bound: bytes | None) -> None:
    assert bounded_hints({b"date": b"x", name: value}, 1.8e9) == ([] if bound is None else [(name, bound)])
