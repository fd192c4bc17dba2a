"""Kills and restarts two providers at random under many streams, and checks every answer.

A request whose answer has not begun must not fail, as one of the two always lives; one whose answer has begun must not be
presented as complete. Each request ends in one of: complete; truncated with an error event.

    python -m tests.faults.soak [--minutes 10] [--streams 200] [--seed 1] [--hostile [--only KIND …]]
    python -m tests.faults.soak --connections 10000

With --hostile the trouble is hostile callers and answers, and good callers are measured beside them. (See `hostile_soak`.)
With --connections it is so many idle connections. (See `many_connections`.)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.configurations import ProviderEntry, configuration, listeners
from tests.faults import hostile_soak, many_connections
from tests.harness import Client
from tests.processes import ROOT, environment, free_port, serving

_PACE = "20ms"
_DOWN_S, _UP_S = (0.5, 4.0), (1.0, 5.0)


class Provider:
    """A simulated provider that can be killed and started again at the same port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["-m", "kyma_proxy.simulated.server", "--listen", f"127.0.0.1:{self._port}", "--pace", _PACE]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=ROOT, env=environment(), stdout=asyncio.subprocess.DEVNULL
        )
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                return
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it in the middle of everything."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def judge(port: int) -> str:
    """Request a stream; returns how it ended."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    client.ask("m", stream=True, messages=[{"role": "user", "content": "Tell me of the sea."}])
    got = b""
    try:
        head = await client.head()
        if head.status != 200:
            return f"failed with {head.status}"
        while piece := await client.chunk():
            got += piece
    except (asyncio.IncompleteReadError, ConnectionError):
        if not got:
            return "failed without a byte"
        return (
            "truncated, presented as complete"
            if b"[DONE]" in got
            else "truncated with an error event"
            if b'"error"' in got
            else "truncated without an error event"
        )
    finally:
        client.leave()
    layer = head.headers.get("x-kyma-fallback-layer", "0")
    return f"complete (layer {layer})" if got.rstrip().endswith(b"[DONE]") else "ended without its end"


async def soak(gateway: int, providers: list[Provider], chance: random.Random, minutes: float, streams: int) -> Counter[str]:
    """Run for some minutes; returns how often each ending occurred."""
    over = time.monotonic() + minutes * 60
    endings: Counter[str] = Counter()

    async def call() -> None:
        while time.monotonic() < over:
            endings[await judge(gateway)] += 1

    async def trouble() -> None:
        while time.monotonic() < over:
            victim = chance.choice(providers)
            await victim.kill()
            endings["(kills)"] += 1
            await asyncio.sleep(chance.uniform(*_DOWN_S))
            await victim.start()
            await asyncio.sleep(chance.uniform(*_UP_S))

    async def report() -> None:
        while time.monotonic() < over:
            await asyncio.sleep(min(15.0, max(0.0, over - time.monotonic())))
            print(
                f"{max(0.0, over - time.monotonic()):.0f} s left: {dict(sorted(endings.items()))}", file=sys.stderr, flush=True
            )

    await asyncio.gather(trouble(), report(), *(call() for _ in range(streams)))
    return endings


async def main() -> int:
    """Run the soak; returns 0 if every answer was complete, or truncated with an error event."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the order of the kills")
    parser.add_argument("--hostile", action="store_true", help="hostile callers and answers beside good ones, by turns")
    parser.add_argument("--only", nargs="+", choices=hostile_soak.KINDS, default=hostile_soak.KINDS, help="of the hostile ones")
    parser.add_argument("--connections", type=int, default=0, help="so many idle connections beside good callers, for a minute")
    options = parser.parse_args()
    if options.connections:
        return await many_connections.main(options.connections)
    if options.hostile:
        return await hostile_soak.main(options.minutes, options.only)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gateway, ports = free_port(), [free_port(), free_port()]
    providers = [Provider(port) for port in ports]
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "access.log"
        entries = (ProviderEntry(port, warm_connections=None, weight=1) for port in ports)
        text = configuration(*entries, defaults="", more=listeners(f"127.0.0.1:{gateway}", access_log=log))
        try:
            await asyncio.gather(*(provider.start() for provider in providers))
            with serving(text, Path(directory), f"http://127.0.0.1:{gateway}"):
                endings = await soak(gateway, providers, random.Random(options.seed), options.minutes, options.streams)
        finally:
            await asyncio.gather(*(provider.kill() for provider in providers))
        logged = Counter(json.loads(line)["ending"] for line in log.read_text().splitlines() if '"dialect":"openai"' in line)
    print(f"endings: {dict(sorted(endings.items()))}\nlogged: {dict(sorted(logged.items()))}")
    fine = all(what.startswith(("complete", "truncated with an error event", "(")) for what in endings)
    print("every answer was complete, or truncated with an error event" if fine else "SOME ANSWERS WERE NEITHER")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
