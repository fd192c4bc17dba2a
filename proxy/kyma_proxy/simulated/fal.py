"""The queue protocol of fal.ai, as the simulated provider speaks it. Pure: the time is an argument.

1. A request waits in the queue for six paces of a stream and is worked on for the next fourteen; then it is completed.
   Requests don't wait for each other, so each is the first in the queue.
2. A failure shows in the result, not in the status: that one says COMPLETED, as fal.ai's own does.
3. A request that is cancelled before it is completed is completed at once, with an error; its result is a 400.
4. Members that are not named in this file are accepted, and change nothing.

Source: https://docs.fal.ai/documentation/model-apis/inference/queue
"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.simulated.orders import FAILURE, PACES_TO_MAKE, Order, fitted, order, pictures_wanted, size_of
from kyma_proxy.simulated.picture import draw
from kyma_proxy.simulated.reading import BadRequest, Json

NOT_FOUND: Final[Json] = {"detail": "Request not found"}
NOTHING_TO_CANCEL: Final[Json] = {"status": "NOT_FOUND"}
_PACES_IN_QUEUE: Final = 6
_MAX_PICTURES: Final = 4
_CANCELLED: Final = "Request was cancelled"
_SIZES: Final[dict[object, tuple[int, int]]] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the queue of an app; `names` are its pictures', and `asked_at` is in seconds of the caller's clock."""

    ident: str
    app: str
    order: Order
    names: tuple[str, ...]
    seed: int
    asked_at: float
    is_cancelled: bool = False


def read(body: Json) -> tuple[Order, int | None]:
    """What a request in the queue asks for, and its seed where it names one; raises BadRequest."""
    if body.get("prompt") is None:
        raise BadRequest("field required", "prompt", "missing")
    seed = body.get("seed")
    if seed is not None and type(seed) is not int:
        raise BadRequest("Input should be a valid integer", "seed", "int_type")
    image_url = body.get("image_url")
    if image_url is not None and not isinstance(image_url, str):
        raise BadRequest("Input should be a valid string", "image_url", "string_type")
    count = pictures_wanted(body, "num_images", _MAX_PICTURES)
    return order(body, count, _size(body), is_edit=image_url is not None), seed


def _size(body: Json) -> tuple[int, int]:
    """The size, from the name or the sides that are asked for, or else from the ratio."""
    asked, ratio = body.get("image_size"), body.get("aspect_ratio")
    if isinstance(asked, dict):
        width, height = asked.get("width"), asked.get("height")
        if type(width) is not int or type(height) is not int or width < 1 or height < 1:
            raise BadRequest("'width' and 'height' must be whole numbers of at least 1.", "image_size")
        return fitted(width, height)
    if isinstance(asked, str):
        if (size := _SIZES.get(asked) or size_of(asked)) is None:
            raise BadRequest(f"Input should be {', '.join(map(str, _SIZES))}, or a width and a height", "image_size", "enum")
        return size
    if asked is not None:
        raise BadRequest("Input should be a name, or a width and a height", "image_size")
    if (size := _SIZES["landscape_4_3"] if ratio is None else size_of(ratio)) is None:
        raise BadRequest("Input should be a ratio, such as 16:9", "aspect_ratio")
    return size


def accepted(job: Job, origin: str) -> Json:
    """What is said of a request when it has come into the queue of the provider at `origin`."""
    url = _response_url(job, origin)
    place = {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}
    return {"request_id": job.ident, "status": "IN_QUEUE", "queue_position": 0, **place}


def status(job: Job, origin: str, pace_s: float, now: float) -> tuple[int, Json]:
    """The status code and the body of a request's status."""
    stage = _stage(job, pace_s, now)
    said: Json = {"status": stage, "request_id": job.ident, "response_url": _response_url(job, origin), "logs": None}
    if stage != "COMPLETED":
        return 202, said | ({"queue_position": 0} if stage == "IN_QUEUE" else {})
    if job.is_cancelled:
        return 200, said | {"error": _CANCELLED, "metrics": {"inference_time": 0.0}}
    return 200, said | {"metrics": {"inference_time": round((PACES_TO_MAKE - _PACES_IN_QUEUE) * pace_s, 3)}}


def result(job: Job, urls: list[str], pace_s: float, now: float) -> tuple[int, Json]:
    """The status code and the body of a request's result: the pictures at `urls`, or why there are none."""
    if _stage(job, pace_s, now) != "COMPLETED":
        return 400, {"detail": "Request is still in progress"}
    if job.is_cancelled:
        return 400, {"detail": _CANCELLED}
    if job.order.fails:
        return 500, {"detail": FAILURE}
    images = [
        {
            "url": url,
            "width": sketch.width,
            "height": sketch.height,
            "content_type": "image/png",
            "file_name": url.rpartition("/")[2],
            "file_size": len(draw(sketch)),
        }
        for url, sketch in zip(urls, job.order.sketches, strict=True)
    ]
    said = {"seed": job.seed, "has_nsfw_concepts": [False] * len(images), "timings": {}, "prompt": job.order.prompt}
    return 200, {"images": images, **said}


def cancelled(job: Job, pace_s: float, now: float) -> tuple[Job, int, Json]:
    """The job after somebody asked to cancel it, with the status code and the body that tell whether it is."""
    if _stage(job, pace_s, now) == "COMPLETED":
        return job, 400, {"status": "ALREADY_COMPLETED"}
    return msgspec.structs.replace(job, is_cancelled=True), 202, {"status": "CANCELLATION_REQUESTED"}


def _stage(job: Job, pace_s: float, now: float) -> str:
    waited_s = now - job.asked_at
    if job.is_cancelled or waited_s >= PACES_TO_MAKE * pace_s:
        return "COMPLETED"
    return "IN_QUEUE" if waited_s < _PACES_IN_QUEUE * pace_s else "IN_PROGRESS"


def _response_url(job: Job, origin: str) -> str:
    return f"{origin}/queue/{job.app}/requests/{job.ident}"
