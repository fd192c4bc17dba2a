"""Reads the size of an image as people write it."""

from __future__ import annotations

import re
from typing import Final

_DIMENSIONS: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


def dimensions(size: str) -> tuple[int, int] | None:
    """Width and height of a size such as 1024x768; None if the text is not such a size."""
    found = _DIMENSIONS.fullmatch(size)
    return None if found is None else (int(found[1]), int(found[2]))
