"""An image provider in which each image takes SECONDS, with two APIs: fal.ai's queue and OpenAI's images.

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
    """Returns the provider. A job, or an answer, takes `seconds`."""
    started: dict[str, float] = {}
    numbers = itertools.count()

    async def submit(request: web.Request) -> web.Response:
        await request.read()
        name = f"r-{next(numbers)}"
        started[name] = time.monotonic()
        return web.json_response({"request_id": name})

    async def status(request: web.Request) -> web.Response:
        is_done = time.monotonic() - started[request.match_info["name"]] >= seconds
        return web.json_response({"status": "COMPLETED" if is_done else "IN_PROGRESS"})

    async def result(request: web.Request) -> web.Response:
        return web.json_response({"images": [{"url": _URL}]})

    async def cancel(request: web.Request) -> web.Response:
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    async def generate(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(seconds)
        return web.json_response({"created": 1, "data": [{"url": _URL}]})

    app = web.Application()
    app.router.add_post("/owner/app/v1", submit)
    app.router.add_get("/owner/app/requests/{name}/status", status)
    app.router.add_get("/owner/app/requests/{name}", result)
    app.router.add_put("/owner/app/requests/{name}/cancel", cancel)
    app.router.add_post("/images/generations", generate)
    return app


async def _serve(port: int, seconds: float) -> None:
    runner = web.AppRunner(application(seconds), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
