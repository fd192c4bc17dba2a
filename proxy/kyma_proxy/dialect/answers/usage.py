"""Reads a provider's usage object, however it is written. (Contract §8, §11.)

The members are a provider's: a number may be a fraction, a text or negative, and a breakdown may be a list. One odd value
never discards the others.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kyma_proxy.dialect.density import is_too_dense

MAX_TOKENS: Final = 2**28
"""A provider's number is untrusted: the bound keeps what is counted and charged plausible."""
_MAX_DIGITS: Final = 12
_MAX_READ_BYTES: Final = 1024 * 1024
_MAX_REPAIRED_BYTES: Final = 512 * 1024
"""What is read without knowing what it is: more would take too long, or too much memory."""
_DENSE_BYTES: Final = 64 * 1024
"""What is smaller is read at once, however many values it has."""
_MAX_MEMBERS: Final = 256
_MAX_INTEGER_DIGITS: Final = 18
_MAX_FLOAT_CHARACTERS: Final = 512
_HALF_PAIR: Final = re.compile(rf"[{chr(0xD800)}-{chr(0xDFFF)}]")
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_decode: Final = msgspec.json.Decoder().decode


def token_count(value: object) -> int | None:
    """A number of tokens: a fraction is rounded up, a text is read; None for what is no plausible count."""
    if value is None:
        return None
    if isinstance(value, str):
        if len(value) > _MAX_DIGITS or not _NUMBER.fullmatch(value):
            return None
        value = float(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = math.ceil(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    count: int = value
    return count if 0 <= count <= MAX_TOKENS else None


def lenient_json(text: bytes) -> Any:
    """The JSON value of these bytes, with U+FFFD for a broken character; None if they hold none, or are very many."""
    if len(text) > _MAX_READ_BYTES or (len(text) > _DENSE_BYTES and is_too_dense(text)):
        return None
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError):
        try:
            return json.loads(text.decode(errors="replace"), parse_int=_whole, parse_float=_finite)
        except (ValueError, RecursionError):
            return None
    except RecursionError:
        return None


def repaired(text: bytes) -> bytes | None:
    """The same JSON, if these bytes are not quite JSON: half a surrogate pair, a broken character, NaN, 1e999; else None.

    A text that is cut by UTF-16 units, as JavaScript does, ends with half a pair. It becomes U+FFFD, and a number that no
    machine holds null. A very long text stays as it is, and so does one with very many values.
    """
    if len(text) > _MAX_REPAIRED_BYTES or (len(text) > _DENSE_BYTES and is_too_dense(text)):
        return None
    try:
        _decode(text)
        return None
    except (msgspec.DecodeError, UnicodeError):
        try:
            value = json.loads(text.decode(errors="replace"), parse_constant=_no_number, parse_int=_whole, parse_float=_finite)
        except (ValueError, RecursionError):
            return None
        return _HALF_PAIR.sub("\ufffd", json.dumps(value, ensure_ascii=False)).encode()
    except RecursionError:
        return None


def _no_number(_: str) -> None:
    """NaN and Infinity are no JSON."""


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else None


def _finite(digits: str) -> float | None:
    number = float(digits[:_MAX_FLOAT_CHARACTERS])
    return number if math.isfinite(number) and len(digits) <= _MAX_FLOAT_CHARACTERS else None


def first_count(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first of these members that is a count; one of 0 counts only if no other is larger."""
    found: int | None = None
    for name in names:
        count = token_count(usage.get(name))
        if count:
            return count
        if found is None:
            found = count
    return found


def part(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first of these members that is an object; else an empty one."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, dict):
            return value
    return {}


def updated(known: Mapping[str, Any] | None, newer: Mapping[str, Any]) -> Mapping[str, Any]:
    """A usage object with the members of a newer one, unless they are too many.

    Counts only grow, so neither a 0 nor an odd value replaces a count.
    """
    if known is None:
        return newer
    if len(known) + len(newer) > _MAX_MEMBERS:
        return known
    merged = dict(known)
    for name, value in newer.items():
        if name not in merged or (value and (token_count(value) is not None or token_count(merged[name]) is None)):
            merged[name] = value
    return merged
