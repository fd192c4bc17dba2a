"""Recognises a head that a caller sends again, so that it need not be parsed again.

An SDK on a kept-alive connection sends the same head with every request, except for the digits of its length. A head that is
byte for byte one that was parsed and accepted is acceptable. Only the digits are new, and the body must be all that follows.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.http.request_head import RequestHead

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """A head that was parsed, and the result; `before` and `after` enclose the digits of its length."""

    before: bytes
    after: bytes
    head: RequestHead
    headers: Headers
    passed: dict[frozenset[bytes], bytes]

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is the same head with a body of the length that it states, and nothing else; else None."""
        if not data.startswith(self.before):
            return None
        begin = len(self.before)
        end = data.find(b"\r", begin, begin + 16)
        if end < 0 or not data[begin:end].isdigit() or not data.startswith(self.after, end):
            return None
        length = int(data[begin:end])
        begin = end + len(self.after)
        return data[begin:] if len(data) - begin == length else None


def repeat_of(data: bytes, head: RequestHead, headers: Headers, passed: dict[frozenset[bytes], bytes]) -> Repeat | None:
    """The head to recognise next time, if `data` is one whole request with a plain length; else None."""
    end = data.find(b"\r\n\r\n") + 4
    length = _LENGTH.search(data, 0, end - 2)
    if length is None or head.expects_continue or len(data) - end != int(length[1]):
        return None
    return Repeat(data[: length.start(1)], data[length.end(1) : end], head, headers, passed)
