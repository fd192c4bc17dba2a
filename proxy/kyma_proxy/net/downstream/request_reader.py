"""Reads requests from the bytes of a caller's connection: strictly, within limits, one after the other. (RFC 9112)

It knows no socket. The parser is llhttp, through httptools. A head that comes again is recognised and not parsed again.
"""

from __future__ import annotations

import time
from typing import Final

import httptools

from kyma_proxy.config.snapshot import Limits
from kyma_proxy.core.http.body_buffer import BodyBuffer
from kyma_proxy.core.http.body_pace import BodyPace
from kyma_proxy.core.http.framing import MAX_BYTES_PER_BODY_BYTE
from kyma_proxy.core.http.inbound import Headers, Inbound, header, options, request_id
from kyma_proxy.core.http.repeat import Repeat, repeat_of
from kyma_proxy.core.http.request_head import MAX_TARGET_BYTES, RequestHead, read_request_head, says_close
from kyma_proxy.dialect.registry import error_answer
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.listener import Listener

monotonic: Final = time.monotonic  # compiled, a constant is read without a look-up
TLS_HANDSHAKE: Final = b"\x16\x03"
"""The beginning of what a TLS client says first (RFC 8446 §5.1)."""
_MAX_PIECES: Final = 1024  # a piece weighs more than its bytes
_MAX_PIECES_BYTES: Final = 2**20
_MAX_MORE_BYTES: Final = 2**17  # of a body that is put together: each page that it is written to costs a fault


