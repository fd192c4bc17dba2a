"""Suggests how to write a duration, a size or an amount that was written as other programs take it: `30 sec`, `32M`, `$5`."""

from __future__ import annotations

import re
from typing import Final

_QUANTITY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-zµ]*)", re.ASCII)
_DURATIONS: Final = {
    "ms": ("ms", "msec", "millis", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
}
_SIZES: Final = {
    "B": ("b", "byte", "bytes"),
    "KiB": ("k", "ki", "kib"), "MiB": ("m", "mi", "mib"), "GiB": ("g", "gi", "gib"),
    "KB": ("kb",), "MB": ("mb",), "GB": ("gb",),
}  # fmt: skip
_BY_WORD: Final = {
    unit: {word: name for name, words in table.items() for word in words}
    for unit, table in (("duration", _DURATIONS), ("delay", _DURATIONS), ("size", _SIZES))
}
_SMALLER: Final = {
    "KB": ("B", 1000), "MB": ("KB", 1000), "GB": ("MB", 1000),
    "KiB": ("B", 1024), "MiB": ("KiB", 1024), "GiB": ("MiB", 1024),
}  # fmt: skip
_AMOUNT: Final = re.compile(r"\$?\s*([0-9]{1,7}(?:\.[0-9]{1,12})?)\s*(?:USD|\$|usd)?")


def suggest(unit: str, value: object) -> str | None:
    """The text to write in place of a value that is no duration, delay, size or amount; None if that is not clear."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    if unit == "workers":
        return "auto" if isinstance(value, str) and text.lower() == "auto" else None
    if unit == "usd":
        amount = _AMOUNT.fullmatch(text)
        return amount[1] if amount is not None and isinstance(value, str) else None
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    number, word = match[1], match[2].lower()
    if not word:
        return f"{number}s, if seconds are meant" if unit != "size" else None
    if word in ("d", "day", "days") and unit != "size" and number.isdigit():
        return f"{int(number) * 24}h"
    name = _BY_WORD[unit].get(word)
    if name is None:
        return None
    if unit != "size" or number.isdigit():
        return f"{number}{name}"
    smaller, factor = _SMALLER.get(name, ("", 1))
    whole = float(number) * factor
    return f"{whole:.0f}{smaller}" if smaller and whole.is_integer() else None
