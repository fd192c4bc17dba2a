"""Holds a caller's request as it was sent."""

from __future__ import annotations

import re
from typing import Final

Headers = list[tuple[bytes, bytes]]
"""Fields in the order and the spelling in which they came."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Inbound:
    """One complete request. Nothing in it changes but `body`, which is dropped when no other source can need it, and `path`,
    if the body turns out to be another endpoint's.

    `received` is in seconds of the monotonic clock, `query` has no question mark.

    Headers are a list for speed; nobody changes it. Requests with the same head share it and `passed`, a cache of the lines
    that pass to a provider; so a `content-length` among them may be an earlier request's, and `body` has the truth.
    `cors` holds lines for the answer's head: they let a web page read it.
    """

    __slots__ = (
        "body", "cors", "headers", "is_http_10", "keep_alive", "method", "passed", "path", "query", "received", "request_id",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917  a request's parts, in their order on the wire
        self, method: bytes, path: bytes, query: bytes, headers: Headers, body: bytes, request_id: str, received: float,
        is_http_10: bool, keep_alive: bool, passed: dict[frozenset[bytes], bytes] | None = None,
        cors: bytes = b"",
    ) -> None:  # fmt: skip
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.request_id = request_id
        self.received = received
        self.is_http_10 = is_http_10
        self.keep_alive = keep_alive
        self.passed: dict[frozenset[bytes], bytes] = {} if passed is None else passed
        self.cors = cors


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a field; `name` in lower case."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return None


def request_id(given: bytes | None, fresh: str) -> str:
    """The caller's `x-request-id` if it is fit to be repeated, else the fresh one. (Contract §4.2.)"""
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else fresh


def options(value: bytes) -> list[bytes]:
    """The members of a list, without the empty ones (RFC 9110 §5.6.1)."""
    return [option for option in (one.strip(b" \t") for one in value.split(b",")) if option]
