"""Checks that a whole text is UTF-8. The JSON reader looks only into the values that it decodes, not into those kept raw."""

from __future__ import annotations

import codecs
from typing import Final

_SLICE_BYTES: Final = 64 * 1024
_decoder: Final = codecs.getincrementaldecoder("utf-8")


def check_utf_8(text: bytes) -> None:
    """Raise UnicodeDecodeError if a text is not UTF-8. It is decoded in slices: as a whole it may take four times its size."""
    if text.isascii():
        return
    decode = _decoder().decode
    for start in range(0, len(text), _SLICE_BYTES):
        decode(text[start : start + _SLICE_BYTES])
    decode(b"", final=True)
