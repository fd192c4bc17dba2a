"""The first event and the end of an event stream are read correctly, wherever the network has cut it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.sse import MAX_HELD_BYTES, ends_between_events, first_event, last_data

LINE_ENDS = (b"\n", b"\r\n", b"\r")
LINES = st.lists(
    st.sampled_from([b"data: a", b"data:b", b"data", b"event: x", b"id: 1", b"retry: 5", b": life", b"other: y", b"", b""]),
    max_size=8,
)
STREAMS = [
    (b'data: {"a":1}\n\n', b'{"a":1}'),
    (b'event: error\ndata: {"a":1}\n\ndata: 2\n\n', b'{"a":1}'),
    (b"data:no space\n\n", b"no space"),
    (b"data:  two spaces\n\n", b" two spaces"),
    (b"data: one\ndata: two\ndata\ndata:\n\n", b"one\ntwo\n\n"),
    (b"retry: 3000\n\nid: 7\nevent: x\n\ndata: late\n\n", b"late"),
    (b"\n\n\ndata: after blanks\n\n", b"after blanks"),
    (b"data: x: y\nignored: z\n\n", b"x: y"),
    (b": life\n\ndata: 1\n\n", b""),
    (b"event: x\n: life\ndata: 1\n\n", b""),
    (b"data\n\n", b""),
]


@pytest.mark.parametrize("line_end", LINE_ENDS)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("text", "expected"), STREAMS)
def test_the_first_event_is_the_same_wherever_the_stream_is_cut(
    text: bytes, expected: bytes, bom: bytes, line_end: bytes
) -> None:
    stream = bom + text.replace(b"\n", line_end) + b"data: more"
    verdicts = [first_event(stream[:stop]) for stop in range(len(stream) + 1)]
    decided = [*itertools.dropwhile(lambda verdict: verdict is None, verdicts)]
    assert decided
    assert set(decided) == {expected}


@given(LINES, st.sampled_from(LINE_ENDS))
def test_more_bytes_never_change_a_decided_first_event(lines: list[bytes], line_end: bytes) -> None:
    stream = line_end.join(lines)
    verdicts = [first_event(stream[:stop]) for stop in range(len(stream) + 1)]
    decided = [*itertools.dropwhile(lambda verdict: verdict is None, verdicts)]
    assert len(set(decided)) <= 1


@pytest.mark.parametrize("stream", [
    b"", b"\xef", b"\xef\xbb", b"\xef\xbb\xbf", b"d", b"data: 1", b"data: 1\n", b"data: 1\r\n", b"data: 1\r\n\r",
    b"event: x\n\n", b"\r",
])  # fmt: skip
def test_an_unfinished_first_event_is_undecided(stream: bytes) -> None:
    assert first_event(stream) is None


@pytest.mark.parametrize("stream", [b":", b": life", b"\xef\xbb\xbf:", b":\n", b"data: 1\n: in between"])
def test_a_comment_is_never_held(stream: bytes) -> None:
    assert first_event(stream) == b""


def test_a_first_event_longer_than_an_error_is_not_held() -> None:
    assert first_event(b"data: " + b"x" * (MAX_HELD_BYTES - 6)) is None
    assert first_event(b"data: " + b"x" * (MAX_HELD_BYTES - 5)) == b""


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_a_stream_ends_between_events_only_after_a_blank_line(line_end: bytes) -> None:
    stream = b"event: x" + line_end + b"data: 1" + line_end + line_end
    between = [stop for stop in range(len(stream) + 1) if ends_between_events(stream[:stop])]
    assert between == [0, len(stream)]
    assert ends_between_events(b"data: 1\n\r\n")


@pytest.mark.parametrize("line_end", LINE_ENDS)
@pytest.mark.parametrize(("tail", "expected"), [
    (b"data: 1\n\ndata: [DONE]\n\n", b"[DONE]"),
    (b"data: [DONE]", b"[DONE]"),
    (b"data:[DONE]\n", b"[DONE]"),
    (b'half of an event"}\n\ndata: 2\nid: 1\n\n', b"2"),
    (b'data: {"text":"data: 5"}\n\n', b'{"text":"data: 5"}'),
    (b"data:\n\n", b""),
    (b"event: x\n\n", b""),
    (b"", b""),
    (b"no event at all", b""),
])  # fmt: skip
def test_the_data_of_the_last_event_is_found_in_a_tail(tail: bytes, expected: bytes, line_end: bytes) -> None:
    assert last_data(tail.replace(b"\n", line_end)) == expected
