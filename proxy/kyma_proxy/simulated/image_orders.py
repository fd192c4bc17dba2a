"""Reads a request for images into an order, the same in each protocol. Pure.

1. No model runs. The images say so, and show the prompt's first words. An input image is neither fetched nor decoded.
2. A prompt that contains "fail", in capitals or not, ends with a 500, so that one can see a failure. A synchronous
   request gets it after the wait, a queued request as its result.
3. An image that would be larger than this provider draws is scaled down and keeps its shape, as far as MIN_SIDE allows.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kyma_proxy.simulated.image_drawing import MAX_SIDE, MIN_SIDE, Sketch, make_sketch
from kyma_proxy.simulated.request_fields import BadRequest, Json, positive_int

FAILURE_MESSAGE: Final = "The simulated provider failed, as the prompt contains 'fail'."
GENERATION_PACES: Final = 20  # the time that a request for images takes, in paces of a stream
_MAX_PROMPT: Final = 32_000  # characters
_SIZE: Final = re.compile(r"([0-9]{1,5})([x:])([0-9]{1,5})")


class ImageOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The images to generate. `fails` is True if the generation is to fail."""

    prompt: str
    sketches: tuple[Sketch, ...]
    fails: bool


def make_order(body: Json, count: int, size: tuple[int, int], *, is_edit: bool) -> ImageOrder:
    """Returns the order for `count` images of a size; raises BadRequest."""
    prompt = _required_prompt(body)
    title = "SIMULATED EDIT" if is_edit else "SIMULATED"
    sketches = tuple(make_sketch(prompt, number, count, *size, title=title) for number in range(1, count + 1))
    return ImageOrder(prompt=prompt, sketches=sketches, fails="fail" in prompt.casefold())


def image_count(body: Json, name: str, max_count: int) -> int:
    """Returns the number of images, 1 if the member is missing; raises BadRequest."""
    count = positive_int(body, name) or 1
    if count > max_count:
        raise BadRequest(f"'{name}' must be at most {max_count}.", name)
    return count


def parse_size(value: object) -> tuple[int, int] | None:
    """Returns the size that "WxH", a ratio such as "16:9" or "auto" stands for, or None if the value is none of these."""
    if value == "auto":
        return MAX_SIDE, MAX_SIDE
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not (width := int(match[1])) or not (height := int(match[3])):
        return None
    if match[2] == "x":
        return fit_size(width, height)
    longer = max(width, height)
    return fit_size(width * MAX_SIDE // longer, height * MAX_SIDE // longer)


def fit_size(width: int, height: int) -> tuple[int, int]:
    """Returns the size that is drawn: scaled down to MAX_SIDE in the same shape, with no side below MIN_SIDE."""
    longest = max(width, height, MAX_SIDE)
    return max(MIN_SIDE, width * MAX_SIDE // longest), max(MIN_SIDE, height * MAX_SIDE // longest)


def _required_prompt(body: Json) -> str:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRequest("'prompt' must be a string that is not empty.", "prompt")
    if len(prompt) > _MAX_PROMPT:
        raise BadRequest(f"'prompt' must have at most {_MAX_PROMPT} characters.", "prompt")
    return prompt
