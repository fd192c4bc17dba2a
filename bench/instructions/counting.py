"""Runs a system under callgrind and counts what each kind of work takes it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.client import request_bytes
from bench.instructions.lockstep import Busy, Client, Provider, Watch
from bench.instructions.profile import Profile, per_unit, read
from bench.processes import Process, free_port
from bench.systems.contract import Deployment, System

EVENTS: Final = 1_000
STREAM: Final = f"stream-{EVENTS}-1ms"
PROMPT_BYTES: Final = 100_000
_ASKED: Final = {"short": 240, "event": EVENTS, "prompt": 24}
_IDLE_S, _SETTLE_S, _START_S = 2.0, 0.3, 120.0
_CALLGRIND: Final = ("valgrind", "--tool=callgrind", "--separate-threads=yes")


class Row(NamedTuple):
    """One way to use a system: with accounts or without, by an endpoint, in the provider's dialect or another one."""

    name: str
    system: System
    endpoint: str = "chat/completions"
    suffix: str = ""
    accounts: int = 0


class Count(NamedTuple):
    """Instructions: of the thread with the loop, and of all threads."""

    loop: Profile
    whole: Profile

    @classmethod
    def read(cls, files: Sequence[Path]) -> Count:
        """Read the profiles of these files, one a thread, the first thread's first. Raises OSError, ValueError."""
        return cls(read(files[:1]), read(files))


async def count(row: Row, loads: Sequence[str], bytecode: Path) -> dict[str, Count]:
    """Count the loads of a row: `short` requests, an `event` of a stream, and requests with a `prompt` of 100 KB.

    Raises Busy if the system does not do as it should, OSError or ValueError if callgrind does not.
    """
    with tempfile.TemporaryDirectory(prefix="bench-instructions-") as name:
        home = Path(name)
        home.chmod(0o755)  # noqa: ASYNC240  (at once)
        async with _running(row, home, bytecode) as (run, requests):
            await run.client.ask(requests["short"], 30)
            await run.client.ask(requests["prompt"], 3)
            await run.client.stream(requests["event"], EVENTS)
            await run.written()
            started = time.monotonic()
            await asyncio.sleep(_IDLE_S)
            idle, idle_s = await run.written(), time.monotonic() - started
            done = {}
            for load in loads:
                started = time.monotonic()
                if load == "event":
                    await run.client.stream(requests[load], EVENTS)
                else:
                    await run.client.ask(requests[load], _ASKED[load])
                await asyncio.sleep(_SETTLE_S)  # until what is written by and by is written
                done[load] = await run.written(), time.monotonic() - started
        nothing = Count.read(idle)
        return {
            load: _per_unit(Count.read(files), nothing, seconds / idle_s, _ASKED[load])
            for load, (files, seconds) in done.items()
        }


def _per_unit(done: Count, idle: Count, share_of_time: float, units: int) -> Count:
    """The count of one unit. What is done while idle is taken off by its own count: on a busy machine it is done less often."""
    ticks = idle.loop.ticks
    share = done.loop.ticks / ticks if ticks else share_of_time
    return Count(*(per_unit(some, nothing, share, units) for some, nothing in zip(done, idle, strict=True)))


class _Run:
    """A system that runs under callgrind, and a client of it."""

    def __init__(self, home: Path, pid: int, client: Client) -> None:
        self._home = home
        self._pid = pid
        self.client = client
        self._dumps = 0

    async def written(self) -> list[Path]:
        """Have the profile since the last time written; returns the files of the threads, the first one's first."""
        self._dumps += 1
        process = await asyncio.create_subprocess_exec(
            "vgdb", f"--pid={self._pid}", "dump", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        files = sorted(self._home.glob(f"counted.{self._dumps}-*"))
        if not files:
            raise ValueError(f"callgrind has written no profile: {errors.decode()[-300:]}")
        return files


@contextlib.asynccontextmanager
async def _running(row: Row, home: Path, bytecode: Path) -> AsyncIterator[tuple[_Run, dict[str, bytes]]]:
    watch = Watch()
    provider = Provider(watch)
    server = await asyncio.start_server(provider.connected, "127.0.0.1", 0, limit=2**26)
    port = free_port()
    models = tuple(f"{model}{row.suffix}" for model in ("short", STREAM))
    deployment = Deployment(
        provider_port=server.sockets[0].getsockname()[1], core=None, models=models, bytecode=bytecode, accounts=row.accounts
    )
    command = row.system.command()
    if command is None:
        raise Busy(f"{row.system.title} is not installed: {row.system.install_hint}")
    arguments = row.system.prepare(home, port, deployment)
    valgrind = [*_CALLGRIND, f"--callgrind-out-file={home}/counted", f"--log-file={home}/valgrind.log"]
    environment = dict(row.system.environment(deployment)) | {"PYTHONHASHSEED": "0"}
    headers = row.system.headers(deployment)
    process = Process([*valgrind, *command, *arguments], home / "output", None, environment)
    client = None
    try:
        client = await _connected(process, port, provider, watch)
        watch.pid = process.pid

        def made(model: str, *, stream: bool = False, prompt_bytes: int = 64) -> bytes:
            return request_bytes(port, model, stream=stream, prompt_bytes=prompt_bytes, headers=headers, endpoint=row.endpoint)

        requests = {
            "short": made(models[0]), "prompt": made(models[0], prompt_bytes=PROMPT_BYTES),
            "event": made(models[1], stream=True),
        }  # fmt: skip
        await asyncio.sleep(1.0)  # until its warm connections are open
        yield _Run(home, process.pid, client), requests
    finally:
        if client is not None:
            client.close()
        process.stop()
        server.close()


async def _connected(process: Process, port: int, provider: Provider, watch: Watch) -> Client:
    deadline = time.monotonic() + _START_S
    while True:
        if not process.is_alive():
            raise Busy(f"it has ended: {process.output_tail()}")
        try:
            return Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**26), provider, watch)
        except OSError:
            if time.monotonic() > deadline:
                raise Busy(f"it does not listen: {process.output_tail()}") from None
        await asyncio.sleep(0.1)


def missing_program() -> str | None:
    """The program that is needed and is not installed; None if all are."""
    return next((name for name in ("valgrind", "vgdb") if shutil.which(name) is None), None)
