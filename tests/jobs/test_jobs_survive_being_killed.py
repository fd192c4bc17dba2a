"""The gateway is killed with jobs in every state, twenty times on one database. Each time the ledger adds up, and nothing is
charged twice or without being delivered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from tests.accounts_harness import TOKEN
from tests.jobs.image_gateway import FAL, OPENAI, PATH, PRICE, URL, configuration
from tests.processes import free_port, serving
from tests.waiting import until

ROUNDS = 20
TIERS = (
    "tiers: [{tier: 0, min_purchased: 0, rpm: 9000, per_model_rpm: 9000, tpm: 9000000, max_request_tokens: 1000, "
    "image_concurrent: 4, image_queue: 9}]\n"
)


class ImageProvider:
    """A provider of both kinds, which does with a job what its prompt says: `hang`, `make`, or `wait` until `is_open`."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.jobs: dict[str, str] = {}
        self.is_open = False
        self.when_fetched: Callable[[], None] = lambda: None

    async def make(self, request: web.Request) -> web.Response:
        """POST /images/generations"""
        prompt = (await request.json())["prompt"]
        self.asked[prompt] += 1
        if prompt.startswith("hang"):
            await asyncio.Event().wait()
        return web.json_response({"created": 1, "data": [{"url": URL}]})

    async def take(self, request: web.Request) -> web.Response:
        """POST /owner/app/v1"""
        prompt = (await request.json())["prompt"]
        self.asked[prompt] += 1
        self.jobs[name := f"r-{len(self.jobs)}"] = prompt
        return web.json_response({"request_id": name})

    async def queue_status(self, request: web.Request) -> web.Response:
        """GET …/status"""
        prompt = self.jobs[request.match_info["name"]]
        is_done = self.is_open or not prompt.startswith("wait")
        return web.json_response({"status": "COMPLETED" if is_done else "IN_PROGRESS"})

    async def fetch(self, request: web.Request) -> web.Response:
        """GET …/requests/{name}"""
        if self.jobs[request.match_info["name"]].startswith("fetch"):
            asyncio.get_running_loop().call_soon(self.when_fetched)
        return web.json_response({"images": [{"url": URL}]})

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[ImageProvider]:
        """A provider that listens on a port of the kernel's choice."""
        provider = cls()
        app = web.Application()
        app.router.add_post("/base/images/generations", provider.make)
        app.router.add_post("/base/owner/app/v1", provider.take)
        app.router.add_get("/base/owner/app/requests/{name}/status", provider.queue_status)
        app.router.add_get("/base/owner/app/requests/{name}", provider.fetch)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.port = runner.addresses[0][1]
        try:
            yield provider
        finally:
            await runner.cleanup()


class Round:
    """The jobs of one round, by their state when the gateway was killed, and their account."""

    def __init__(self, session: ClientSession, base: str, account: Any) -> None:
        self._session = session
        self._base = base
        self._headers = {"Authorization": f"Bearer {account['api_key']}"}
        self.account = account["id"]
        self.jobs: dict[str, str] = {}

    async def ask(self, method: str, path: str, document: Any = None, **headers: str) -> Any:
        async with self._session.request(
            method, f"{self._base}{path}", json=document, headers={**self._headers, **headers}
        ) as answer:
            return json.loads(await answer.read())

    async def submit(self, state: str, model: str, prompt: str) -> None:
        self.jobs[state] = (await self.ask("POST", PATH, {"model": model, "prompt": prompt}))["id"]

    async def statuses(self) -> dict[str, str]:
        """The status of each job, from the list: reading one job would deliver its images."""
        listed = {one["id"]: one["status"] for one in (await self.ask("GET", "/v1/jobs?limit=50"))["data"]}
        return {state: listed[ident] for state, ident in self.jobs.items()}


async def with_jobs_in_every_state(this: Round, provider: ImageProvider, number: int) -> None:
    """Start a job for every state in which a gateway can be killed."""
    await this.submit("delivered", "quick", "make")
    await this.ask("GET", f"/v1/jobs/{this.jobs['delivered']}", Prefer="wait=20")
    await this.submit("made at once, not fetched", "quick", "make")
    await this.submit("accepted", "slow", f"wait {number}")
    await this.submit("asked", "quick", f"hang {number}")
    await until(lambda: provider.asked[f"hang {number}"] == 1 and provider.asked[f"wait {number}"] == 1)
    async with asyncio.timeout(20):
        while (await this.statuses())["made at once, not fetched"] != "succeeded":
            pass
    await this.submit("being fetched", "slow", f"fetch {number}")
    for at in range(2):
        await this.submit(f"in the way {at}", "quick", f"hang {number} too")
    await this.submit("queued", "quick", "make")


EXPECTED = {
    "delivered": "succeeded", "made at once, not fetched": "refunded", "accepted": "succeeded", "asked": "refunded",
    "being fetched": "succeeded", "in the way 0": "refunded", "in the way 1": "refunded", "queued": "refunded",
}  # fmt: skip
"""The status that each job must have after the restart."""


def ledger(database: Path, account: str) -> Counter[tuple[str, int]]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return Counter(connection.execute("SELECT kind, amount FROM entries WHERE account = ?", (account,)))


@pytest.mark.timeout(300)
async def test_the_ledger_adds_up_after_a_kill_with_jobs_in_every_state(tmp_path: Path) -> None:
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    base, price = f"http://{listen}", round(PRICE * 1e9)
    before: Round | None = None
    async with ImageProvider.open() as provider, ClientSession() as session:
        accounts = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/kyma.db'}}\n"
        text = configuration((OPENAI, provider.port), (FAL, provider.port), accounts=accounts, more=TIERS)
        text = text.replace(
            f"admin: {{token: {TOKEN}}}", f"listen: '{listen}'\nadmin: {{listen: '{admin}', token: {TOKEN}}}\naccess_log: null"
        )
        one = "output_modalities: [image], price: {image: 0.05}, pool: [{provider: %s, model: owner/app/v1}]"
        text = text.replace("models:\n", f"models:\n  - {{id: quick, {one % 'p0'}}}\n  - {{id: slow, {one % 'p1'}}}\n")
        for number in range(ROUNDS + 1):
            async with contextlib.AsyncExitStack() as stack:
                block = serving(text, tmp_path, base, "--check-accounts")
                provider.is_open = True  # for the jobs of the round before
                running = await asyncio.to_thread(block.__enter__)
                stack.callback(block.__exit__, None, None, None)
                if before is not None:
                    earlier = before
                    status: dict[str, Any] = {}
                    async with asyncio.timeout(20):
                        while status != EXPECTED:
                            status = await earlier.statuses()
                            await asyncio.sleep(0.02)
                    assert ledger(tmp_path / "kyma.db", earlier.account) == Counter({
                        ("grant", 10**9): 1, ("adjustment", -price): 8, ("refund", price): 8 + 1,  # one for lost pictures
                        ("usage", -price): 3 + 1,
                    })  # fmt: skip
                    money = await earlier.ask("GET", "/v1/credits/balance")
                    assert (money["balance"], money["held"]) == (1 - 3 * PRICE, 0)
                if number == ROUNDS:
                    break
                async with session.post(
                    f"http://{admin}/admin/accounts", json={"email": f"{number}@example.com", "grant": 1},
                    headers={"Authorization": f"Bearer {TOKEN}"},
                ) as answer:  # fmt: skip
                    before = Round(session, base, await answer.json())
                provider.is_open = False
                provider.when_fetched = running.process.kill
                await with_jobs_in_every_state(before, provider, number)
                process = running.process
                await until(lambda: process.poll() is not None)  # noqa: B023  (awaited at once)
