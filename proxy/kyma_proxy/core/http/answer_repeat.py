"""Recognises a whole answer whose head is as one that the source sent before, so that it need not be parsed again.

A source's answers have the same fields in the same order; what differs is a date, an id, a time, and the digits of the length.
A line that is byte for byte one that was parsed and accepted is acceptable. One that differs has the same name and a value that
no reader could take for anything else: printable ASCII. What frames the answer is the same, and the body is all that follows.
(RFC 9112)
"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.core.http.inbound import Headers

_VALUE: Final = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
_FRAMING: Final = frozenset({b"connection", b"keep-alive", b"upgrade", b"trailer", b"content-encoding"})
"""What says how to read on. Such a line is the same, or the answer is parsed."""
_OK: Final = b"HTTP/1.1 200 "
_LAST_CHUNK: Final = b"0\r\n\r\n"
_MAX_KEPT: Final = 8
_MAX_FIELDS: Final = 64
_MAX_BYTES: Final = 16_384


class WholeAnswer:
    """An answer that was recognised, with status 200; `pieces` are its body, if it has one.

    `fields` has `headers` by lower-case name, and nobody changes either.
    """

    __slots__ = ("fields", "headers", "pieces", "reason")

    def __init__(self, reason: bytes, headers: Headers, fields: dict[bytes, bytes], body: bytes) -> None:
        self.reason = reason
        self.headers = headers
        self.fields = fields
        self.pieces = [body] if body else []


class _KnownHead:
    """A head that was parsed: its lines, and the result. `names` are in lower case, `starts` the lines up to their values."""

    __slots__ = ("fields", "headers", "lines", "names", "reason", "starts")

    def __init__(self, lines: list[bytes], headers: Headers, fields: dict[bytes, bytes], names: list[bytes]) -> None:
        self.lines = lines
        self.reason = lines[0][len(_OK) :]
        self.headers = headers
        self.fields = fields
        self.names = names
        self.starts = [b"%b: " % name for name, _ in headers]


class AnswerHeads:
    """The heads that one server's answers had of late, one for each number of lines."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, _KnownHead] = {}

    def read(self, data: bytes) -> WholeAnswer | None:
        """The answer, if `data` is a whole one with a known head; else None."""
        if not self._known or len(data) > _MAX_BYTES:
            return None
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            return None
        lines = head.split(b"\r\n")
        known = self._known.get(len(lines))
        if known is None or lines[0] != known.lines[0]:
            return None
        headers, fields = known.headers, known.fields
        is_sized = False
        for at in range(1, len(lines)):
            line, former = lines[at], known.lines[at]
            name = known.names[at - 1]
            if name == b"content-length":
                if line != known.starts[at - 1] + str(len(body)).encode():
                    return None
                is_sized = True
            if line == former:
                continue
            start = known.starts[at - 1]
            if not line.startswith(start) or name in _FRAMING:
                return None
            value = line[len(start) :]
            if _VALUE.fullmatch(value) is None:
                return None
            if headers is known.headers:  # the first that differs
                headers, fields = list(headers), dict(fields)
            headers[at - 1] = (headers[at - 1][0], value)
            fields[name] = value
        return WholeAnswer(known.reason, headers, fields, body) if is_sized else None

    def learn(self, data: bytes, headers: Headers) -> None:
        """Note the head of an answer that `data` held whole and that was parsed, if another like it can be recognised.

        It must be written as most are: each line a name, a colon, a space and a value, and no field twice.
        """
        if data.endswith(_LAST_CHUNK) or len(data) > _MAX_BYTES or len(headers) > _MAX_FIELDS:
            return
        end = data.find(b"\r\n\r\n")
        lines = data[:end].split(b"\r\n")
        if not lines[0].startswith(_OK) or len(lines) != len(headers) + 1:
            return
        names: list[bytes] = []
        for line, (name, value) in zip(lines[1:], headers, strict=True):
            if line != b"%b: %b" % (name, value):
                return
            names.append(name.lower())
        fields = {name: value for name, (_, value) in zip(names, headers, strict=True)}
        length = fields.get(b"content-length")
        if length != b"%d" % (len(data) - end - 4) or b"transfer-encoding" in fields or len(fields) < len(headers):
            return
        if len(self._known) >= _MAX_KEPT:
            self._known.clear()
        self._known[len(lines)] = _KnownHead(lines, headers, fields, names)
