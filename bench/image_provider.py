"""A provider of images, each of which takes SECONDS: in fal.ai's queue, or before it answers in OpenAI's words.

python -m bench.image_provider PORT SECONDS
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time

import uvloop
from aiohttp import web

_URL = "https://pictures.example/1.png"


def application(seconds: float) -> web.Application:
    """The provider: a job, or an answer, takes `seconds`."""
    began: dict[str, float] = {}
    numbers = itertools.count()

    async def take(request: web.Request) -> web.Response:
        await request.read()
        name = f"r-{next(numbers)}"
        began[name] = time.monotonic()
        return web.json_response({"request_id": name})

    async def look(request: web.Request) -> web.Response:
        is_done = time.monotonic() - began[request.match_info["name"]] >= seconds
        return web.json_response({"status": "COMPLETED" if is_done else "IN_PROGRESS"})

    async def fetch(request: web.Request) -> web.Response:
        return web.json_response({"images": [{"url": _URL}]})

    async def cancel(request: web.Request) -> web.Response:
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    async def make(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(seconds)
        return web.json_response({"created": 1, "data": [{"url": _URL}]})

    app = web.Application()
    app.router.add_post("/owner/app/v1", take)
    app.router.add_get("/owner/app/requests/{name}/status", look)
    app.router.add_get("/owner/app/requests/{name}", fetch)
    app.router.add_put("/owner/app/requests/{name}/cancel", cancel)
    app.router.add_post("/images/generations", make)
    return app


async def _serve(port: int, seconds: float) -> None:
    runner = web.AppRunner(application(seconds), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
