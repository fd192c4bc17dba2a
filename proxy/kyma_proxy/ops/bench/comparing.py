"""Runs a comparison: the requests by turns, directly and through a gateway of its own, as they are due and not as they end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, NamedTuple

import aiohttp

from kyma_proxy.config.snapshot import TcpAddress
from kyma_proxy.errors import StartError
from kyma_proxy.ops.bench.asking import Asked, Prompt, Way, ask
from kyma_proxy.ops.bench.bounds import Bounds
from kyma_proxy.ops.listening import open_sockets

_SEED: Final = 1
_START_S: Final = 20.0
_END_S: Final = 5.0
_REQUEST_S: Final = 600.0
_WARM_UP: Final = -1
_SET_PDEATHSIG: Final = 1  # the number of <sys/prctl.h>


@asynccontextmanager
async def gateway_in_front_of(url: str, key_variable: str | None, environment: Mapping[str, str]) -> AsyncIterator[str]:
    """The base URL of a gateway that passes everything on to this provider, in a process of its own. Raises StartError."""
    (listening,) = open_sockets("listen", TcpAddress("127.0.0.1", 0))
    port = listening.getsockname()[1]
    listening.close()
    command = [sys.executable, "-m", "kyma_proxy", "serve", "--provider", url, "--listen", f"127.0.0.1:{port}", "--no-admin"]
    command += ["--log", "off", *(() if key_variable is None else ("--api-key-env", key_variable))]
    inherited = {name: value for name, value in environment.items() if name != "KYMA_CONFIG"}
    process = await asyncio.create_subprocess_exec(
        *command, env=inherited, stdout=subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, preexec_fn=_die_with_parent
    )  # fmt: skip
    try:
        assert process.stderr is not None  # noqa: S101  (it is a pipe)
        base = f"http://127.0.0.1:{port}"
        problem = await _started(process.stderr, base)
        if problem is not None:
            raise StartError(f"the gateway did not start: {problem}")
        draining = asyncio.create_task(process.stderr.read())  # a full pipe would hold it up
        yield base
        draining.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _END_S)
            except TimeoutError:
                process.kill()
                await process.wait()


def _die_with_parent() -> None:
    """Have this process end with its parent, also where that is killed; not every system can do that."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM)


async def _started(errors: asyncio.StreamReader, base: str) -> str | None:
    """Wait until the gateway says that it serves; returns what it has said instead. Later lines are read and dropped."""
    last_line = b""
    try:
        async with asyncio.timeout(_START_S):
            while line := await errors.readline():
                last_line = line
                if base.encode() in line or b" serves " in line:
                    return None
    except TimeoutError:
        pass
    return last_line.decode(errors="replace").strip() or "it said nothing"


class Comparison:
    """The two ways to a model, by turns, within bounds. Use it as an asynchronous context manager, once."""

    _session: aiohttp.ClientSession

    def __init__(self, prompt: Prompt, bounds: Bounds, *, max_tokens: int, rate_per_s: float) -> None:
        self.asked: list[Asked] = []
        """What has ended so far, without the first request of each way."""
        self.bounds = bounds
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._rate_per_s = rate_per_s

    async def __aenter__(self) -> Comparison:
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=_REQUEST_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def try_once(self, way: Way) -> None:
        """Send a first request, which is not told. Raises StartError if it fails, as all others would."""
        taken = self._take(way)
        if taken is None:
            raise StartError("the bound leaves no request beside the first one of each way")
        first = await self._ask(PlannedRequest(way, _WARM_UP, monotonic(), taken))
        if first.failure is not None:
            raise StartError(f"the first request, {way.name}, failed: {first.failure}")

    async def run(self, ways: tuple[Way, Way], tell: Callable[[str], None]) -> None:
        """Ask until a bound is reached.

        A request goes out when it is due, however long others take: a slow answer must not hide that others would have waited.
        """
        chance = random.Random(_SEED)
        due, number = monotonic(), 0
        asking: list[asyncio.Task[None]] = []
        try:
            while True:
                way = ways[(number + number // 2) % 2]  # direct, gateway, gateway, direct: none is the first of each pair
                taken = self._take(way)
                if taken is None:
                    await asyncio.gather(*asking)
                    return
                due += chance.expovariate(self._rate_per_s)
                await asyncio.sleep(max(0.0, due - monotonic()))
                asking.append(asyncio.create_task(self._keep(PlannedRequest(way, number // 2, due, taken))))
                number += 1
                tell(f"{number} requests sent, {len(self.asked)} ended")
        finally:
            for task in asking:
                task.cancel()

    async def _keep(self, planned: PlannedRequest) -> None:
        self.asked.append(await self._ask(planned))

    def _take(self, way: Way) -> float | None:
        return self.bounds.take(len(self._prompt.body(way.model)), self._max_tokens)

    async def _ask(self, planned: PlannedRequest) -> Asked:
        asked = await ask(self._session, planned.way, self._prompt, planned.number, planned.due)
        self.bounds.settle(planned.taken, asked.prompt_tokens, asked.completion_tokens)
        return asked


class PlannedRequest(NamedTuple):
    """A request to send: by which way, in which pair, when, and what was taken for it."""

    way: Way
    number: int
    due: float
    taken: float