class RequestReader:
    """Turns bytes into complete requests, which wait in `ready` with the error that ended the reading, if any.

    `max_body` is the most bytes of this request's body; who knows the caller may lower it. `head_began` and `pace` belong to
    whoever times the reading: the head's timer runs; how the body arrives.
    """

    __slots__ = (
        "_begun", "_body", "_head_bytes", "_is_declining", "_joined", "_joined_bytes", "_keeps_alive", "_listener", "_parser",
        "_passed", "_piece", "_refusal", "_repeat", "_searched", "_unreported", "body_bytes", "head", "head_began", "headers",
        "is_reading", "limits", "max_body", "pace", "ready", "target",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        # for the life of the connection
        self._listener = listener
        self._parser: httptools.HttpRequestParser | None = None  # most connections send a head that is known, and need none
        self.ready: list[Inbound | GatewayError] = []  # seldom more than one, and smaller than a deque
        self._repeat: Repeat | None = None
        self._passed: dict[frozenset[bytes], bytes] = {}
        self._keeps_alive = False
        self._piece = b""
        self._searched = 0  # in the piece: where the first line of a request that follows another can be
        # for the request being read
        self._refusal: GatewayError | None = None
        self.is_reading = False
        self.begin()

    def begin(self) -> None:
        """Expect a new request; the limits in force are its."""
        self.limits: Limits = self._listener.current().limits
        self.max_body = self.limits.max_body
        self.target = b""
        self.headers: Headers = []
        self.head: RequestHead | None = None
        self._head_bytes = 0
        self._unreported = 0
        self._begun: bytes | None = b""
        self._body: list[bytes] = []
        self._joined: BodyBuffer | None = None
        self._joined_bytes = 0
        self.body_bytes = 0
        self.head_began = False
        self.pace: BodyPace | None = None
        self._is_declining = False

    def forget(self) -> None:
        """Judge the next head anew, also if it is one that was accepted: the rules have changed."""
        self._repeat = None

    def lower_max_body(self, most: int) -> None:
        """Take no more than so many bytes of this body. Raises GatewayError if its head says that it has more."""
        if most < self.max_body:
            self.max_body = most
            if self.head is not None and self.head.length > most:
                raise self._body_too_large()

    def may_enlarge(self, size: int) -> bool:
        """True if so many bytes more may be much work, as all that has come is copied."""
        return self._joined is not None and not self._joined.has_room(size + self.body_bytes - self._joined_bytes)

    def take_body(self) -> object:
        """Let go of what has come of the body; returns it."""
        taken = (self._joined, self._body)
        self._joined, self._body = None, []
        return taken

    def take_begun(self) -> bytes:
        """Let go of what has come of the body; returns it. Only what follows is the body then, unless it is put back."""
        if self._joined is not None:
            self._join()
            begun, self._joined = self._joined.whole(), None
        else:
            begun = b"".join(self._body)
        self._body, self._joined_bytes = [], self.body_bytes
        return begun

    def put_back(self, begun: bytes) -> None:
        """Keep what was taken."""
        self._body, self._joined_bytes = [begun], 0

    def close(self) -> None:
        """Let go of everything: the connection is gone."""
        self.ready.clear()
        self.begin()
        self._repeat = None
        self._parser = None  # break the cycle now; the garbage collector runs rarely

    def feed(self, data: bytes) -> None:
        """Read what has come. Complete requests, or an error, are in `ready` afterwards."""
        repeat = self._repeat or self._listener.known_head
        if repeat is not None and not self.is_reading:
            body = repeat.body_of(data)
            if body is not None and len(body) <= self.limits.max_body:
                self._repeat = repeat
                if self._keeps_alive:
                    self._parser = None  # what comes next is likely to be known as well
                self._keeps_alive = True  # no other head is repeated
                self.ready.append(self._inbound(repeat.head, repeat.headers, body, repeat.passed))
                return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._piece = data
        self._searched = 0
        waiting = len(self.ready)
        is_new = not self.is_reading and not waiting
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.ready:
                self._refusal = GatewayError(Kind.BAD_HTTP, "A request that offers an upgrade can't be pipelined.")
            elif self._refusal is None:
                self._decline_upgrade(data[upgrade.args[0] :])
                return
        except httptools.HttpParserError as error:
            self._refusal = self._refusal or self._malformed(error)
        if self._refusal is None and (self.is_reading or self.head is None):
            # If the piece began with the end of another request, only what the parser has reported is this one's.
            if len(self.ready) == waiting:
                self._head_bytes += len(data)
            else:
                self._head_bytes += self._head_size() + self.body_bytes
                self._unreported = len(data)  # at the most
            self._check_overhead()
            if self.head is None and self._begun is not None:
                self._keep_line(data)
        self._piece = b""
        refusal = self._refusal
        if refusal is not None:
            self.ready.append(refusal)
        elif is_new and len(self.ready) == 1 and self._keeps_alive and not self.is_reading:
            self._repeat = None if self.head is None else repeat_of(data, self.head, self.headers, self._passed)
            if self._repeat is not None:
                self._listener.known_head = self._repeat

    # ---- callbacks of the parser

    def on_message_begin(self) -> None:
        self.begin()
        self.is_reading = True

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:  # afterwards they are trailers, which nobody asked for
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, limits = self._parser, self.limits
        if self._refusal is not None or parser is None:
            return
        try:
            if self._head_bytes + self._unreported + len(self._piece) > limits.max_head and self._head_size() > limits.max_head:
                raise self._head_too_large()
            method = parser.get_method()
            if self._begun is not None:
                self._check_line(method)
            head = self.head = read_request_head(method, parser.get_http_version(), self.target, self.headers, limits.max_body)
            cors = self._listener.web_pages.admit(self.target, self.headers)
            if cors:
                self.head = head._replace(cors=cors)
        except GatewayError as error:
            self._refusal = error
            return
        if parser.should_upgrade():
            self._is_declining = True

    def on_body(self, piece: bytes) -> None:
        self.body_bytes += len(piece)
        if self.body_bytes <= self.max_body:
            self._body.append(piece)
            most = _MAX_PIECES_BYTES if self._joined is None else _MAX_MORE_BYTES
            if self.body_bytes - self._joined_bytes >= most or len(self._body) >= _MAX_PIECES:
                self._join()
        elif self._refusal is None:
            self._refusal = self._body_too_large()
            self._body.clear()

    def _join(self) -> None:
        """Put the pieces together as they come."""
        if self._joined is None:
            self._joined = BodyBuffer(0 if self.head is None else self.head.length)
        self._joined.write(b"".join(self._body))
        self._joined_bytes = self.body_bytes
        self._body.clear()

    def on_message_complete(self) -> None:
        head, parser = self.head, self._parser
        if self._refusal is not None or self._is_declining or head is None or parser is None:
            return
        self.is_reading = False
        body = self._body
        if self._joined is not None:
            self._join()
            whole = self._joined.whole()
        else:
            whole = body[0] if len(body) == 1 else b"".join(body)
        self._passed = {}
        self._keeps_alive = parser.should_keep_alive() and not (head.is_http_10 and says_close(self.headers))
        self.ready.append(self._inbound(head, self.headers, whole, self._passed))
        self._body = []
        self._joined = None
        self._joined_bytes = 0

    # ---- requests and errors

    def _inbound(self, head: RequestHead, headers: Headers, body: bytes, passed: dict[frozenset[bytes], bytes]) -> Inbound:
        identity = request_id(head.request_id, self._listener.fresh_id())
        return Inbound(
            head.method, head.path, head.query, headers, body, identity, monotonic(), head.is_http_10, self._keeps_alive,
            passed, head.cors,
        )  # fmt: skip

    def identity(self) -> str:
        """The id of the request that is being read, for an error about it."""
        return request_id(header(self.headers, b"x-request-id"), self._listener.fresh_id())

    def refusal(self, error: GatewayError, identity: str) -> bytes:
        """The whole answer to the request that is being read, which is refused."""
        path = self.target if self.head is None else self.head.path
        return error_answer(error, identity, path, self._listener.web_pages.readable(self.headers))

    def late(self) -> GatewayError:
        """The error for a request that has not arrived in time."""
        part = "head" if self.head is None else "body"
        return GatewayError(Kind.REQUEST_TIMEOUT, f"The request's {part} did not arrive in time; send it again.")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Serve a request that offers another protocol as what it is in this one (RFC 9110 §7.8).

        The parser stops at such a head, so the head is given to a fresh one without its offer.
        """
        kept: list[bytes] = []
        for name, value in self.headers:
            lower = name.lower()
            if lower == b"connection":  # its other options stay, `close` above all (RFC 9112 §9.6)
                others = b", ".join([option for option in options(value) if option.lower() != b"upgrade"])
                kept.append(b"%b: %b\r\n" % (name, others) if others else b"")
            elif lower != b"upgrade":
                kept.append(b"%b: %b\r\n" % (name, value))
        head = self.head
        assert head is not None  # noqa: S101  (the parser has just completed it)
        line = b"%b %b HTTP/1.%d\r\n" % (head.method, self.target, 0 if head.is_http_10 else 1)
        self._parser = httptools.HttpRequestParser(self)
        self._head_bytes = 0
        self._parse(b"".join((line, *kept, b"\r\n", rest)))

    def _check_line(self, method: bytes) -> None:
        """Raises GatewayError unless the first line is one of HTTP (RFC 9112 §3). The parser takes RTSP's, and more spaces."""
        begun, piece, end = self._begun or b"", self._piece, len(method) + 1 + len(self.target)
        if not begun and not self.ready and piece.startswith(b" HTTP/", end):
            self._searched = end
            return
        line = b"%b %b HTTP/" % (method, self.target)
        at = (begun + piece).find(line, 0 if begun else self._searched)
        if at < 0:
            raise GatewayError(
                Kind.BAD_HTTP, "The first line of a request must be `METHOD TARGET HTTP/1.1`, with one space each."
            )
        self._searched = max(at + len(line) - len(begun), 0)

    def _keep_line(self, data: bytes) -> None:
        """A piece has ended within a head: keep what may be of its first line, which is checked once a field follows it."""
        try:
            parser = self._parser
            if self.headers and parser is not None:
                self._check_line(parser.get_method())
                self._begun = None
            else:
                self._begun = ((self._begun or b"") + data[self._searched :])[-self.limits.max_head :]
        except GatewayError as error:
            self._refusal = self._refusal or error

    def _head_size(self) -> int:
        return len(self.target) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _check_overhead(self) -> None:
        """Bound what is sent beside the body: the head, then trailers and chunk extensions, which the parser collects."""
        limit = self.limits.max_head
        if self.head is None:
            if self._head_bytes > limit:
                self._refusal = self._head_too_large()
        elif self._head_bytes > 2 * limit + MAX_BYTES_PER_BODY_BYTE * self.body_bytes:
            message = f"The request's trailers and chunk extensions are larger than {limit} bytes."
            self._refusal = GatewayError(Kind.HEAD_TOO_LARGE, message)

    def _body_too_large(self) -> GatewayError:
        return GatewayError(Kind.BODY_TOO_LARGE, f"The request's body is larger than {self.max_body} bytes.")

    def _head_too_large(self) -> GatewayError:
        if len(self.target) > MAX_TARGET_BYTES:
            return GatewayError(Kind.URI_TOO_LONG, f"The request's target is longer than {MAX_TARGET_BYTES} bytes.")
        return GatewayError(Kind.HEAD_TOO_LARGE, f"The request's headers are larger than {self.limits.max_head} bytes.")

    def _malformed(self, error: httptools.HttpParserError) -> GatewayError:
        if isinstance(error, httptools.HttpParserInvalidURLError) and len(self.target) > MAX_TARGET_BYTES:
            return self._head_too_large()
        if self._piece.startswith(TLS_HANDSHAKE) and not self.target and not self.ready:
            return GatewayError(Kind.BAD_HTTP, "This port speaks plain HTTP: use an address that begins with http://.")
        reason = str(error).strip("'\"").rstrip(".") or "it can't be parsed"
        return GatewayError(Kind.BAD_HTTP, f"This is not a valid HTTP/1.1 request: {reason}.")
