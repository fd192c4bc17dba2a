"""Defines what an image model allows in a request, and how its sources name the members of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec


class ImageMembers(msgspec.Struct, frozen=True, kw_only=True):
    """The names of the members of a source's image requests.

    `size_form` is `text`, `object` (width and height in an object under `size`) or `pair` (each a member of its own); `sizes`
    maps the sizes that are spelled otherwise. Without `count` the source makes one image at a time; `most` is how many at once.
    A job that only waits in its queue is withdrawn after `leave_queue_after` seconds, if another source can be asked.
    """

    size: str
    size_form: str
    sizes: Mapping[str, str]
    count: str | None
    most: int
    images: str
    leave_queue_after: float | None = 60.0


class ImageRules(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that an image model allows; `sizes` is None if any size is passed on."""

    sizes: tuple[str, ...] | None = None
    extra: tuple[str, ...] = ()
    most: int = 4
    most_input_images: int = 1
    needs_image: bool = False
    max_prompt: int = 4000


USUAL_RULES: Final = ImageRules()
"""The rules of a model that names none."""
