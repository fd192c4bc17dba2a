"""This file draws a simulated picture: a PNG with a label on it, the same for the same sketch. Pure.

1. The colour of the ground comes from the prompt's hash; it darkens downwards, and the label is white, so that it is readable.
2. The label is as large as fits, but no larger than suits the picture.
3. A pixel is one byte that names a colour of the palette, and rows without a letter are one object: that makes it fast.
"""

from __future__ import annotations

import colorsys
import hashlib
import struct
import textwrap
import zlib
from typing import Final

import msgspec

from kyma_proxy.simulated.letters import HEIGHT, WIDTH, dots, plain

MIN_SIDE: Final = 64
MAX_SIDE: Final = 1024
_SHADES: Final = 64  # of the ground, from the top to the bottom
_GLYPH: Final = WIDTH + 1  # dots from one letter to the next
_LINE: Final = HEIGHT + 3  # dots from one line to the next
_MARGIN: Final = 4  # pixels that no letter touches, both sides together
_SMALLEST_OF: Final = 80  # a dot is at most this part of the shorter side
_LABEL_WORDS, _LABEL_SIGNS = 8, 60  # of the prompt

# The colours' places in the palette: the label's, then the shades of the ground. A row is drawn in the first of these.
_INK: Final = b"\0"
_GROUND: Final = b"\1"


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture is drawn from: little enough to be kept. `hue` is of the ground, in degrees."""

    text: str
    hue: int
    width: int
    height: int


def sketched(prompt: str, number: int, count: int, width: int, height: int, *, title: str = "SIMULATED") -> Sketch:
    """The sketch of one of `count` pictures; only the prompt's first words are in it."""
    words = " ".join(prompt.split(None, _LABEL_WORDS)[:_LABEL_WORDS])[:_LABEL_SIGNS]
    hue = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:2]) % 360
    return Sketch(text=f"{title}\n{words}\n{number}/{count}", hue=hue, width=width, height=height)


def draw(sketch: Sketch) -> bytes:
    """The PNG. A side that is too long or too short for a picture is made to fit."""
    width, height = (min(max(side, MIN_SIDE), MAX_SIDE) for side in (sketch.width, sketch.height))
    rows = _rows(plain(sketch.text), width, height)
    pixels = b"".join(
        b"\0" + row.replace(_GROUND, bytes((1 + at * _SHADES // height,)))  # each row begins with its filter: none
        for at, row in enumerate(rows)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits a pixel, by palette, not interlaced
    chunks = ((b"IHDR", head), (b"PLTE", _palette(sketch.hue)), (b"IDAT", zlib.compress(pixels, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _palette(hue: int) -> bytes:
    colours = [(1.0, 1.0, 1.0)]
    for shade in range(_SHADES):
        down = shade / (_SHADES - 1)
        colours.append(colorsys.hsv_to_rgb((hue + 40 * down) / 360 % 1, 0.7, 0.5 - 0.25 * down))
    return bytes(round(255 * part) for colour in colours for part in colour)


def _rows(text: str, width: int, height: int) -> list[bytes]:
    """The rows of the picture: the label in the middle of it, in ink on ground."""
    lines, scale = _laid_out(text, width, height)
    empty = _GROUND * width
    rows = [empty] * ((height - (len(lines) * _LINE - (_LINE - HEIGHT)) * scale) // 2)
    for line in lines:
        for row in range(HEIGHT):
            inked = b"".join((_INK if dot == "#" else _GROUND) * scale for dot in dots(line, row))
            rows += [inked.center(width, _GROUND)] * scale
        rows += [empty] * ((_LINE - HEIGHT) * scale)
    rows += [empty] * (height - len(rows))
    return rows[:height]


def _laid_out(text: str, width: int, height: int) -> tuple[list[str], int]:
    """The lines of the label, and how many pixels a dot is wide; what doesn't fit at one pixel a dot is left out."""
    longest_word = max(map(len, text.split()), default=0)
    for scale in range(max(1, min(width, height) // _SMALLEST_OF), 0, -1):
        columns, most_lines = (width - _MARGIN) // (_GLYPH * scale), height // (_LINE * scale)
        lines = [line for part in text.split("\n") for line in textwrap.wrap(part, columns)]
        if scale == 1 or (longest_word <= columns and len(lines) <= most_lines):
            break
    return lines[:most_lines], scale
