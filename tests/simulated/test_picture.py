"""A simulated picture is a sound PNG, whose label can be read."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import NamedTuple

import pytest

from kyma_proxy.simulated import letters
from kyma_proxy.simulated.picture import Sketch, draw, sketched

WHITE = (255, 255, 255)
SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()+-*/=%&#$_"


class Decoded(NamedTuple):
    """What a reader of PNGs sees: the size, and each row's colours."""

    width: int
    height: int
    rows: list[list[tuple[int, ...]]]

    def inked(self) -> list[tuple[int, int]]:
        return [(x, y) for y, row in enumerate(self.rows) for x, colour in enumerate(row) if colour == WHITE]


def decode(png: bytes) -> Decoded:
    """An independent reader of this one kind of PNG: palette, 8 bits a pixel, no filter; it checks every sum and length."""
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
    (_, head), (_, colours), (_, packed), (_, nothing) = chunks
    width, height, *rest = struct.unpack(">IIBBBBB", head)
    assert (rest, nothing, len(colours) % 3) == ([8, 3, 0, 0, 0], b"", 0)
    palette = [tuple(colours[at : at + 3]) for at in range(0, len(colours), 3)]
    assert len(palette) <= 256
    pixels = zlib.decompress(packed)
    assert len(pixels) == height * (width + 1)
    rows = [pixels[at : at + width + 1] for at in range(0, len(pixels), width + 1)]
    assert {row[0] for row in rows} == {0}
    return Decoded(width, height, [[palette[place] for place in row[1:]] for row in rows])


def luminance(colour: tuple[int, ...]) -> float:
    """As WCAG 2 defines it."""
    parts = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("size", [(64, 64), (64, 1024), (1024, 64), (300, 201), (512, 512)])
def test_it_has_the_size_that_was_asked_for_and_a_label(size: tuple[int, int]) -> None:
    seen = decode(draw(sketched("A red fox", 1, 1, *size)))
    assert (seen.width, seen.height) == size
    inked = seen.inked()
    assert 0.002 < len(inked) / (seen.width * seen.height) < 0.5
    assert all(0 < x < seen.width - 1 and 0 < y < seen.height - 1 for x, y in inked)


@pytest.mark.parametrize(("asked", "drawn"), [((1, 5000), (64, 1024)), ((-3, 0), (64, 64)), ((10**30, 100), (1024, 100))])
def test_sides_are_made_to_fit(asked: tuple[int, int], drawn: tuple[int, int]) -> None:
    assert decode(draw(sketched("A red fox", 1, 1, *asked)))[:2] == drawn


def test_the_same_sketch_gives_the_same_bytes_and_each_picture_its_number() -> None:
    first, again, second = (draw(sketched("A red fox", number, 2, 128, 128)) for number in (1, 1, 2))
    assert first == again
    assert first != second


def test_the_ground_is_the_prompts_colour() -> None:
    grounds = {decode(draw(sketched(prompt, 1, 1, 64, 64))).rows[0][0] for prompt in ("a fox", "a hare", "an owl")}
    assert len(grounds) == 3


def test_the_label_stands_out_from_any_ground() -> None:
    for hue in range(0, 360, 10):
        colours = set(itertools.chain(*decode(draw(Sketch(text="A", hue=hue, width=64, height=64))).rows)) - {WHITE}
        assert all(1.05 / (luminance(colour) + 0.05) > 3 for colour in colours), hue  # WCAG's least for large letters


def test_letters_differ_from_each_other_and_from_the_box_of_what_is_unknown() -> None:
    shapes = {tuple(letters.dots(sign, row) for row in range(letters.HEIGHT)) for sign in [*SIGNS, " ", "日"]}
    assert len(shapes) == len(SIGNS) + 2
    assert {len(line) for shape in shapes for line in shape} == {letters.WIDTH}


def test_a_letter_is_drawn_as_it_is_in_the_font() -> None:
    inked = decode(draw(Sketch(text="q", hue=0, width=64, height=64))).inked()
    left, top = min(x for x, _ in inked), min(y for _, y in inked)
    shape = ["".join("#" if (left + x, top + y) in inked else "." for x in range(5)) for y in range(7)]
    assert shape == [letters.dots("Q", row) for row in range(7)]


def test_a_label_is_written_plainly() -> None:
    assert letters.plain("Grüße, Zoë") == "GRUSSE, ZOE"


@pytest.mark.parametrize("prompt", ["", "word " * 9_000, "x" * 90_000, "\0\t\u200b", "ﷺ" * 60, "日本の狐" * 30, "\U0001f98a"])
@pytest.mark.parametrize("size", [(64, 64), (512, 200)])
def test_any_prompt_can_be_drawn_and_little_of_it_is_kept(prompt: str, size: tuple[int, int]) -> None:
    sketch = sketched(prompt, 10, 10, *size)
    assert len(sketch.text) < 80
    assert decode(draw(sketch)).inked()
