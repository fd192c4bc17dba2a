"""Decides whether a request's head can be served. (RFC 9110, RFC 9112; contract §5.)

The parser has already refused what is not HTTP: bare line feeds, folded fields, two lengths, a length and chunks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kyma_proxy.core.http.host import is_host_and_port
from kyma_proxy.core.http.inbound import Headers, options
from kyma_proxy.core.http.request_target import check_method, origin_form
from kyma_proxy.errors import GatewayError, Kind

MAX_TARGET_BYTES: Final = 8192
_CONCERNS: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"expect", b"x-request-id"}
)
_MAX_NAMES_REMEMBERED: Final = 2048
_concerns: Final[dict[bytes, bytes]] = {}


class RequestHead(NamedTuple):
    """The parts of a head that the connection needs; `cors` is as in `Inbound`, and `length` 0 for a body in chunks."""

    method: bytes
    path: bytes
    query: bytes
    is_http_10: bool
    expects_continue: bool
    length: int
    request_id: bytes | None
    cors: bytes = b""


def read_request_head(method: bytes, version: str, target: bytes, headers: Headers, max_body: int) -> RequestHead:
    """The head as the connection needs it. Raises GatewayError if it can't be served."""
    if version not in ("1.1", "1.0"):
        raise GatewayError(Kind.BAD_HTTP, "The gateway speaks HTTP/1.1 and HTTP/1.0 only.")
    if len(target) > MAX_TARGET_BYTES:
        raise GatewayError(Kind.URI_TOO_LONG, f"The request's target is longer than {MAX_TARGET_BYTES} bytes.")
    if method != b"POST":
        check_method(method)
    hosts = 0
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        concern = _concerns.get(name)
        if concern is None:
            concern = _remembered(name)
        if concern == b"host":
            hosts += 1
            if not is_host_and_port(value.rstrip(b" \t")):
                raise GatewayError(Kind.BAD_HTTP, "The Host header must be a name or an address, with or without a port.")
        elif concern:
            fields[concern] = fields[concern] + b", " + value if concern in fields else value
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise GatewayError(Kind.BAD_HTTP, "A request needs exactly one Host header.")
    if version == "1.0" and b"transfer-encoding" in fields:
        raise GatewayError(Kind.BAD_HTTP, "HTTP/1.0 has no transfer encodings; send the body with a Content-Length.")
    length, expects_continue = _read_framing(fields, max_body)
    path, _, query = origin_form(method, target).partition(b"?")
    expects_continue = expects_continue and version == "1.1"
    return RequestHead(method, path, query, version == "1.0", expects_continue, length, fields.get(b"x-request-id"))


def _read_framing(fields: dict[bytes, bytes], max_body: int) -> tuple[int, bool]:
    """The length of the body, 0 for one in chunks, and True if the caller waits for a 100 before it sends it."""
    length = int(fields.get(b"content-length", b"0"))
    if length > max_body:
        raise GatewayError(Kind.BODY_TOO_LARGE, f"The request's body is larger than {max_body} bytes.")
    if _value(fields, b"transfer-encoding", b"chunked") != b"chunked":
        raise GatewayError(Kind.UNSUPPORTED_ENCODING, "The only supported transfer encoding is `chunked`.")
    if _value(fields, b"content-encoding", b"identity") not in (b"", b"identity"):
        raise GatewayError(Kind.UNSUPPORTED_ENCODING, "The gateway reads the body's `model`; send the body uncompressed.")
    if _value(fields, b"expect", b"100-continue") != b"100-continue":
        raise GatewayError(Kind.EXPECTATION_FAILED, "The only supported expectation is `100-continue`.")
    return length, b"expect" in fields


def _value(fields: dict[bytes, bytes], name: bytes, otherwise: bytes) -> bytes:
    value = fields.get(name)
    return otherwise if value is None else value.strip().lower()


def _remembered(name: bytes) -> bytes:
    lower = name.lower()
    concern = lower if lower in _CONCERNS else b""
    if len(_concerns) < _MAX_NAMES_REMEMBERED:
        _concerns[name] = concern
    return concern


def says_close(headers: Headers) -> bool:
    """True if `Connection` has the option `close`. It counts whatever stands beside it (RFC 9112 §9.3)."""
    return any(b"close" in options(value.lower()) for name, value in headers if name.lower() == b"connection")
