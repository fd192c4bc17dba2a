"""What is understood of a request for pictures, in whichever protocol it came. Pure.

1. No model runs. The pictures say so, and show the prompt's first words; a given image is neither fetched nor looked at.
2. A prompt that contains "fail", in capitals or not, ends with a 500, so that a failure can be shown: after the wait,
   where an answer is waited for, and as the result, where it is asked for later.
3. A picture that would be larger than this provider draws keeps its shape, as far as that can be.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kyma_proxy.simulated.picture import MAX_SIDE, MIN_SIDE, Sketch, sketched
from kyma_proxy.simulated.reading import BadRequest, Json, count_of

FAILURE: Final = "The simulated provider failed, as the prompt contains 'fail'."
PACES_TO_MAKE: Final = 20  # how long a request for pictures takes, in paces of a stream
_MAX_PROMPT: Final = 32_000  # characters
_SIZE: Final = re.compile(r"([0-9]{1,5})([x:])([0-9]{1,5})")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures that are going to be made, or that their making fails."""

    prompt: str
    sketches: tuple[Sketch, ...]
    fails: bool


def order(body: Json, count: int, size: tuple[int, int], *, is_edit: bool) -> Order:
    """The order for `count` pictures of a size; raises BadRequest."""
    prompt = _prompt_of(body)
    title = "SIMULATED EDIT" if is_edit else "SIMULATED"
    sketches = tuple(sketched(prompt, number, count, *size, title=title) for number in range(1, count + 1))
    return Order(prompt=prompt, sketches=sketches, fails="fail" in prompt.casefold())


def pictures_wanted(body: Json, name: str, most: int) -> int:
    """How many pictures: 1 where it is not said; raises BadRequest."""
    count = count_of(body, name) or 1
    if count > most:
        raise BadRequest(f"'{name}' must be at most {most}.", name)
    return count


def size_of(asked: object) -> tuple[int, int] | None:
    """The size that "WxH", a ratio as "16:9" or "auto" stands for; None where it is none of these."""
    if asked == "auto":
        return MAX_SIDE, MAX_SIDE
    found = _SIZE.fullmatch(asked) if isinstance(asked, str) else None
    if found is None or not (width := int(found[1])) or not (height := int(found[3])):
        return None
    if found[2] == "x":
        return fitted(width, height)
    longest = max(width, height)
    return fitted(width * MAX_SIDE // longest, height * MAX_SIDE // longest)


def fitted(width: int, height: int) -> tuple[int, int]:
    """The size that is drawn: of the same shape, where a side would be too long."""
    longest = max(width, height, MAX_SIDE)
    return max(MIN_SIDE, width * MAX_SIDE // longest), max(MIN_SIDE, height * MAX_SIDE // longest)


def _prompt_of(body: Json) -> str:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRequest("'prompt' must be a string that is not empty.", "prompt")
    if len(prompt) > _MAX_PROMPT:
        raise BadRequest(f"'prompt' must have at most {_MAX_PROMPT} characters.", "prompt")
    return prompt
