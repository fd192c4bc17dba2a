"""A real Chromium for tests, driven over its DevTools protocol, and a server of pages that it opens under any name."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.waiting import PATIENCE_S, until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The path of the browser; None where none is installed."""
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--remote-debugging-port=0",
)  # fmt: skip


class Tab:
    """One tab of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def open(self, url: str) -> None:
        """Show a page, and wait until it has been loaded."""
        await self._call("Page.enable")
        await self._call("Page.navigate", url=url)
        await self._until(lambda message: message.get("method") == "Page.loadEventFired")

    async def follow(self, script: str) -> None:
        """Do what leads to another page, and wait until that has been loaded."""
        await self._call("Page.enable")
        # The answer to the script and the page's events come in any order, so both are waited for at once.
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": "Runtime.evaluate", "params": {"expression": script}})
        awaited = {"answer", "page"}

        def is_over(message: dict[str, Any]) -> bool:
            if message.get("id") == number:
                awaited.discard("answer")
            if message.get("method") == "Page.loadEventFired":
                awaited.discard("page")
            return not awaited

        await self._until(is_over)

    async def resize(self, width: int, height: int) -> None:
        """Show pages in a window of this size."""
        await self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def forbid_scripts(self) -> None:
        """Run no script of a page from now on; `run` still works."""
        await self._call("Emulation.setScriptExecutionDisabled", value=True)

    async def picture(self) -> bytes:
        """What the tab shows, as PNG."""
        answer = await self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["result"]["data"])

    async def run(self, script: str) -> Any:
        """The value of an expression in the page, once its promise is kept."""
        answer = await self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer["result"], answer
        return answer["result"]["result"].get("value")

    async def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await self._until(lambda message: message.get("id") == number)

    async def _until(self, fits: Any) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not fits(message := await self._socket.receive_json()):
                pass
        return message


class Browser:
    """A browser that finds this machine under the name `evil.example`, too."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    @contextlib.asynccontextmanager
    async def tab(self, url: str) -> AsyncIterator[Tab]:
        """A new tab that shows this page."""
        async with self._session.put(f"{self._base}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        async with self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            tab = Tab(socket)
            await tab.open(url)
            yield tab


@contextlib.asynccontextmanager
async def browser(directory: Path) -> AsyncIterator[Browser]:
    """A browser without any history."""
    profile = directory / "profile"
    process = await asyncio.create_subprocess_exec(
        str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", "--host-resolver-rules=MAP evil.example 127.0.0.1", "about:blank",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(directory)}, start_new_session=True,
    )  # fmt: skip
    port = profile / "DevToolsActivePort"
    try:
        await until(lambda: process.returncode is not None or (port.exists() and port.read_text().count("\n")))
        assert process.returncode is None, "the browser has not started"
        async with aiohttp.ClientSession() as session:
            yield Browser(session, f"http://127.0.0.1:{port.read_text().splitlines()[0]}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def page_server() -> AsyncIterator[int]:
    """The port of a server that has an empty page at every path."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>A page</title><body></body>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/{path:.*}", page)
    async with TestServer(application, host="127.0.0.1") as server:
        yield server.port or 0
