"""This file is the simulated provider's picture side: it takes orders, lets them wait, and gives the pictures out.

What is asked is decided in `images` and `fal`. Here are the clock, chance, and what is kept for a later request: the
queue's requests, and of each picture a sketch from which it is drawn when somebody looks at it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple

from aiohttp import web

from kyma_proxy.simulated import fal, images
from kyma_proxy.simulated.kept import Kept
from kyma_proxy.simulated.orders import PACES_TO_MAKE
from kyma_proxy.simulated.picture import Sketch, draw
from kyma_proxy.simulated.shapes import answered, read_object

_MAX_REQUESTS: Final = 1_000
_MAX_PICTURES: Final = 4 * _MAX_REQUESTS
_KEPT_S: Final = 600
_APP: Final = "/queue/{owner:[A-Za-z0-9_.~-]+}/{app:[A-Za-z0-9_.~-]+}"
_REQUEST: Final = _APP + "/requests/{ident:[A-Za-z0-9-]+}"


class Clock(NamedTuple):
    """The time, in seconds since any moment, and how to let some of it pass."""

    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep


REAL: Final = Clock()


class Studio:
    """Makes pictures, each in `PACES_TO_MAKE` times `pace_s`."""

    def __init__(self, pace_s: float, clock: Clock) -> None:
        self._pace_s = pace_s
        self._clock = clock
        self._jobs: Kept[fal.Job] = Kept(_MAX_REQUESTS, _KEPT_S)
        self._pictures: Kept[Sketch] = Kept(_MAX_PICTURES, _KEPT_S)

    def open(self, router: web.UrlDispatcher) -> None:
        """Adds what it serves to the provider's routes."""
        router.add_post("/v1/images/generations", self._generate)
        router.add_post("/v1/images/edits", self._edit)
        router.add_get("/pictures/{name:[A-Za-z0-9_-]+}.png", self._show)
        router.add_get(f"{_REQUEST}/status", self._status)
        router.add_get(_REQUEST, self._result)
        router.add_put(f"{_REQUEST}/cancel", self._cancel)
        router.add_post(_APP, self._submit)
        router.add_post(_APP + "/{more:.+}", self._submit)

    async def _generate(self, request: web.Request) -> web.Response:
        return await self._answer(request, images.read_generation(await read_object(request)))

    async def _edit(self, request: web.Request) -> web.Response:
        return await self._answer(request, images.read_edit(await read_object(request)))

    async def _answer(self, request: web.Request, asked: images.ImagesRequest) -> web.Response:
        if self._pace_s:
            await self._clock.wait(PACES_TO_MAKE * self._pace_s)
        created = int(time.time())
        if asked.order.fails:
            return answered(500, images.FAILED, request)
        if asked.is_inline:
            return answered(200, images.inline(asked.order, created), request)
        names = self._hang(asked.order.sketches)
        return answered(200, images.by_address(_addresses(request, names), created), request)

    async def _submit(self, request: web.Request) -> web.Response:
        order, seed = fal.read(await read_object(request))
        job = fal.Job(
            ident=str(uuid.uuid4()),
            app=_app(request),
            order=order,
            names=() if order.fails else self._hang(order.sketches),
            seed=secrets.randbits(32) if seed is None else seed,
            asked_at=self._clock.now(),
        )
        self._jobs.put(job.ident, job, job.asked_at)
        return answered(200, fal.accepted(job, _origin(request)), request)

    async def _status(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return answered(404, fal.NOT_FOUND, request)
        return answered(*fal.status(job, _origin(request), self._pace_s, self._clock.now()), request)

    async def _result(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return answered(404, fal.NOT_FOUND, request)
        return answered(*fal.result(job, _addresses(request, job.names), self._pace_s, self._clock.now()), request)

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return answered(404, fal.NOTHING_TO_CANCEL, request)
        now = self._clock.now()
        job, status, said = fal.cancelled(job, self._pace_s, now)
        self._jobs.put(job.ident, job, now)
        return answered(status, said, request)

    async def _show(self, request: web.Request) -> web.Response:
        sketch = self._pictures.get(request.match_info["name"], self._clock.now())
        if sketch is None:
            raise web.HTTPNotFound
        headers = {"cache-control": f"public, max-age={_KEPT_S}, immutable"}
        return web.Response(body=draw(sketch), content_type="image/png", headers=headers)

    def _job(self, request: web.Request) -> fal.Job | None:
        """The request that is asked after, if it is known and in this app's queue."""
        job = self._jobs.get(request.match_info["ident"], self._clock.now())
        return job if job is not None and job.app == _app(request) else None

    def _hang(self, sketches: Iterable[Sketch]) -> tuple[str, ...]:
        """Keeps the pictures to be looked at, under names that nobody can guess."""
        named = {secrets.token_urlsafe(16): sketch for sketch in sketches}
        for name, sketch in named.items():
            self._pictures.put(name, sketch, self._clock.now())
        return tuple(named)


def _addresses(request: web.Request, names: Iterable[str]) -> list[str]:
    return [f"{_origin(request)}/pictures/{name}.png" for name in names]


def _origin(request: web.Request) -> str:
    """This provider's own address, as the client called it."""
    return f"{request.scheme}://{request.host}"


def _app(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['app']}"
