"""A provider of images, of either kind, that counts what it draws, and goes on only if a test lets it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.jobs.image_gateway import URL


class Stage(enum.Enum):
    """How far an order is."""

    WAITS = "waits"  # in the provider's queue
    DRAWS = "draws"
    DRAWN = "drawn"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class Order:
    """One request for `n` images. `over` is set once it is drawn, failed or withdrawn."""

    def __init__(self, n: int, stage: Stage) -> None:
        self.n = n
        self.stage = stage
        self.over = asyncio.Event()

    def goes_on(self, stage: Stage) -> None:
        """Go on to a stage, unless the order is over."""
        if not self.over.is_set():
            self.stage = stage
            if stage not in (Stage.WAITS, Stage.DRAWS):
                self.over.set()


class DrawingProvider:
    """Answers at once by `/images/generations`, and has a queue like fal.ai's. `orders` are in the order of their arrival.

    `confirms`: its queue says so if it has taken a job back; otherwise it answers as if the job might have begun.
    `takes_orders`: an event without which no submission to the queue is answered.
    """

    def __init__(self) -> None:
        self.port = 0
        self.orders: list[Order] = []
        self.confirms = True
        self.cancellations = 0
        self.takes_orders = asyncio.Event()
        self.takes_orders.set()

    @property
    def drawn(self) -> int:
        """The number of images that were drawn."""
        return sum(order.n for order in self.orders if order.stage is Stage.DRAWN)

    async def _draw(self, request: web.Request) -> web.Response:
        order = Order((await request.json()).get("n", 1), Stage.DRAWS)
        self.orders.append(order)
        await order.over.wait()
        if order.stage is Stage.FAILED:
            return web.json_response({"error": {"message": "no"}}, status=500)
        return web.json_response({"created": 1, "data": [{"url": URL}] * order.n})

    async def _take(self, request: web.Request) -> web.Response:
        self.orders.append(Order((await request.json()).get("num_images", 1), Stage.WAITS))
        name = str(len(self.orders) - 1)
        await self.takes_orders.wait()
        return web.json_response({"request_id": name})

    def _order(self, request: web.Request) -> Order:
        return self.orders[int(request.match_info["name"])]

    async def _status(self, request: web.Request) -> web.Response:
        order = self._order(request)
        if order.over.is_set():
            return web.json_response({"status": "COMPLETED"})
        return web.json_response({"status": "IN_QUEUE" if order.stage is Stage.WAITS else "IN_PROGRESS"}, status=202)

    async def _fetch(self, request: web.Request) -> web.Response:
        order = self._order(request)
        if order.stage is Stage.WITHDRAWN:
            return web.json_response({"detail": "cancelled", "error_type": "client_cancelled"}, status=499)
        if order.stage is not Stage.DRAWN:
            return web.json_response({"detail": "no"}, status=500)
        return web.json_response({"images": [{"url": URL}] * order.n})

    async def _cancel(self, request: web.Request) -> web.Response:
        order = self._order(request)
        self.cancellations += 1
        if order.over.is_set():
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        if order.stage is Stage.WAITS:
            order.goes_on(Stage.WITHDRAWN)
            if self.confirms:
                return web.json_response({"status": "OK"})
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[Any]:
        """A provider that listens on a port of the kernel's choice."""
        provider = cls()
        app = web.Application()
        queue = "/base/owner/app"
        app.router.add_post("/base/images/generations", provider._draw)
        app.router.add_post(f"{queue}/v1", provider._take)
        app.router.add_get(f"{queue}/requests/{{name}}/status", provider._status)
        app.router.add_get(f"{queue}/requests/{{name}}", provider._fetch)
        app.router.add_put(f"{queue}/requests/{{name}}/cancel", provider._cancel)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.port = runner.addresses[0][1]
        try:
            yield provider
        finally:
            await runner.cleanup()
