"""Reads plain scalars of YAML: decimal numbers, booleans, null and text.

YAML 1.1 takes more texts for numbers than people and other parsers do: `010` is 8, `1:30` is 90 and `1_000` is 1000. Where a
number is expected each of them is refused, with the number to write. Dates and the like stay text.
"""

from __future__ import annotations

import re
from typing import Final

_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{0,99})?(?:[eE][+-]?[0-9]{1,3})?|-?\.[0-9]{1,99}")
_OTHER_NUMBER: Final = re.compile(
    r"[+-]?0[oO][0-7_]+|[+-]?0[xX][0-9a-fA-F_]+|[+-]?0[bB][01_]+|[+-]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|"
    r"[+-]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?|[+-]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_COMMA: Final = re.compile(r"-?[0-9]{1,15}(?:,[0-9]{1,15})+(?:\.[0-9]{1,15})?")
_BOOLEANS: Final = {
    spelling: value
    for word, value in (("true", True), ("false", False), ("yes", True), ("no", False), ("on", True), ("off", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_WRITE_DECIMAL: Final = "write a number in decimal digits, such as 10 or 0.5, without signs or separators"
_MAX_SHOWN: Final = 24


class OddNumber(ValueError):
    """A number to some readers of YAML, and another or none to others. The message says how to write it."""


def plain_value(text: str) -> object:
    """The value of a scalar without quotes. Raises OddNumber."""
    if _DECIMAL.fullmatch(text):
        return int(text) if text.lstrip("-").isdigit() else float(text)
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text in _NULLS:
        return None
    if text[0] in "0123456789.+-" and _OTHER_NUMBER.fullmatch(text):
        raise OddNumber(_explain(text))
    return text


def is_boolean(text: str) -> bool:
    """True if YAML 1.1 reads this as true or false if it has no quotes."""
    return text in _BOOLEANS


def is_null(text: str) -> bool:
    """True if YAML reads this as null if it has no quotes."""
    return text in _NULLS


def explain_comma(text: str) -> str | None:
    """Explain a number that has a comma; None for any other text."""
    if len(text) > _MAX_SHOWN or not _COMMA.fullmatch(text):
        return None
    groups = text.lstrip("-").split(",")
    if len(groups) == 2 and "." not in text and (len(groups[1]) != 3 or groups[0] == "0"):
        return f"{text} has a comma; a number has a point there: {text.replace(',', '.')}"
    return f"{text} has a comma; a number has a point before its decimals, and no separators: {text.replace(',', '')}"


def _explain(text: str) -> str:
    if len(text) > _MAX_SHOWN:
        return _WRITE_DECIMAL
    if ":" in text:
        return f"{_WRITE_DECIMAL}, or a duration as 90s: {text} is a time to people, and a number to the base of 60 in YAML"
    if re.fullmatch(r"[+-]?0[0-9_]+", text):
        return f"{_WRITE_DECIMAL}: {text.lstrip('+-0_') or '0'}, as {text} is octal to some readers of YAML, and not to others"
    if "_" in text:
        return f"{_WRITE_DECIMAL}: {text.replace('_', '')}, as {text} is a text to some readers of YAML"
    return f"{_WRITE_DECIMAL}, as {text} is a number to some readers of YAML only"
