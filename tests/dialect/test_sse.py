"""Where an event stream stands, and where its events begin and end, is found whatever its line ends are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.sse import end_of_event, ends_between_events, ends_event, last_boundary

LINE_ENDS = (b"\n", b"\r\n", b"\r")
EVENTS = st.lists(st.sampled_from([b"data: a", b"event: x\ndata: b", b": life", b"data: {}\nid: 1"]), min_size=1, max_size=6)


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_a_stream_ends_between_events_only_after_a_blank_line(line_end: bytes) -> None:
    stream = b"event: x" + line_end + b"data: 1" + line_end + line_end
    between = [stop for stop in range(len(stream) + 1) if ends_between_events(stream[:stop])]
    assert between == [0, len(stream)]
    assert ends_between_events(b"data: 1\n\r\n")


@given(st.text("\r\na", max_size=6))
def test_a_piece_ends_an_event_if_nothing_of_the_next_is_in_it(text: str) -> None:
    piece = text.encode()
    assert ends_event(piece) == (piece != b"" and ends_between_events(piece))


@given(EVENTS, st.sampled_from(LINE_ENDS), st.integers(0, 200))
def test_an_event_is_found_from_any_position_in_it(events: list[bytes], line_end: bytes, position: int) -> None:
    written = [(event + b"\n\n").replace(b"\n", line_end) for event in events]
    text = b"".join(written)
    position %= len(text)
    start = max(last_boundary(text, position), 0)
    within = next(end for end in (len(b"".join(written[: at + 1])) for at in range(len(written))) if end > position)
    boundary = 2 * len(line_end)
    if position <= within - boundary:  # not in a blank line itself
        assert end_of_event(text, position) == within
    assert text[:start] == b"" or ends_between_events(text[:start])
    assert start <= position


def test_a_text_without_a_boundary_is_one_event() -> None:
    assert (last_boundary(b"data: 1\n", 8), end_of_event(b"data: 1\n", 0)) == (-1, 8)
