"""An event stream is parsed into the same events wherever the network has cut it, and encoded again."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.sse import COMMENT, MAX_EVENT_BYTES, SseEvent, SseParser, encode_event

LINE_ENDS = (b"\n", b"\r\n", b"\r")
STREAMS: list[tuple[bytes, list[tuple[bytes, bytes]]]] = [
    (b"data: 1\n\ndata: 2\n\n", [(b"", b"1"), (b"", b"2")]),
    (b'event: ping\ndata: {"a":1}\n\n', [(b"ping", b'{"a":1}')]),
    (b"data: 1\nevent: late\n\ndata: 2\n\n", [(b"late", b"1"), (b"", b"2")]),
    (b"event: first\nevent: last\ndata: 1\n\n", [(b"last", b"1")]),
    (b"event: x\nevent\ndata: 1\n\n", [(b"", b"1")]),
    (b"data:no space\n\ndata:  two\n\n", [(b"", b"no space"), (b"", b" two")]),
    (b"data: one\ndata: two\ndata\ndata:\n\n", [(b"", b"one\ntwo\n\n")]),
    (b"data\n\ndata:\n\ndata: \n\n", [(b"", b"")] * 3),
    (b": life\n\n:\n\ndata: 1\n: within\n\n", [(b"", b"1")]),
    (b"id: 7\nretry: 10\ndata: 1\nother: 2\nnonsense\n\n", [(b"", b"1")]),
    (b"event: alone\n\ndata: 1\n\n", [(b"", b"1")]),
    (b"\n\n\ndata: after blanks\n\n\n\n", [(b"", b"after blanks")]),
    ("data: ein Zeichen für €, 😀\n\n".encode(), [(b"", "ein Zeichen für €, 😀".encode())]),
    (b"data: \xef\xbb\xbf\n\n\xef\xbb\xbfdata: 1\n\n", [(b"", b"\xef\xbb\xbf")]),
    (b"data: x: y\n\n", [(b"", b"x: y")]),
    (b"data: without its blank line\n", [(b"", b"without its blank line")]),
    (b"data: 1\n\nevent: last\ndata: without its line end", [(b"", b"1"), (b"last", b"without its line end")]),
    (b": a comment alone", []),
    (b"", []),
]
NAMES = st.sampled_from([b"", b"ping", b"message_start", b"a:b"])
DATA = st.lists(st.sampled_from([b"", b" ", b"1", b":", b"data: x", "€".encode(), b"\xff", b"{}"]), min_size=1).map(b"\n".join)


def split(pieces: list[bytes]) -> list[SseEvent]:
    splitter = SseParser()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events + splitter.flush()


@pytest.mark.parametrize("line_end", LINE_ENDS)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("text", "expected"), STREAMS)
def test_the_events_are_the_same_wherever_the_stream_is_cut(
    text: bytes, expected: list[tuple[bytes, bytes]], bom: bytes, line_end: bytes
) -> None:
    stream = bom + text.replace(b"\n", line_end)
    # In data that is joined from lines the line end is a line feed, whatever it was on the way.
    assert split([stream]) == expected
    assert split([stream[at : at + 1] for at in range(len(stream))]) == expected
    for cut in range(len(stream) + 1):
        assert split([stream[:cut], b"", stream[cut:]]) == expected


@given(st.lists(st.tuples(NAMES, DATA), max_size=6), st.sampled_from(LINE_ENDS), st.data())
def test_encoded_events_are_parsed_again_from_any_pieces(
    events: list[tuple[bytes, bytes]], line_end: bytes, chance: st.DataObject
) -> None:
    stream = b"".join(encode_event(name, data) for name, data in events).replace(b"\n", line_end)
    cuts = sorted(chance.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert split(pieces) == events


@pytest.mark.parametrize("stream", [b"data: 1\r\n\ndata: 2\n\n", b"data: 1\r\r\ndata: 2\n\r", b"data: 1\n\rdata: 2\r\n\r\n"])
def test_line_ends_may_be_mixed(stream: bytes) -> None:
    for cut in range(len(stream) + 1):
        assert split([stream[:cut], stream[cut:]]) == [(b"", b"1"), (b"", b"2")]
    assert split([stream[at : at + 1] for at in range(len(stream))]) == [(b"", b"1"), (b"", b"2")]


def test_an_event_is_returned_with_its_last_byte() -> None:
    for line_end in LINE_ENDS:
        splitter = SseParser()
        stream = b"data: 1" + line_end + line_end
        given_out = [splitter.feed(stream[at : at + 1]) for at in range(len(stream))]
        # Of the last line end the first byte is enough: whether a line feed follows is of no account.
        last = len(stream) - len(line_end)
        assert [at for at, events in enumerate(given_out) if events] == [last]


def test_events_are_encoded_as_the_dialects_write_them() -> None:
    assert encode_event(b"", b"[DONE]") == b"data: [DONE]\n\n"
    assert encode_event(b"ping", b"{}") == b"event: ping\ndata: {}\n\n"
    assert encode_event(b"", b"a\nb\r\nc\rd") == b"data: a\ndata: b\ndata: c\ndata: d\n\n"


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_comments_are_returned_in_place_only_if_wanted(line_end: bytes) -> None:
    stream = b": life\n\ndata: 1\n:\nevent: x\n\n:not ended".replace(b"\n", line_end)
    for cut in range(len(stream) + 1):
        splitter = SseParser(keeps_comments=True)
        events = [*splitter.feed(stream[:cut]), *splitter.feed(stream[cut:]), *splitter.flush()]
        assert events == [(COMMENT, b"life"), (COMMENT, b""), (b"x", b"1")]


def test_flush_returns_each_event_once() -> None:
    splitter = SseParser()
    assert splitter.feed(b"data: 1") == []
    assert splitter.flush() == [(b"", b"1")]
    assert splitter.flush() == []


def test_a_large_event_in_tiny_pieces_is_parsed_in_linear_time() -> None:
    size = 1 << 20
    stream = b"data: " + b"x" * size + b"\n\n"
    begin = time.process_time()
    events = split([stream[at : at + 1] for at in range(len(stream))])
    assert time.process_time() - begin < 5.0  # a quadratic buffer would take minutes
    assert events == [(b"", b"x" * size)]


def test_many_lines_in_one_piece_are_parsed_in_linear_time() -> None:
    for line_end in LINE_ENDS:
        begin = time.process_time()
        assert split([(b"data:" + line_end) * 50_000 + line_end]) == [(b"", b"\n" * 49_999)]
        assert time.process_time() - begin < 5.0


@pytest.mark.parametrize(("begin", "end"), [(b"data: ", b""), (b": ", b""), (b"event: ", b""), (b"", b"\n")])
def test_an_event_longer_than_the_limit_raises_value_error(begin: bytes, end: bytes) -> None:
    piece = (b"data: " if end else b"") + b"x" * (1 << 20) + end
    splitter = SseParser()
    splitter.feed(begin)
    for _ in range(MAX_EVENT_BYTES // (1 << 20) - 1):
        assert splitter.feed(piece) == []
    with pytest.raises(ValueError, match="longer than"):
        splitter.feed(piece)


def test_finished_events_do_not_count_towards_the_limit() -> None:
    splitter = SseParser()
    piece = b"x" * (1 << 20)
    for _ in range(MAX_EVENT_BYTES // len(piece) + 2):
        splitter.feed(b"data: " + piece)
        assert len(splitter.feed(b"\n\n")) == 1
        splitter.feed(b": " + piece)
        assert splitter.feed(b"\n") == []


def test_a_last_line_without_its_end_may_be_as_long_as_any_event() -> None:
    data = b"x" * (MAX_EVENT_BYTES - len(b"data: "))
    parser = SseParser()
    assert parser.feed(b"data: " + data) == []
    assert parser.flush() == [(b"", data)]
