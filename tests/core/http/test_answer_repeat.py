"""An answer whose head is as one before is recognised, and read as the parser reads it; nothing else is taken for one."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kyma_proxy.core.http.answer_repeat import AnswerHeads, WholeAnswer

FIRST = (
    b"HTTP/1.1 200 OK\r\nDate: Mon\r\nContent-Type: application/json\r\nx-request-id: a1\r\nConnection: keep-alive\r\n"
    b"content-length: 2\r\n\r\n{}"
)


class Parsed:
    """What llhttp makes of an answer."""

    def __init__(self, data: bytes) -> None:
        self.reason = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False  # and the connection goes on
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(data)

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.is_whole = self.parser.should_keep_alive()


def learned(data: bytes = FIRST) -> AnswerHeads:
    heads = AnswerHeads()
    heads.learn(data, Parsed(data).headers)
    return heads


def assert_as_parsed(answer: WholeAnswer, data: bytes) -> None:
    parsed = Parsed(data)
    assert (parsed.is_whole, parsed.parser.get_status_code()) == (True, 200)
    assert (answer.reason, answer.headers, b"".join(answer.pieces)) == (parsed.reason, parsed.headers, parsed.body)
    assert answer.fields == {name.lower(): value for name, value in parsed.headers}


@pytest.mark.parametrize(
    "data",
    [
        FIRST,
        FIRST.replace(b"Mon", b"Tuesday, 10:00"),
        FIRST.replace(b"a1", b"b-22").replace(b": 2\r\n", b": 12\r\n") + b"0123456789",
        FIRST.replace(b"application/json", b"text/event-stream"),
        FIRST.replace(b": 2\r\n", b": 0\r\n")[:-2],
    ],
)
def test_an_answer_with_other_values_is_read_as_the_parser_reads_it(data: bytes) -> None:
    answer = learned().read(data)
    assert answer is not None
    assert_as_parsed(answer, data)


def test_what_was_read_before_does_not_change() -> None:
    heads = learned()
    heads.read(FIRST.replace(b"a1", b"b2"))
    answer = heads.read(FIRST)
    assert answer is not None
    assert_as_parsed(answer, FIRST)


@pytest.mark.parametrize(
    "data",
    [
        FIRST + b"x",
        FIRST[:-1],
        FIRST[:60],
        b"",
        FIRST.replace(b"200 OK", b"200 Ok"),
        FIRST.replace(b"200", b"429"),
        FIRST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        FIRST.replace(b"Connection: keep-alive", b"Connection: close"),
        FIRST.replace(b"Date", b"date"),
        FIRST.replace(b"Date: ", b"Date:"),
        FIRST.replace(b"Mon", b"M\x00n"),
        FIRST.replace(b"Mon", b"M\non"),
        FIRST.replace(b"Mon", b"M\xf6n"),
        FIRST.replace(b"Mon", b" Mon"),
        FIRST.replace(b"Mon", b""),
        FIRST.replace(b": 2\r\n", b": 02\r\n"),
        FIRST.replace(b": 2\r\n", b": +2\r\n"),
        FIRST.replace(b"Date: Mon", b"Transfer-Encoding: chunked"),
        FIRST.replace(b"Date: Mon\r\n", b""),
        FIRST.replace(b"Date: Mon", b"Date: Mon\r\nDate: Mon"),
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    assert learned().read(data) is None


@pytest.mark.parametrize(
    "data",
    [
        FIRST.replace(b"200 OK", b"404 Not Found"),
        FIRST.replace(b"Date: Mon", b"Date:Mon"),
        FIRST.replace(b"Date: Mon", b"Date:  Mon"),
        FIRST.replace(b"Date: Mon", b"x-request-id: a2"),
        b"HTTP/1.1 200 OK\r\nDate: Mon\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_only_a_head_of_the_usual_form_with_a_length_is_learned(data: bytes) -> None:
    assert learned(data).read(data) is None


def test_few_heads_are_kept_and_each_has_another_number_of_lines() -> None:
    heads = AnswerHeads()
    answers = [FIRST.replace(b"Date: Mon", b"Date: Mon" + b"".join(b"\r\nx-%d: 1" % i for i in range(n))) for n in range(9)]
    for data in answers:
        heads.learn(data, Parsed(data).headers)
    assert heads.read(answers[0]) is None
    assert heads.read(answers[8]) is not None


@given(value=st.binary(max_size=12), body=st.binary(max_size=30), at=st.integers(0, len(FIRST)), more=st.binary(max_size=4))
@example(value=b"a\r\nb: c", body=b"", at=0, more=b"")
def test_whatever_is_recognised_is_read_as_the_parser_reads_it(value: bytes, body: bytes, at: int, more: bytes) -> None:
    data = FIRST[:-2].replace(b"a1", value).replace(b": 2\r\n", b": %d\r\n" % len(body)) + body
    for candidate in (data, data[:at] + more + data[at:]):
        answer = learned().read(candidate)
        if answer is not None:
            assert_as_parsed(answer, candidate)
