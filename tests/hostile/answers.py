"""Reads all answers of a connection strictly: nothing may stand between them or behind them."""

from __future__ import annotations

import re
from typing import NamedTuple

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [\t -~]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~]*)")


class Answer(NamedTuple):
    """An answer; names in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


class Unfinished(Exception):
    """The last answer is not whole."""


def read_answers(data: bytes) -> list[Answer]:
    """The final answers in these bytes. Raises ValueError if they are no answers, Unfinished if the last is cut."""
    answers: list[Answer] = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            raise Unfinished
        line, *lines = head.split(b"\r\n")
        status, matches = _STATUS.fullmatch(line), [_FIELD.fullmatch(one) for one in lines]
        if status is None or None in matches:
            raise ValueError(f"this is no answer: {data[:200]!r}")
        fields = {one[1].decode().lower(): one[2].decode() for one in matches if one is not None}
        code = int(status[1])
        has_body = code not in {100, 204, 304}
        if (code in {100, 204}) and not {"content-length", "transfer-encoding"}.isdisjoint(fields):
            raise ValueError(f"an answer without a body has a length: {head!r}")
        length = int(fields["content-length"]) if has_body else 0
        if len(rest) < length:
            raise Unfinished
        if code != 100:
            answers.append(Answer(code, fields, rest[:length]))
        data = rest[length:]
    return answers
