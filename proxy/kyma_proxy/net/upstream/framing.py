"""Reads in the head of an answer how its body is framed. (RFC 9112 §6)"""

from __future__ import annotations

from typing import Final

import httptools

from kyma_proxy.core.http.inbound import Headers

MAX_HEAD_BYTES: Final = 256 * 1024
"""The largest head of an answer; more is garbage. So are twice as many bytes beside the body: trailers, chunk extensions."""
_BODY_FIELDS: Final = (b"content-length", b"transfer-encoding")
_MAX_NAMES_REMEMBERED: Final = 2048
_spelled: Final[dict[bytes, bytes]] = {}
_lower: Final[dict[bytes, bytes]] = {}


def known_name(name: bytes) -> bytes:
    """The same name, as the one object that stands for this spelling: its hash is known, so to look it up costs little."""
    known = _spelled.get(name)
    if known is not None:
        return known
    if len(_spelled) < _MAX_NAMES_REMEMBERED:
        _spelled[name] = name
        lower = name.lower()
        _lower[name] = _spelled.setdefault(lower, lower)
        _lower.setdefault(lower, lower)
    return name


def framing(headers: Headers, parser: httptools.HttpResponseParser) -> tuple[dict[bytes, bytes], bool, bool]:
    """Return the fields by lower-case name, if the body ends with its connection, and if its framing is ambiguous.

    An answer with a length beside its chunks, or with chunks in HTTP/1.0, is ambiguous: the length does not count, and is taken
    out. Raises HttpParserError for a transfer coding that nobody asked for.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = _lower.get(name)
        fields[name.lower() if lower is None else lower] = value
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return fields, b"content-length" not in fields, False
    if len(fields) < len(headers):  # a field is repeated; it may be this one
        coding = b",".join([value for name, value in headers if name.lower() == b"transfer-encoding"])
    if coding.strip().lower() != b"chunked":
        raise httptools.HttpParserError("its body has a transfer coding that was not requested")
    has_length = fields.pop(b"content-length", None) is not None
    return fields, False, has_length or parser.get_http_version() == "1.0"


def excess_beside_body(size: int, is_body: bool) -> str | None:
    """Say what is too large if so many bytes came beside the body, or before it; None if that is bearable."""
    if not is_body:
        return "its head is too large" if size > MAX_HEAD_BYTES else None
    return "its trailers or chunk extensions are too large" if size > 2 * MAX_HEAD_BYTES else None


def refuse_interim_body(status: int, headers: Headers) -> None:
    """Raise HttpParserError if an interim answer (1xx) announces a body. (RFC 9110 §8.6, RFC 9112 §6.1)

    Those up to 103 have none, whatever they announce. The parser would read that of others, before the head of the answer.
    """
    for name, value in headers:
        if status > 103 and name.lower() in _BODY_FIELDS and value.strip() != b"0":
            raise httptools.HttpParserError("an interim answer has a body")
