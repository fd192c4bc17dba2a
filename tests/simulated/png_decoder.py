"""An independent decoder of the one kind of PNG that the simulated provider draws."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

Colour = tuple[int, ...]
WHITE: Colour = (255, 255, 255)


class Image(NamedTuple):
    """A decoded image: its size, and the colours of each row."""

    width: int
    height: int
    rows: list[list[Colour]]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def white_pixels(self) -> list[tuple[int, int]]:
        """The places of the label's pixels."""
        return [(x, y) for y, row in enumerate(self.rows) for x, colour in enumerate(row) if colour == WHITE]


def decode(png: bytes) -> Image:
    """Decodes a PNG with a palette, 8 bits a pixel and no filter. Asserts each checksum and length."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + content),)
        chunks.append((kind, content))
        at += 12 + length
    assert at == len(png)
    assert [kind for kind, _ in chunks] == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    (_, header), (_, colours), (_, compressed), (_, end) = chunks
    width, height, *format_bytes = struct.unpack(">IIBBBBB", header)
    assert (format_bytes, end, len(colours) % 3) == ([8, 3, 0, 0, 0], b"", 0)
    palette = [tuple(colours[at : at + 3]) for at in range(0, len(colours), 3)]
    assert len(palette) <= 256
    pixels = zlib.decompress(compressed)
    assert len(pixels) == height * (width + 1)
    rows = [pixels[at : at + width + 1] for at in range(0, len(pixels), width + 1)]
    assert {row[0] for row in rows} == {0}
    return Image(width, height, [[palette[index] for index in row[1:]] for row in rows])
