"""Recognises a head that a caller sends again, so that it need not be parsed again.

An SDK on a kept-alive connection sends the same head with every request, except for the digits of its length. A head that is
byte for byte one that was parsed and accepted is acceptable. Only the digits are new, and the body must be all that follows.
"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.http.request_head import RequestHead

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)


class Repeat:
    """A head that was parsed, and the result; `before` and `after` enclose the digits of its length."""

    __slots__ = ("_size", "after", "before", "head", "headers", "passed")

    def __init__(
        self, before: bytes, after: bytes, head: RequestHead, headers: Headers, passed: dict[frozenset[bytes], bytes]
    ) -> None:
        self.before = before
        self.after = after
        self.head = head
        self.headers = headers
        self.passed = passed
        self._size = len(before) + len(after)

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is the same head with a body of the length that it states, and nothing else; else None.

        The sizes leave one length that it can state, so the head that states it is made and compared.
        """
        length = len(data) - self._size - 1
        most = 9
        while length > most:  # it has another digit
            length -= 1
            most = 10 * most + 9
        if length < 0:
            return None
        head = b"%b%d%b" % (self.before, length, self.after)
        if len(head) + length != len(data) or not data.startswith(head):
            return None
        return data[len(head) :]


def repeat_of(data: bytes, head: RequestHead, headers: Headers, passed: dict[frozenset[bytes], bytes]) -> Repeat | None:
    """The head to recognise next time, if `data` is one whole request with a plain length; else None."""
    end = data.find(b"\r\n\r\n") + 4
    length = _LENGTH.search(data, 0, end - 2)
    if length is None or head.expects_continue or len(data) - end != int(length[1]):
        return None
    return Repeat(data[: length.start(1)], data[length.end(1) : end], head, headers, passed)
