"""Only whole chunks that need no parser are recognised, and their body is what a parser reads."""

from __future__ import annotations

import random

import httptools
import pytest

from kyma_proxy.core.http.chunks import MAX_CHUNKS_BYTES, joined_body, size_of_events

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
AFTER = b"4\r\nlast\r\n0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """The body as one chunk."""
    return b"%x\r\n%b\r\n" % (len(body), body)


class Parsed:
    """What llhttp reads of an answer."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.is_whole = False
        httptools.HttpResponseParser(self).feed_data(data)

    def on_body(self, piece: bytes) -> None:
        """Note a piece."""
        self.body += piece

    def on_message_complete(self) -> None:
        """Note the end."""
        self.is_whole = True


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n\r\n"])
def test_one_chunk_of_every_size_that_ends_with_an_event_is_recognised(end: bytes) -> None:
    for size in range(4, MAX_CHUNKS_BYTES - 8):
        body = end.rjust(size, b"x")
        assert size_of_events(chunk(body)) == size
        assert joined_body([chunk(body)]) == body


def test_several_chunks_in_one_read_are_recognised() -> None:
    bodies = [b"da", b"ta: 1\n\n", b"data: 2\n\n"]
    chunks = b"".join(map(chunk, bodies))
    assert size_of_events(chunks) == len(b"".join(bodies))
    assert joined_body([chunks, chunk(b"data: 3\n\n")]) == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"


def test_a_size_may_be_written_in_capitals() -> None:
    assert size_of_events(b"1A\r\n" + b"\n\n".rjust(26, b"x") + b"\r\n") == 26


NOT_RECOGNISED = {
    "nothing": b"",
    "the last chunk": b"0\r\n\r\n",
    "the last chunk after another": chunk(b"data\n\n") + b"0\r\n\r\n",
    "a trailer": chunk(b"data\n\n") + b"0\r\nx: y\n\n\r\n",
    "an extension": b"6;a=b\r\ndata\n\n\r\n",
    "a space after the size": b"6 \r\ndata\n\n\r\n",
    "a space before the size": b" 6\r\ndata\n\n\r\n",
    "a leading zero": b"06\r\ndata\n\n\r\n",
    "a sign": b"+6\r\ndata\n\n\r\n",
    "no size": b"\r\ndata\n\n\r\n",
    "a size in another notation": b"0x6\r\ndata\n\n\r\n",
    "a line feed alone after the size": b"6\ndata\n\n\r\n",
    "a return alone after the size": b"6\rdata\n\n\r\n",
    "a line feed alone after the chunk": b"7\r\ndata\n\n\n",
    "a chunk that is longer than its size": b"6\r\ndata\n\n\n\n\r\n",
    "a chunk that is shorter than its size": b"8\r\ndata\n\n\r\n",
    "a chunk whose end is cut": chunk(b"data\n\n")[:-1],
    "a second one that has begun": chunk(b"data\n\n") + b"6\r\nda\n\n\r\n",
    "the size of the next one": chunk(b"data\n\n") + b"6",
    "no end of an event": chunk(b"data: x"),
    "half an end of an event": chunk(b"data: x\n"),
    "an end of an event in two chunks": chunk(b"data: x\n") + chunk(b"\n"),
    "an end of an event in the size's line": b"1\r\n\n\r\n",
    "262 bytes, which no chunk takes": b"\r" + b"\n\n\r\n".rjust(261, b"x"),
    "the next answer": chunk(b"data\n\n") + b"HTTP/1.1 200 OK\r\n\n\n\r\n",
}


@pytest.mark.parametrize("data", NOT_RECOGNISED.values(), ids=NOT_RECOGNISED)
def test_nothing_else_is_recognised(data: bytes) -> None:
    assert size_of_events(data) == 0


def test_whatever_is_recognised_a_parser_reads_alike_and_stands_between_two_chunks_afterwards() -> None:
    chance = random.Random(1)
    parts = [b"\r\n", b"\n\n", b"1", b"4", b"a", b"F", b"0", b";x", b" ", b"\r", b"\n", b"da\n\n", chunk(b"xyz\n\n"), b"0\r\n"]
    recognised = 0
    for _ in range(20_000):
        data = chunk(b"".join(chance.choices(parts, k=chance.randint(1, 9))) + b"\n\n")
        if chance.random() < 0.5:
            at = chance.randint(0, len(data))
            data = data[:at] + chance.choice(parts) + data[at + chance.randint(0, 3) :]
        if chance.random() < 0.5:
            data += chunk(b"data\n\n")
        size = size_of_events(data)
        if size:
            recognised += 1
            parsed = Parsed(HEAD + data + AFTER)
            assert parsed.body == joined_body([data]) + b"last"
            assert len(parsed.body) == size + 4
            assert parsed.is_whole
    assert recognised > 1_000
