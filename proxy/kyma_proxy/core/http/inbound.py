"""This file holds what a caller sent, as it was sent."""

from __future__ import annotations

import re
from typing import Final

import msgspec

Headers = list[tuple[bytes, bytes]]
"""Fields in the order and the spelling in which they came."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Inbound(msgspec.Struct, gc=False):
    """One complete request; nothing in it changes but `body`, which is let go of when no other source can need it.

    `received` is in seconds of the monotonic clock, `query` has no question mark.

    Headers are a list for speed; nobody changes it. Requests with the same head share it and `passed`, in which the rules
    keep what they made of it; so a `content-length` among them may be an earlier request's, and `body` has the truth.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Headers
    body: bytes
    request_id: str
    received: float
    is_http_10: bool
    keep_alive: bool
    passed: dict[frozenset[bytes], bytes] = {}


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a field; `name` in lower case."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return None


def request_id(given: bytes | None, fresh: str) -> str:
    """The caller's `x-request-id` where it is fit to be repeated, else the fresh one. (Contract §4.2.)"""
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else fresh
