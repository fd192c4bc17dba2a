"""Decides every header that crosses the gateway, in both directions. (Contract §3.5, §4.2.)

A request's head is computed afresh for each attempt from what the caller sent. Towards a provider, all fields pass but those
that are listed here; towards a caller, those that `answer_fields` allows, unless they quote the provider's credential. A name
with an underscore passes in neither direction: who reads `_` as `-`, as CGI does, would take it for another. The gateway's
own fields of an answer are made elsewhere (`answers`, `accounting.meter`), and the pump gives them to `encode_answer_head`,
which adds them after the provider's.
"""

from __future__ import annotations

import functools
import re
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from kyma_proxy.config.snapshot import Provider, Source
from kyma_proxy.core.http.answer_fields import HOP_BY_HOP, reaches_caller
from kyma_proxy.core.http.inbound import Headers, Inbound, header, options

_DROPPED_TO_PROVIDER: Final = HOP_BY_HOP | {
    # the caller's credential
    b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"proxy-authorization", b"cookie",
    # decided per attempt
    b"host", b"content-length", b"accept-encoding", b"expect", b"http2-settings",
    # who stands in front of the gateway is nobody's business behind it
    b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip",
    # what a browser says of the page that asks: where it is, which a provider might also refuse
    b"origin", b"referer",
}  # fmt: skip
_DROPPED_TO_PROVIDER_PREFIXES: Final = (b"x-forwarded-", b"x-kyma-", b"access-control-request-", b"sec-")
_MAX_NAMES_REMEMBERED: Final = 2048
_MAX_RULES: Final = 256
"""More than a configuration has. Each reload may bring others, so those of old ones are forgotten."""

_NO_REASON: Final = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
"""What a reason can't hold (RFC 9112 §4): control characters, which a terminal would obey. The parser lets them through."""

KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
"""What a caller of HTTP/1.0 must be told when its connection stays open (RFC 9112 §9.3)."""


class _Rule:
    """Which names pass. Verdicts are remembered by the name as it is spelled, up to a bound.

    `before` is what stands before each name that passes.
    """

    def __init__(self, before: bytes) -> None:
        self._before = before
        self._starts: dict[bytes, bytes] = {}

    def passes(self, name: bytes) -> bool:
        """True if a field of this name, in lower case, passes."""
        raise NotImplementedError

    def judge(self, name: bytes) -> bytes:
        """The start of the field's line, or b"" where the field does not pass."""
        start = b"%b%b: " % (self._before, name) if self.passes(name.lower()) else b""
        if len(self._starts) < _MAX_NAMES_REMEMBERED:
            self._starts[name] = start
        return start


class _RequestRule(_Rule):
    """Towards a provider: all pass but those that are dropped."""

    def __init__(self, dropped: frozenset[bytes]) -> None:
        super().__init__(b"")
        self._dropped = dropped

    def passes(self, name: bytes) -> bool:
        return name not in self._dropped and name.find(b"_") < 0 and not name.startswith(_DROPPED_TO_PROVIDER_PREFIXES)

    def lines(self, headers: Headers) -> bytes:
        """The fields that pass, as lines of a head."""
        known = self._starts
        parts: list[bytes] = []
        for name, value in headers:
            start = known.get(name)
            if start is None:
                start = self.judge(name)
            if start:
                parts += (start, value, b"\r\n")
            elif len(name) == 10 and name.lower() == b"connection" and value not in _USUAL_CONNECTIONS:
                return self.lines(_end_to_end(headers))
        return b"".join(parts)


class _AnswerRule(_Rule):
    """Towards a caller: only the useful kinds pass, and the names of `pass_headers`."""

    def __init__(self, passed: tuple[bytes, ...]) -> None:
        super().__init__(b"\r\n")
        self._passed = passed

    def passes(self, name: bytes) -> bool:
        return reaches_caller(name, self._passed)

    def lines(self, headers: Headers, provider: Provider, shortest: int) -> bytes:
        """The fields that pass, as lines of a head, each after a line's end. A value that quotes the credential does not pass.

        Values that are shorter than the provider's `shortest` secret, which are most, need no look.
        """
        known = self._starts
        parts: list[bytes] = []
        for name, value in headers:
            start = known.get(name)
            if start is None:
                start = self.judge(name)
            if start:
                if len(value) < shortest or not _quotes(value, provider.secrets):
                    parts.append(start)
                    parts.append(value)
            elif len(name) == 10 and name.lower() == b"connection" and value not in _USUAL_CONNECTIONS:
                return self.lines(_end_to_end(headers), provider, shortest)
        return b"".join(parts)


def _quotes(value: bytes, secrets: tuple[bytes, ...]) -> bool:
    for secret in secrets:  # noqa: SIM110  (compiled, a loop costs less than a generator)
        if secret in value:
            return True
    return False


def _end_to_end(headers: Headers) -> Headers:
    """The fields that `Connection` does not declare hop-by-hop (RFC 9110 §7.6.1), without itself."""
    named = {option.lower() for name, value in headers if name.lower() == b"connection" for option in options(value)}
    return [(name, value) for name, value in headers if name.lower() not in named | {b"connection"}]


