"""Draws a simulated image: a PNG with a label on it. The same sketch gives the same bytes. Pure.

1. The colour of the background comes from the prompt's hash. It darkens downwards and the label is white, to be readable.
2. The label is as large as fits, but no larger than suits the image.
3. It is fast: a pixel is one byte, a colour's index in the palette, and all rows without a glyph are one object.
"""

from __future__ import annotations

import colorsys
import hashlib
import struct
import textwrap
import zlib
from typing import Final

import msgspec

from kyma_proxy.simulated.glyphs import HEIGHT, WIDTH, dot_row, simplify

MIN_SIDE: Final = 64
MAX_SIDE: Final = 1024
_SHADES: Final = 64  # of the background, from the top to the bottom
_ADVANCE: Final = WIDTH + 1  # dots from one glyph to the next
_LINE_HEIGHT: Final = HEIGHT + 3  # dots from one line to the next
_MARGIN: Final = 4  # pixels that no glyph touches, both sides together
_MIN_DOTS_PER_SIDE: Final = 80  # of the shorter side: it limits the size of a dot
_MAX_LABEL_WORDS, _MAX_LABEL_CHARACTERS = 8, 60  # of the prompt

# Indexes into the palette: the label's colour, then the shades of the background. A row is drawn with the first shade.
_INK: Final = b"\0"
_BACKGROUND: Final = b"\1"


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """The input from which an image is drawn: small enough to be kept. `hue` is the background's, in degrees."""

    text: str
    hue: int
    width: int
    height: int


def make_sketch(prompt: str, number: int, count: int, width: int, height: int, *, title: str = "SIMULATED") -> Sketch:
    """Returns the sketch of one of `count` images. It holds only the prompt's first words."""
    words = " ".join(prompt.split(None, _MAX_LABEL_WORDS)[:_MAX_LABEL_WORDS])[:_MAX_LABEL_CHARACTERS]
    hue = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:2]) % 360
    return Sketch(text=f"{title}\n{words}\n{number}/{count}", hue=hue, width=width, height=height)


def draw(sketch: Sketch) -> bytes:
    """Returns the PNG. Sides are limited to MIN_SIDE and MAX_SIDE."""
    width, height = (min(max(side, MIN_SIDE), MAX_SIDE) for side in (sketch.width, sketch.height))
    rows = _rows(simplify(sketch.text), width, height)
    pixels = b"".join(
        b"\0" + row.replace(_BACKGROUND, bytes((1 + at * _SHADES // height,)))  # each row begins with its filter: none
        for at, row in enumerate(rows)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits a pixel, by palette, not interlaced
    chunks = ((b"IHDR", header), (b"PLTE", _palette(sketch.hue)), (b"IDAT", zlib.compress(pixels, 6)), (b"IEND", b""))
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
    """Returns the rows of the image, with the label in the middle."""
    lines, scale = _lay_out(text, width, height)
    empty = _BACKGROUND * width
    rows = [empty] * ((height - (len(lines) * _LINE_HEIGHT - (_LINE_HEIGHT - HEIGHT)) * scale) // 2)
    for line in lines:
        for row in range(HEIGHT):
            inked = b"".join((_INK if dot == "#" else _BACKGROUND) * scale for dot in dot_row(line, row))
            rows += [inked.center(width, _BACKGROUND)] * scale
        rows += [empty] * ((_LINE_HEIGHT - HEIGHT) * scale)
    rows += [empty] * (height - len(rows))
    return rows[:height]


def _lay_out(text: str, width: int, height: int) -> tuple[list[str], int]:
    """Returns the lines of the label and the pixels of a dot. Lines that don't fit at one pixel per dot are left out."""
    longest_word = max(map(len, text.split()), default=0)
    for scale in range(max(1, min(width, height) // _MIN_DOTS_PER_SIDE), 0, -1):
        columns, max_lines = (width - _MARGIN) // (_ADVANCE * scale), height // (_LINE_HEIGHT * scale)
        lines = [line for part in text.split("\n") for line in textwrap.wrap(part, columns)]
        if scale == 1 or (longest_word <= columns and len(lines) <= max_lines):
            break
    return lines[:max_lines], scale
