"""Serves the image endpoints of the simulated provider: OpenAI's images, fal.ai's queue, and the images themselves.

The protocols are in `openai_images` and `fal_queue`. Here are the clock, the random numbers and the state: the queued
requests, and a sketch of each image, which is drawn whenever a client fetches it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple

from aiohttp import web

from kyma_proxy.simulated import fal_queue, openai_images
from kyma_proxy.simulated.http_json import json_response, read_json_object
from kyma_proxy.simulated.image_drawing import Sketch, draw
from kyma_proxy.simulated.image_orders import GENERATION_PACES
from kyma_proxy.simulated.ttl_cache import TTLCache

_MAX_QUEUED: Final = 1_000
_MAX_IMAGES: Final = 4 * _MAX_QUEUED
_TTL_S: Final = 600
_APP_PATH: Final = "/queue/{owner:[A-Za-z0-9_.~-]+}/{app:[A-Za-z0-9_.~-]+}"
_REQUEST_PATH: Final = _APP_PATH + "/requests/{ident:[A-Za-z0-9-]+}"


class Clock(NamedTuple):
    """The time, in seconds since any moment, and a way to wait."""

    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep


REAL_CLOCK: Final = Clock()


class ImageService:
    """Generates images. A request takes `GENERATION_PACES` times `pace_s`."""

    def __init__(self, pace_s: float, clock: Clock) -> None:
        self._pace_s = pace_s
        self._clock = clock
        self._queue: TTLCache[fal_queue.QueuedRequest] = TTLCache(_MAX_QUEUED, _TTL_S)
        self._sketches: TTLCache[Sketch] = TTLCache(_MAX_IMAGES, _TTL_S)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Adds the image endpoints to the provider's routes."""
        router.add_post("/v1/images/generations", self._generate)
        router.add_post("/v1/images/edits", self._edit)
        router.add_get("/pictures/{name:[A-Za-z0-9_-]+}.png", self._serve_image)
        router.add_get(f"{_REQUEST_PATH}/status", self._status)
        router.add_get(_REQUEST_PATH, self._result)
        router.add_put(f"{_REQUEST_PATH}/cancel", self._cancel)
        router.add_post(_APP_PATH, self._submit)
        router.add_post(_APP_PATH + "/{more:.+}", self._submit)

    async def _generate(self, request: web.Request) -> web.Response:
        return await self._respond(request, openai_images.read_generation(await read_json_object(request)))

    async def _edit(self, request: web.Request) -> web.Response:
        return await self._respond(request, openai_images.read_edit(await read_json_object(request)))

    async def _respond(self, request: web.Request, wanted: openai_images.ImagesRequest) -> web.Response:
        if self._pace_s:
            await self._clock.wait(GENERATION_PACES * self._pace_s)
        created = int(time.time())
        if wanted.order.fails:
            return json_response(500, openai_images.FAILURE, request)
        if wanted.is_inline:
            return json_response(200, openai_images.inline_response(wanted.order, created), request)
        names = self._store(wanted.order.sketches)
        return json_response(200, openai_images.url_response(_image_urls(request, names), created), request)

    async def _submit(self, request: web.Request) -> web.Response:
        order, seed = fal_queue.read_order(await read_json_object(request))
        queued = fal_queue.QueuedRequest(
            ident=str(uuid.uuid4()),
            app=_app(request),
            order=order,
            image_names=() if order.fails else self._store(order.sketches),
            seed=secrets.randbits(32) if seed is None else seed,
            submitted_at=self._clock.now(),
        )
        self._queue.put(queued.ident, queued, queued.submitted_at)
        return json_response(200, fal_queue.submit_response(queued, _origin(request)), request)

    async def _status(self, request: web.Request) -> web.Response:
        queued = self._find(request)
        if queued is None:
            return json_response(404, fal_queue.NOT_FOUND, request)
        return json_response(*fal_queue.status_response(queued, _origin(request), self._pace_s, self._clock.now()), request)

    async def _result(self, request: web.Request) -> web.Response:
        queued = self._find(request)
        if queued is None:
            return json_response(404, fal_queue.NOT_FOUND, request)
        urls = _image_urls(request, queued.image_names)
        return json_response(*fal_queue.result_response(queued, urls, self._pace_s, self._clock.now()), request)

    async def _cancel(self, request: web.Request) -> web.Response:
        queued = self._find(request)
        if queued is None:
            return json_response(404, fal_queue.NOTHING_TO_CANCEL, request)
        now = self._clock.now()
        queued, status, body = fal_queue.cancel(queued, self._pace_s, now)
        self._queue.put(queued.ident, queued, now)
        return json_response(status, body, request)

    async def _serve_image(self, request: web.Request) -> web.Response:
        sketch = self._sketches.get(request.match_info["name"], self._clock.now())
        if sketch is None:
            raise web.HTTPNotFound
        headers = {"cache-control": f"public, max-age={_TTL_S}, immutable"}
        return web.Response(body=draw(sketch), content_type="image/png", headers=headers)

    def _find(self, request: web.Request) -> fal_queue.QueuedRequest | None:
        """Returns the queued request that the path names, if it is in the queue of the app that the path names."""
        queued = self._queue.get(request.match_info["ident"], self._clock.now())
        return queued if queued is not None and queued.app == _app(request) else None

    def _store(self, sketches: Iterable[Sketch]) -> tuple[str, ...]:
        """Keeps the sketches, so that clients can fetch the images. Returns their names, which are unguessable."""
        by_name = {secrets.token_urlsafe(16): sketch for sketch in sketches}
        for name, sketch in by_name.items():
            self._sketches.put(name, sketch, self._clock.now())
        return tuple(by_name)


def _image_urls(request: web.Request, names: Iterable[str]) -> list[str]:
    return [f"{_origin(request)}/pictures/{name}.png" for name in names]


def _origin(request: web.Request) -> str:
    """Returns this provider's address as the client wrote it."""
    return f"{request.scheme}://{request.host}"


def _app(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['app']}"
