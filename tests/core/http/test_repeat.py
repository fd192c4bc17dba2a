"""A request head that is sent again is recognized, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http.repeat import Repeat, repeat_of
from kyma_proxy.core.http.request_head import RequestHead

HEAD = RequestHead(b"POST", b"/v1/chat/completions", b"", False, False, True, None)
FIRST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc"


def learned(data: bytes = FIRST) -> Repeat:
    repeat = repeat_of(data, HEAD, [], {})
    assert repeat is not None
    return repeat


def test_a_repeated_head_gives_the_new_body() -> None:
    assert learned().body_of(FIRST) == b"abc"
    assert learned().body_of(FIRST.replace(b": 3", b": 12")[:-3] + b"twelve bytes") == b"twelve bytes"


@pytest.mark.parametrize(
    "data",
    [
        FIRST + b"x",  # something follows
        FIRST[:-1],  # something is missing
        FIRST.replace(b"Host: a", b"Host: b"),
        FIRST.replace(b"X-A: b", b"X-A: c"),
        FIRST.replace(b"X-A: b\r\n", b""),
        FIRST.replace(b": 3", b": +3"),
        FIRST.replace(b": 3", b":  3"),
        FIRST.replace(b": 3", b": 3 "),
        FIRST.replace(b": 3", b": "),
        FIRST.replace(b"Content-Length: 3\r\n", b"Content-Length: 3\r\nContent-Length: 3\r\n"),
        FIRST.replace(b"3\r\n", b"3\n"),
        FIRST[:40],
        b"",
    ],
)
def test_any_other_request_is_no_repetition(data: bytes) -> None:
    assert learned().body_of(data) is None


@given(data=st.binary(max_size=200), cut=st.integers(0, len(FIRST)))
def test_a_repetition_is_the_same_head_with_a_body_of_its_length(data: bytes, cut: int) -> None:
    repeat = learned()
    candidate = FIRST[:cut] + data
    body = repeat.body_of(candidate)
    if body is not None:
        digits = candidate[len(repeat.before) : len(candidate) - len(body) - len(repeat.after)]
        assert candidate == repeat.before + digits + repeat.after + body
        assert int(digits) == len(body)


@pytest.mark.parametrize(
    "data",
    [
        FIRST.replace(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"),
        FIRST + b"POST",  # a request follows
        FIRST[:-1],
    ],
)
def test_only_one_whole_request_with_a_length_is_learned(data: bytes) -> None:
    assert repeat_of(data, HEAD, [], {}) is None
    assert repeat_of(FIRST, HEAD._replace(expects_continue=True), [], {}) is None
