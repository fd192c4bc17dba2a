"""The reading of short texts: units, addresses, hints of when to try again, credentials, header fields."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal

from kyma_proxy.config import units
from kyma_proxy.config.addresses import is_host, parse_address
from kyma_proxy.core.accounts.accounts import credential, is_email
from kyma_proxy.core.http.headers import encode_request_head
from kyma_proxy.core.http.inbound import Headers, Inbound, request_id
from kyma_proxy.core.routing.retry_after import MAX_RETRY_AFTER_S, retry_after
from kyma_proxy.errors import GatewayError
from tests.factories import source
from tests.fuzz.target import Target

_NOT_SENT = {b"transfer-encoding", b"connection", b"upgrade", b"cookie", b"proxy-authorization"}
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The names that the parser lets through (RFC 9110 §5.1)."""


def settings(data: bytes) -> None:
    """A duration, a size, an amount and an address are in their range, or a ValueError."""
    text = data.decode("utf-8", "replace")
    with suppress(ValueError):
        assert 0 <= units.parse_duration(text) < 1e13
    with suppress(ValueError):
        assert 0 <= units.parse_delay(text) < 1e13
    with suppress(ValueError):
        assert units.parse_size(text) >= 0
    with suppress(ValueError):
        value = json.loads(text)
        for parse in (units.parse_duration, units.parse_delay, units.parse_size, units.parse_usd):
            with suppress(ValueError):
                assert Decimal(0) <= parse(value) < Decimal(10) ** 40
    with suppress(ValueError):
        parse_address(text)
    if is_host(text):
        assert text.isascii()
        assert not set(text) & set(" /@[]\r\n\0")
    is_email(text)


def hints(data: bytes) -> None:
    """A provider's hint is a whole number of seconds within a week, or none."""
    fields = {
        name.lower(): value.strip() for name, colon, value in (line.partition(b":") for line in data.split(b"\n")) if colon
    }
    for status in (200, 429, 503):
        seconds = retry_after(status, fields, 1.8e9)
        assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S, f"{seconds} s"
        for name in (b"retry-after", b"retry-after-ms", b"x-ratelimit-reset", b"date"):
            seconds = retry_after(status, {name: data}, 1.8e9)
            assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S, f"{seconds} s"


def fields(data: bytes) -> None:
    """No field of a caller reaches a provider that must not, and none becomes two; a credential is one of ours."""
    headers: Headers = [
        (name, value.strip(b" \t\r"))
        for name, colon, value in (line.replace(b"\r", b"").partition(b":") for line in data.split(b"\n"))
        if colon and _NAME.fullmatch(name)
    ]
    with suppress(GatewayError):
        found = credential(headers)
        assert found == b"" or found.startswith(b"ky-")
    for name, value in headers:
        if name.lower() == b"x-request-id":
            assert not set(request_id(value, "fresh")) & set(" \t\r\n\0,;:")
    for one in (source("small"), source("small", 1), source("sonnet")):
        for is_translated in (False, True):
            asked = Inbound(b"POST", b"/v1/chat/completions", b"a=1", headers, b"", "r", 0.0, False, True)
            head = encode_request_head(asked, b"/chat/completions", one, 5, is_translated=is_translated)
            lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
            assert len(lines) <= len(headers) + 12, "more lines than fields"
            names = [line.partition(b":")[0].strip().lower() for line in lines[1:]]
            assert names.count(b"content-length") == 1, "two lengths"
            assert names.count(b"host") == 1, "two hosts"
            assert _NOT_SENT.isdisjoint(names), "a field of the caller's connection"
            keys = [line.partition(b":")[2].strip() for line in lines if line.lower().startswith(b"x-api-key")]
            assert not found or found not in keys, "a key leaks"


_SETTINGS = (
    b"250ms", b"2s", b"1.5m", b"1h", b"0", b"auto", b"64KiB", b"1M", b"0.68", b"127.0.0.1:8080", b"[::1]:8080", b"unix:/a.sock",
    b":8080", b"localhost:1", b"a@b.example", b"1e400", b"-0.0", b"[fe80::1%eth0]:1",
)  # fmt: skip
_HINTS = (
    b"retry-after: 3", b"retry-after: Wed, 21 Oct 2026 07:28:00 GMT\ndate: Wed, 21 Oct 2026 07:27:00 GMT",
    b"retry-after-ms: 500", b"x-ratelimit-reset-requests: 1m30s\nx-ratelimit-remaining-requests: 0",
    b"anthropic-ratelimit-tokens-reset: 2026-01-01T00:00:00Z", b"x-ratelimit-reset: 1800000000000", b"1d2h3m4s5ms6us",
    b"2026-W01-1T00:00:00+23:59", b"Mon, 1 Jan 0001 00:00:00 +9999",
)  # fmt: skip
_FIELDS = (
    b"Authorization: Bearer ky-abc\nx-api-key: ky-def\nCookie: a\nContent-Length: 3\nHost: a\nTransfer-Encoding: chunked",
    b"connection: close, x-a\nx-a: 1\nupgrade: h2c\nanthropic-version: 1\nx-forwarded-for: a\nx-request-id: a_b.c-d",
    b"AUTHORIZATION: bearer  ky-x \nx-stainless-os: linux\nX-Team: red\nexpect: 100-continue\nte: trailers\nOpenAI-Beta: x",
)  # fmt: skip
_SETTING_WORDS = (*_SETTINGS, b"0.", b"ms", b"GiB", b"%", b"::")
_HINT_WORDS = (b"retry-after", b"reset", b"remaining", b" GMT", b"T", b"Z", b"+00:00", b"-", b"ms", b"\xb5s")
_FIELD_WORDS = (b"authorization: bearer ky-", b"x-api-key: ky-", b"connection: ", b", ", b"content-length")
TARGETS = (
    Target("settings", settings, lambda: _SETTINGS, None, _SETTING_WORDS, 128),
    Target("hints", hints, lambda: _HINTS, None, _HINT_WORDS, 256),
    Target("fields", fields, lambda: _FIELDS, None, _FIELD_WORDS, 512),
)
