"""Reads a provider's hint of when to try again. (RFC 9110 §10.2.3)

Besides the standard's two forms, providers write durations (`34s`, `1m30s`, `500ms`), milliseconds (`retry-after-ms`, of OpenAI
and Azure), and with a 429 nothing but the moment at which a limit is full again: OpenAI and Groq `x-ratelimit-reset-requests`
and `-tokens` as durations (OpenAI's "Rate limits in headers"), Anthropic `anthropic-ratelimit-*-reset` as RFC 3339 (its "Rate
limits", response headers), Together `x-ratelimit-reset` in seconds, OpenRouter in milliseconds of Unix time.
"""

from __future__ import annotations

import datetime
import math
import re
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_S: Final = 7 * 86_400
"""No hint is taken to be longer."""

_MAX_CHARACTERS: Final = 64
_MAX_DIGITS: Final = 15
_NUMBER: Final = re.compile(rb"\d{1,15}(?:\.\d{1,9})?")
_DURATION: Final = re.compile(
    rb"(?:(\d{1,9}(?:\.\d{1,9})?)d)?(?:(\d{1,9}(?:\.\d{1,9})?)h)?(?:(\d{1,9}(?:\.\d{1,9})?)m)?"
    rb"(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?(?:(\d{1,9}(?:\.\d{1,9})?)(?:u|\xc2?\xb5|\xce\xbc)s)?"
)
"""As Go and the providers write durations; the units are `_UNITS_S`."""
_UNITS_S: Final = (86_400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6)
_FIRST_MOMENT_S: Final = 1e9
"""A number from here on is Unix time in seconds: no wait is thirty years long."""
_FIRST_MOMENT_MS: Final = 1e12
_RESET: Final = re.compile(rb"(?:x-|anthropic-)?rate-?limit-(?:.+-)?reset(?:-.+)?")


def retry_after(status: int, fields: dict[bytes, bytes], wall: float) -> int | None:
    """Return the hint in whole seconds, rounded up, from 0 to `MAX_RETRY_AFTER_S`; None if there is none.

    `retry-after-ms` comes before `retry-after`, and both before the resets of limits, which count for a 429 only. Moments are
    compared with the answer's own `date`, so that no clock has to agree with the provider's; without one, with `wall`, the
    gateway's Unix time.
    """
    milliseconds = fields.get(b"retry-after-ms", b"")
    if _NUMBER.fullmatch(milliseconds):
        return _bounded(float(milliseconds) / 1000)
    date = _moment(fields.get(b"date", b""))
    now = wall if date is None else date
    hint = _seconds(fields.get(b"retry-after", b""), now)
    if hint is None and status == 429:
        hint = _longest_reset(fields, now)
    return None if hint is None else _bounded(hint)


def bounded_hints(fields: dict[bytes, bytes], wall: float) -> list[tuple[bytes, bytes]]:
    """Return the fields whose hints are longer than any that is believed, with the bound in their place."""
    changed: list[tuple[bytes, bytes]] = []
    for name, unit in ((b"retry-after", 1), (b"retry-after-ms", 1000)):
        value = fields.get(name)
        if value is None or (value.isdigit() and int(value[:_MAX_DIGITS]) <= MAX_RETRY_AFTER_S * unit):
            continue
        seconds = _seconds(value, wall)
        is_endless = seconds is None and value[:1].isdigit()  # a number, of more digits than any
        if is_endless or (seconds is not None and seconds > MAX_RETRY_AFTER_S * unit):
            changed.append((name, b"%d" % (MAX_RETRY_AFTER_S * unit)))
    return changed


def _longest_reset(fields: dict[bytes, bytes], now: float) -> float | None:
    """Return the seconds until the limits that are used up are full again: the longest of them, as each refuses the request.

    A limit of which something is left is no reason for the 429, or only for a request of this size: its reset says nothing.
    If a provider does not say what is left, the shortest of its resets counts: at worst the next request is refused too.
    """
    used_up: list[float] = []
    unknown: list[float] = []
    for name, value in fields.items():
        if not _RESET.fullmatch(name):
            continue
        seconds = _seconds(value, now)
        if seconds is None:
            continue
        remaining = fields.get(name.replace(b"reset", b"remaining"))
        if remaining is None:
            unknown.append(seconds)
        elif _NUMBER.fullmatch(remaining) and float(remaining) == 0:
            used_up.append(seconds)
    if used_up:
        return max(used_up)
    return min(unknown) if unknown else None


def _seconds(value: bytes, now: float) -> float | None:
    """Return the seconds that a number, a duration or a moment stands for; None if it is none of them."""
    text = value.strip()[:_MAX_CHARACTERS]
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= _FIRST_MOMENT_MS:
            return number / 1000 - now
        return number - now if number >= _FIRST_MOMENT_S else number
    duration = _DURATION.fullmatch(text.lower())
    if duration is not None and text:
        return sum(float(part) * unit for part, unit in zip(duration.groups(), _UNITS_S, strict=True) if part is not None)
    moment = _moment(text)
    return None if moment is None else moment - now


def _moment(value: bytes) -> float | None:
    """Return the Unix time of a date as HTTP (RFC 9110 §5.6.7) or RFC 3339 writes it; None if it is neither."""
    text = value.decode("latin-1")
    try:
        date = datetime.datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _bounded(seconds: float) -> int:
    return math.ceil(min(max(seconds, 0.0), MAX_RETRY_AFTER_S))