_USUAL_CONNECTIONS: Final = frozenset({b"keep-alive", b"Keep-Alive", b"close"})
_to_caller: Final = _AnswerRule(())


@functools.lru_cache(_MAX_RULES)
def _rule_for(dropped: frozenset[bytes]) -> _RequestRule:
    """The rule towards the providers that are sent none of these fields of a caller."""
    return _RequestRule(_DROPPED_TO_PROVIDER | dropped)


@functools.lru_cache(_MAX_RULES)
def _rule_passing(passed: tuple[bytes, ...]) -> _AnswerRule:
    """The rule towards the callers of the sources with these `pass_headers`."""
    return _AnswerRule(passed)


def encode_request_head(inbound: Inbound, path: bytes, source: Source, length: int, *, is_translated: bool = False) -> bytes:
    """The head of the request to a source, whose body has `length` bytes.

    Translated, it has no field that only the caller's dialect knows, and no query, as that is of the caller's endpoint.
    """
    provider = source.provider
    dropped = provider.own_and_foreign_names if is_translated else provider.own_names
    lines = inbound.passed.get(dropped)
    if lines is None:
        lines = inbound.passed[dropped] = _rule_for(dropped).lines(inbound.headers)
    target = provider.targets[path]
    if inbound.query and not is_translated:
        target = _with_query(target, inbound.query, provider.query)
    for name, value in provider.default_fields:
        if header(inbound.headers, name) is None:
            lines += b"%b: %b\r\n" % (name, value)
    return b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (target, provider.header_lines, lines, length)


def _with_query(target: bytes, asked: bytes, own: bytes) -> bytes:
    """The target with the caller's parameters, without those that the provider's configuration has."""
    if not own:
        return b"%b?%b" % (target, asked)
    names = {one.partition(b"=")[0] for one in own.split(b"&")}
    passed = [one for one in asked.split(b"&") if one and _spelled(one.partition(b"=")[0]) not in names]
    return b"&".join((target, *passed))


def _spelled(name: bytes) -> bytes:
    """The name of a parameter as the configuration's are spelled."""
    return quote_from_bytes(unquote_to_bytes(name.replace(b"+", b" ")), safe="").encode()


def _is_event_stream(content_type: bytes | None) -> bool:
    if content_type is None or content_type == b"application/json":
        return False
    return content_type.lower().startswith(b"text/event-stream")


class AnswerHead:
    """The head of a source's answer, as it is relayed; `fields` has `headers` by lower-case name.

    `streams` is True for a 2xx answer that is an event stream.
    `length` is that of the body, None if it is not known. A body that is translated changes them before the commit.
    """

    __slots__ = ("fields", "headers", "is_error", "length", "reason", "status", "streams")

    def __init__(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.fields = fields
        self.length: bytes | None = fields.get(b"content-length")
        self.is_error = not 200 <= status < 300
        self.streams = not self.is_error and _is_event_stream(fields.get(b"content-type"))

    def decode(self) -> None:
        """The body was compressed, and is passed on as plain bytes."""
        self.headers = [one for one in self.headers if one[0].lower() != b"content-encoding"]
        self.length = None

    def become(self, content_type: bytes, *, streams: bool) -> None:
        """The body is translated into another type."""
        self.headers = [one for one in self.headers if one[0].lower() not in (b"content-type", b"content-encoding")]
        self.headers.append((b"content-type", content_type))
        self.streams = streams

    def set_field(self, name: bytes, value: bytes) -> None:
        """Replace a field; `name` in lower case."""
        self.headers = [one for one in self.headers if one[0].lower() != name]
        self.headers.append((name, value))

    def release(self) -> None:
        """Let go of the fields: the head has gone out, and a stream may take long."""
        self.headers = []
        self.fields = {}

    @property
    def provider_request_id(self) -> str | None:
        """The provider's id of the request."""
        value = self.fields.get(b"x-request-id") or self.fields.get(b"request-id")
        return value.decode("latin-1")[:128] if value is not None else None


def encode_answer_head(head: AnswerHead, source: Source, added: bytes, *, chunked: bool, close: bool) -> bytes:
    """The head of a source's answer, relayed. `added` holds the gateway's own lines; framing is the gateway's too.

    A body whose length is known is not sent in chunks.
    """
    framing = b"transfer-encoding: chunked\r\n" if chunked else b""
    if head.length is not None:
        framing = b"content-length: %b\r\n" % head.length
    if head.status == 204:  # it has no body, and must not tell a length (RFC 9110 §8.6)
        framing = b""
    provider, reason, passed = source.provider, head.reason, source.pass_headers
    shortest = provider.shortest_secret
    if len(reason) >= shortest and _quotes(reason, provider.secrets):
        reason = b""
    if reason != b"OK" and _NO_REASON.search(reason):
        reason = b""
    rule = _rule_passing(passed) if passed else _to_caller
    return b"HTTP/1.1 %d %b%b\r\n%b%b%b\r\n" % (
        head.status,
        reason,
        rule.lines(head.headers, provider, shortest),
        added,
        framing,
        b"connection: close\r\n" if close else b"",
    )
