"""Makes text visible: what a terminal or an editor would obey, hide or reorder is written as an escape.

Callers and providers choose words that get into the logs: a right-to-left override can make a line say the opposite, and a line
separator looks like the end of one.
"""

from __future__ import annotations

import re
from typing import Final

# Letters, marks and symbols that show nothing, besides the characters that Python calls unprintable: Unicode's
# Default_Ignorable_Code_Point, and the empty pattern of Braille.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""The text with each character that is not visible as `\uXXXX`, as JSON writes it. Text without any is returned as it is.

    Of a JSON document the value stays the same, as it has such characters in strings only.
    """
    if text.isprintable() and (text.isascii() or _INVISIBLE.search(text) is None):
        return text
    return "".join([one if one.isprintable() and _INVISIBLE.match(one) is None else _escape(one) for one in text])


def is_visible(lines: bytes) -> bool:
    """True if these lines of JSON need not be looked at one by one."""
    return lines.isascii() and b"\x7f" not in lines


def visible_line(line: bytes) -> bytes:
    """The same as `visible`, for a line of JSON in UTF-8."""
    return line if is_visible(line) else visible(line.decode()).encode()


def _escape(character: str) -> str:
    units = memoryview(character.encode("utf-16-be", "surrogatepass")).hex("-", 2)
    return "".join([f"\\u{unit}" for unit in units.split("-")])
