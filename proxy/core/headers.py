"""This file decides every header that crosses the gateway, in both directions. (Contract §3.5, §4.2.)

Heads are computed afresh for each attempt from what the caller sent; nothing is ever changed in place. No other file
adds, drops or renames a field of a relayed message.
"""

from __future__ import annotations

from typing import Final

from proxy.config.snapshot import Source
from proxy.core.endpoints import Endpoint
from proxy.core.inbound import Headers, Inbound

_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
_DROPPED_TO_PROVIDER: Final = _HOP_BY_HOP | {
    # the caller's credential
    b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"proxy-authorization", b"cookie",
    # decided per attempt
    b"host", b"content-length", b"accept-encoding", b"expect", b"http2-settings",
    # who stands in front of the gateway is nobody's business behind it
    b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip",
}  # fmt: skip
_DROPPED_TO_PROVIDER_PREFIXES: Final = (b"x-forwarded-", b"x-kyma-", b"access-control-request-")
_DROPPED_TO_CALLER: Final = _HOP_BY_HOP | {
    b"set-cookie", b"proxy-authenticate", b"www-authenticate", b"x-request-id",
    # the operator's account
    b"openai-organization", b"openai-project", b"anthropic-organization-id",
    # these speak for the provider's own origin, not for this one
    b"alt-svc", b"strict-transport-security", b"report-to", b"nel", b"reporting-endpoints",
}  # fmt: skip
_DROPPED_TO_CALLER_PREFIXES: Final = (
    b"x-ratelimit-", b"ratelimit", b"anthropic-ratelimit-", b"x-kyma-", b"access-control-",
)  # fmt: skip
_ANTHROPIC_VERSION: Final = b"anthropic-version: 2023-06-01\r\n"
_MOST_NAMES_REMEMBERED: Final = 2048

KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
"""What a caller of HTTP/1.0 must be told when its connection stays open (RFC 9112 §9.3)."""


class _Rule:
    """Which names pass. Verdicts are remembered by the name as it is spelled, up to a bound."""

    def __init__(self, dropped: frozenset[bytes], prefixes: tuple[bytes, ...]) -> None:
        self._dropped = dropped
        self._prefixes = prefixes
        self._passes: dict[bytes, bool] = {}

    def lines(self, headers: Headers, also_dropped: frozenset[bytes] = frozenset()) -> list[bytes]:
        """The fields that pass, as lines of a head."""
        known = self._passes
        lines = []
        named = also_dropped
        for name, value in headers:
            verdict = known.get(name)
            if verdict is None:
                verdict = self._judge(name)
            if verdict:
                lines.append(b"%b: %b\r\n" % (name, value))
            elif len(name) == 10 and name.lower() == b"connection":
                named = named | _named_by(value)
        if named:
            return [line for line in lines if line[: line.index(b":")].lower() not in named]
        return lines

    def _judge(self, name: bytes) -> bool:
        lower = name.lower()
        verdict = lower not in self._dropped and not lower.startswith(self._prefixes)
        if len(self._passes) < _MOST_NAMES_REMEMBERED:
            self._passes[name] = verdict
        return verdict


_to_provider: Final = _Rule(_DROPPED_TO_PROVIDER, _DROPPED_TO_PROVIDER_PREFIXES)
_to_caller: Final = _Rule(_DROPPED_TO_CALLER, _DROPPED_TO_CALLER_PREFIXES)


def request_head(inbound: Inbound, endpoint: Endpoint, source: Source, length: int) -> bytes:
    """The head of the request to a source, whose body has `length` bytes."""
    provider = source.provider
    lines = _to_provider.lines(inbound.headers, provider.own_names)
    target = (
        b"%b%b?%b" % (provider.base_path, endpoint.path, inbound.query)
        if inbound.query
        else (provider.base_path + endpoint.path)
    )
    if provider.dialect == "anthropic" and not any(line[:18].lower() == b"anthropic-version:" for line in lines):
        lines.append(_ANTHROPIC_VERSION)
    return b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (target, provider.head, b"".join(lines), length)


def answer_head(status: int, reason: bytes, headers: Headers, added: bytes, *, chunked: bool, close: bool) -> bytes:
    """The head of a relayed answer. `added` holds the gateway's own lines; framing is the gateway's too."""
    lines = _to_caller.lines(headers, _CONTENT_LENGTH if chunked else frozenset())
    return b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (
        status,
        reason,
        b"".join(lines),
        added,
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        b"connection: close\r\n" if close else b"",
    )


_CONTENT_LENGTH: Final = frozenset({b"content-length"})


def _named_by(connection: bytes) -> frozenset[bytes]:
    """The fields that a `Connection` value declares hop-by-hop (RFC 9110 §7.6.1)."""
    if connection in (b"keep-alive", b"close", b"Keep-Alive"):
        return frozenset()
    return frozenset(name.strip().lower() for name in connection.split(b","))
