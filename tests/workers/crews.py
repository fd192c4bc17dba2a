"""Gateways of several workers, for tests: which worker has a caller, and which processes there are."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path
from typing import Any

from tests.harness import Answer, Client
from tests.processes import GatewayProcess
from tests.serving_place import Place
from tests.waiting import PATIENCE_S, until

WORKERS = "workers: 2\n"


def processes_of(running: GatewayProcess) -> list[int]:
    """The ids of the workers' processes that a gateway has now."""
    pid = running.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """True if the process is there, and not only its last trace."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def worker_of(answer: Answer) -> str:
    """The worker that has served a request: the beginning of the ids that it makes."""
    return answer.headers["x-request-id"].partition("-")[0]


async def asked(client: Client, **more: Any) -> Answer:
    """The answer to one chat request."""
    client.ask(**more)
    return await client.answer()


async def caller_of_each(place: Place, count: int = 2) -> dict[str, Client]:
    """A caller of each worker, by worker; the system decides which one gets a new connection."""
    found: dict[str, Client] = {}
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            client = await place.client()
            found.setdefault(worker_of(await asked(client)), client)
    return found


def metrics(place: Place) -> dict[str, float]:
    """The samples of a scrape."""
    with urllib.request.urlopen(f"http://127.0.0.1:{place.admin}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (one.rpartition(" ") for one in lines if not one.startswith("#"))}


async def scraped(place: Place) -> dict[str, float]:
    """The samples of a scrape, while the loop serves."""
    return await asyncio.to_thread(metrics, place)


async def get(place: Place, path: str, *, method: str = "GET", token: str = "") -> tuple[int, bytes]:
    """The status and the body of an answer of the admin listener."""

    def ask() -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{place.admin}{path}", method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(ask)


async def until_serving(running: GatewayProcess, count: int, *, without: int = 0) -> None:
    """Wait until a gateway has so many workers' processes, and not the one that has ended."""
    await until(lambda: len(processes_of(running)) == count and without not in processes_of(running))
