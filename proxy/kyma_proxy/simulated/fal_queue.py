"""The queue protocol of fal.ai, as the simulated provider speaks it. Pure: the time is an argument.

1. A request waits in the queue for six paces of a stream and is in progress for the next fourteen; then it is completed.
   Requests don't wait for each other, so each is the first in the queue.
2. A failure shows in the result, not in the status: the status is COMPLETED, as with fal.ai itself.
3. A request that is cancelled before it is completed is completed at once, with an error; its result is a 400.
4. Unknown members are accepted, and change nothing.

Source: https://docs.fal.ai/documentation/model-apis/inference/queue
"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.simulated.image_drawing import draw
from kyma_proxy.simulated.image_orders import (
    FAILURE_MESSAGE,
    GENERATION_PACES,
    ImageOrder,
    fit_size,
    image_count,
    make_order,
    parse_size,
)
from kyma_proxy.simulated.request_fields import BadRequest, Json

NOT_FOUND: Final[Json] = {"detail": "Request not found"}
NOTHING_TO_CANCEL: Final[Json] = {"status": "NOT_FOUND"}
_QUEUE_PACES: Final = 6
_MAX_IMAGES: Final = 4
_CANCELLED: Final = "Request was cancelled"
_SIZES: Final[dict[object, tuple[int, int]]] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


class QueuedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the queue of an app. `image_names` are those of its images; `submitted_at` is in seconds, as `now` is."""

    ident: str
    app: str
    order: ImageOrder
    image_names: tuple[str, ...]
    seed: int
    submitted_at: float
    is_cancelled: bool = False


def read_order(body: Json) -> tuple[ImageOrder, int | None]:
    """Reads the body of a request to the queue: the order, and the seed if it has one. Raises BadRequest."""
    if body.get("prompt") is None:
        raise BadRequest("field required", "prompt", "missing")
    seed = body.get("seed")
    if seed is not None and type(seed) is not int:
        raise BadRequest("Input should be a valid integer", "seed", "int_type")
    image_url = body.get("image_url")
    if image_url is not None and not isinstance(image_url, str):
        raise BadRequest("Input should be a valid string", "image_url", "string_type")
    count = image_count(body, "num_images", _MAX_IMAGES)
    return make_order(body, count, _size(body), is_edit=image_url is not None), seed


def _size(body: Json) -> tuple[int, int]:
    """Returns the size: by its name or its sides, or else by the ratio."""
    image_size, ratio = body.get("image_size"), body.get("aspect_ratio")
    if isinstance(image_size, dict):
        width, height = image_size.get("width"), image_size.get("height")
        if type(width) is not int or type(height) is not int or width < 1 or height < 1:
            raise BadRequest("'width' and 'height' must be whole numbers of at least 1.", "image_size")
        return fit_size(width, height)
    if isinstance(image_size, str):
        if (size := _SIZES.get(image_size) or parse_size(image_size)) is None:
            raise BadRequest(f"Input should be {', '.join(map(str, _SIZES))}, or a width and a height", "image_size", "enum")
        return size
    if image_size is not None:
        raise BadRequest("Input should be a name, or a width and a height", "image_size")
    if (size := _SIZES["landscape_4_3"] if ratio is None else parse_size(ratio)) is None:
        raise BadRequest("Input should be a ratio, such as 16:9", "aspect_ratio")
    return size


def submit_response(queued: QueuedRequest, origin: str) -> Json:
    """Returns the body for a request that has just entered the queue of the provider at `origin`."""
    url = _response_url(queued, origin)
    urls = {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}
    return {"request_id": queued.ident, "status": "IN_QUEUE", "queue_position": 0, **urls}


def status_response(queued: QueuedRequest, origin: str, pace_s: float, now: float) -> tuple[int, Json]:
    """Returns the status code and the body for the status of a request."""
    stage = _stage(queued, pace_s, now)
    body: Json = {"status": stage, "request_id": queued.ident, "response_url": _response_url(queued, origin), "logs": None}
    if stage != "COMPLETED":
        return 202, body | ({"queue_position": 0} if stage == "IN_QUEUE" else {})
    if queued.is_cancelled:
        return 200, body | {"error": _CANCELLED, "metrics": {"inference_time": 0.0}}
    return 200, body | {"metrics": {"inference_time": round((GENERATION_PACES - _QUEUE_PACES) * pace_s, 3)}}


def result_response(queued: QueuedRequest, urls: list[str], pace_s: float, now: float) -> tuple[int, Json]:
    """Returns the status code and the body for the result of a request: the images at `urls`, or the reason for none."""
    if _stage(queued, pace_s, now) != "COMPLETED":
        return 400, {"detail": "Request is still in progress"}
    if queued.is_cancelled:
        return 400, {"detail": _CANCELLED}
    if queued.order.fails:
        return 500, {"detail": FAILURE_MESSAGE}
    images = [
        {
            "url": url,
            "width": sketch.width,
            "height": sketch.height,
            "content_type": "image/png",
            "file_name": url.rpartition("/")[2],
            "file_size": len(draw(sketch)),
        }
        for url, sketch in zip(urls, queued.order.sketches, strict=True)
    ]
    more = {"seed": queued.seed, "has_nsfw_concepts": [False] * len(images), "timings": {}, "prompt": queued.order.prompt}
    return 200, {"images": images, **more}


def cancel(queued: QueuedRequest, pace_s: float, now: float) -> tuple[QueuedRequest, int, Json]:
    """Cancels a request unless it is completed. Returns its new state, the status code and the body of the response."""
    if _stage(queued, pace_s, now) == "COMPLETED":
        return queued, 400, {"status": "ALREADY_COMPLETED"}
    return msgspec.structs.replace(queued, is_cancelled=True), 202, {"status": "CANCELLATION_REQUESTED"}


def _stage(queued: QueuedRequest, pace_s: float, now: float) -> str:
    waited_s = now - queued.submitted_at
    if queued.is_cancelled or waited_s >= GENERATION_PACES * pace_s:
        return "COMPLETED"
    return "IN_QUEUE" if waited_s < _QUEUE_PACES * pace_s else "IN_PROGRESS"


def _response_url(queued: QueuedRequest, origin: str) -> str:
    return f"{origin}/queue/{queued.app}/requests/{queued.ident}"
