"""A simulated image is a valid PNG with a readable label."""

from __future__ import annotations

import itertools

import pytest

from kyma_proxy.simulated import glyphs
from kyma_proxy.simulated.image_drawing import Sketch, draw, make_sketch
from tests.simulated.png_decoder import WHITE, Colour, decode

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()+-*/=%&#$_"
MIN_CONTRAST = 3  # WCAG 2, for large letters


def luminance(colour: Colour) -> float:
    """The relative luminance of WCAG 2."""
    parts = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("size", [(64, 64), (64, 1024), (1024, 64), (300, 201), (512, 512)])
def test_an_image_has_the_requested_size_and_a_label_inside_its_margin(size: tuple[int, int]) -> None:
    image = decode(draw(make_sketch("A red fox", 1, 1, *size)))
    assert image.size == size
    label = image.white_pixels()
    assert 0.002 < len(label) / (image.width * image.height) < 0.5
    assert all(0 < x < image.width - 1 and 0 < y < image.height - 1 for x, y in label)


@pytest.mark.parametrize(("requested", "drawn"), [((1, 5000), (64, 1024)), ((-3, 0), (64, 64)), ((10**30, 100), (1024, 100))])
def test_the_sides_of_an_image_are_limited(requested: tuple[int, int], drawn: tuple[int, int]) -> None:
    assert decode(draw(make_sketch("A red fox", 1, 1, *requested))).size == drawn


def test_the_same_sketch_gives_the_same_bytes_and_another_number_others() -> None:
    first, repeated, second = (draw(make_sketch("A red fox", number, 2, 128, 128)) for number in (1, 1, 2))
    assert first == repeated
    assert first != second


def test_the_background_colour_depends_on_the_prompt() -> None:
    backgrounds = {decode(draw(make_sketch(prompt, 1, 1, 64, 64))).rows[0][0] for prompt in ("a fox", "a hare", "an owl")}
    assert len(backgrounds) == 3


def test_the_label_contrasts_with_every_background_colour() -> None:
    for hue in range(0, 360, 10):
        colours = set(itertools.chain(*decode(draw(Sketch(text="A", hue=hue, width=64, height=64))).rows)) - {WHITE}
        assert all(1.05 / (luminance(colour) + 0.05) > MIN_CONTRAST for colour in colours), hue


def test_glyphs_differ_from_each_other_and_from_the_box_for_unknown_characters() -> None:
    drawn = {tuple(glyphs.dot_row(one, row) for row in range(glyphs.HEIGHT)) for one in [*CHARACTERS, " ", "日"]}
    assert len(drawn) == len(CHARACTERS) + 2
    assert {len(row) for glyph in drawn for row in glyph} == {glyphs.WIDTH}


def test_a_character_is_drawn_as_in_the_font() -> None:
    label = decode(draw(Sketch(text="q", hue=0, width=64, height=64))).white_pixels()
    left, top = min(x for x, _ in label), min(y for _, y in label)
    drawn = ["".join("#" if (left + x, top + y) in label else "." for x in range(5)) for y in range(7)]
    assert drawn == [glyphs.dot_row("Q", row) for row in range(7)]


def test_a_label_is_in_capitals_without_accents() -> None:
    assert glyphs.simplify("Grüße, Zoë") == "GRUSSE, ZOE"


@pytest.mark.parametrize("prompt", ["", "word " * 9_000, "x" * 90_000, "\0\t\u200b", "ﷺ" * 60, "日本の狐" * 30, "\U0001f98a"])
@pytest.mark.parametrize("size", [(64, 64), (512, 200)])
def test_any_prompt_can_be_drawn_and_its_sketch_stays_small(prompt: str, size: tuple[int, int]) -> None:
    sketch = make_sketch(prompt, 10, 10, *size)
    assert len(sketch.text) < 80
    assert decode(draw(sketch)).white_pixels()
