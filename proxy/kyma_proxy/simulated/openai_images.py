"""OpenAI's images protocol, as the simulated provider speaks it: reads requests and encodes the images. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final

import msgspec

from kyma_proxy.simulated.image_drawing import draw
from kyma_proxy.simulated.image_orders import FAILURE_MESSAGE, ImageOrder, image_count, make_order, parse_size
from kyma_proxy.simulated.request_fields import BadRequest, Json, required_model

_MAX_IMAGES: Final = 10
FAILURE: Final[Json] = {"error": {"message": FAILURE_MESSAGE, "type": "server_error", "param": None, "code": None}}


class ImagesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An order. `is_inline` is True if the response holds the images themselves instead of their URLs."""

    order: ImageOrder
    is_inline: bool


def read_generation(body: Json) -> ImagesRequest:
    """Reads the body of POST /v1/images/generations; raises BadRequest."""
    return _read(body, is_edit=False)


def read_edit(body: Json) -> ImagesRequest:
    """Reads the body of POST /v1/images/edits, which needs at least one image; raises BadRequest."""
    images = body.get("images")
    if images is None:
        images = [body]  # one image, as a member of the body itself
    if not isinstance(images, list) or not images or not all(map(_is_image, images)):
        raise BadRequest("'images' must be a list of objects with an 'image_url', and not empty.", "images")
    return _read(body, is_edit=True)


def _is_image(image: object) -> bool:
    url = image.get("image_url") if isinstance(image, dict) else None
    return isinstance(url, str) and bool(url)


def _read(body: Json, *, is_edit: bool) -> ImagesRequest:
    required_model(body)
    size = parse_size("auto" if body.get("size") is None else body["size"])
    if size is None:
        raise BadRequest("'size' must be as 1024x1024, a ratio as 16:9, or auto.", "size")
    response_format = body.get("response_format")
    if response_format not in (None, "url", "b64_json"):
        raise BadRequest("'response_format' must be url or b64_json.", "response_format")
    order = make_order(body, image_count(body, "n", _MAX_IMAGES), size, is_edit=is_edit)
    return ImagesRequest(order=order, is_inline=response_format == "b64_json")


def url_response(urls: Iterable[str], now: int) -> Json:
    """Returns the body that holds the URLs of the images."""
    return {"created": now, "data": [{"url": url} for url in urls]}


def inline_response(order: ImageOrder, now: int) -> Json:
    """Returns the body that holds the images in base64."""
    return {"created": now, "data": [{"b64_json": base64.b64encode(draw(sketch)).decode()} for sketch in order.sketches]}
