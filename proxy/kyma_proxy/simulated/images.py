"""This file reads requests for pictures in OpenAI's images protocol, and gives the pictures its shape. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final

import msgspec

from kyma_proxy.simulated.orders import FAILURE, Order, order, pictures_wanted, size_of
from kyma_proxy.simulated.picture import draw
from kyma_proxy.simulated.reading import BadRequest, Json, model_of

_MAX_PICTURES: Final = 10
FAILED: Final[Json] = {"error": {"message": FAILURE, "type": "server_error", "param": None, "code": None}}


class ImagesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; `is_inline` where the answer is to hold the pictures themselves, not their addresses."""

    order: Order
    is_inline: bool


def read_generation(body: Json) -> ImagesRequest:
    """What POST /v1/images/generations asks for; raises BadRequest."""
    return _read(body, is_edit=False)


def read_edit(body: Json) -> ImagesRequest:
    """What POST /v1/images/edits asks for: it needs an image, or some. Raises BadRequest."""
    given = body.get("images")
    images: object = [body] if given is None else given
    if not isinstance(images, list) or not images or not all(map(_is_image, images)):
        raise BadRequest("'images' must be a list of objects with an 'image_url', and not empty.", "images")
    return _read(body, is_edit=True)


def _is_image(image: object) -> bool:
    url = image.get("image_url") if isinstance(image, dict) else None
    return isinstance(url, str) and bool(url)


def _read(body: Json, *, is_edit: bool) -> ImagesRequest:
    model_of(body)
    size = size_of("auto" if body.get("size") is None else body["size"])
    if size is None:
        raise BadRequest("'size' must be as 1024x1024, a ratio as 16:9, or auto.", "size")
    response_format = body.get("response_format")
    if response_format not in (None, "url", "b64_json"):
        raise BadRequest("'response_format' must be url or b64_json.", "response_format")
    wanted = order(body, pictures_wanted(body, "n", _MAX_PICTURES), size, is_edit=is_edit)
    return ImagesRequest(order=wanted, is_inline=response_format == "b64_json")


def by_address(urls: Iterable[str], now: int) -> Json:
    """The answer that says where the pictures are."""
    return {"created": now, "data": [{"url": url} for url in urls]}


def inline(order: Order, now: int) -> Json:
    """The answer that holds the pictures."""
    return {"created": now, "data": [{"b64_json": base64.b64encode(draw(sketch)).decode()} for sketch in order.sketches]}
