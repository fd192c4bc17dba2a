"""A gateway in this process in front of scripted providers of images, of either kind, and callers with accounts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kyma_proxy.jobs.timing import Timing
from tests.accounts_harness import TOKEN, AccountsGateway, Caller
from tests.harness import Answer, Provider, gateway, providers, whole
from tests.waiting import until

HASTY = Timing(
    expires=30.0, grace=30.0, first_look=0.002, last_look=0.01, most_looks_per_s=100_000.0, call=5.0, contact=0.2,
    rounds=(0.002, 0.004), again=0.005,
)  # fmt: skip
"""Short waits; nothing expires."""

PRICE = 0.05
URL = "https://pictures.example/1.png"
PATH = "/v1/images/generations"
OPENAI, FAL = "openai_images", "fal_queue"


def made(*urls: str) -> bytes:
    """An answer of OpenAI's images API."""
    return whole(json.dumps({"created": 1, "data": [{"url": url} for url in urls or (URL,)]}).encode())


def taken(name: str = "r-1") -> bytes:
    """fal's answer to a submission."""
    elsewhere = "https://elsewhere.example/never-followed"
    return whole(json.dumps({"request_id": name, "status_url": elsewhere, "response_url": elsewhere}).encode())


def look(status: str) -> bytes:
    """fal's answer to a look."""
    return whole(json.dumps({"status": status}).encode(), status="200 OK" if status == "COMPLETED" else "202 Accepted")


def fetched(*urls: str) -> bytes:
    """What fal's queue made."""
    images = [{"url": url, "width": 1, "height": 1, "content_type": "image/png"} for url in urls or (URL,)]
    return whole(json.dumps({"images": images, "seed": 1, "has_nsfw_concepts": [False]}).encode())


def refused(status: str, document: object = None) -> bytes:
    """An error."""
    return whole(json.dumps(document or {"error": {"message": "no"}}).encode(), status=status)


def by_queue(*urls: str) -> tuple[bytes, ...]:
    """All that fal says to a job that goes well; each is the answer to one request."""
    return taken(), look("IN_QUEUE"), look("IN_PROGRESS"), look("COMPLETED"), fetched(*urls)


def configuration(*sources: tuple[str, int], accounts: str = "", more: str = "", model: str = "", reserve: str = "[]") -> str:
    """A model `pic` whose pool has these sources, tried in this order, a model `edit`, and a text model."""
    written = "".join(
        f"  - {{name: p{at}, base_url: 'http://127.0.0.1:{port}/base', dialect: {dialect}, api_key: provider-key-{at}}}\n"
        for at, (dialect, port) in enumerate(sources)
    )
    pool = ", ".join(f"{{provider: p{at}, model: owner/app/v1, weight: {0 if at else 1}}}" for at in range(len(sources)))
    text = f"  - {{name: text, base_url: 'http://127.0.0.1:{sources[0][1]}/v1', dialect: openai}}\n"
    return (
        f"{accounts}admin: {{token: {TOKEN}}}\ndefaults: {{timeouts: {{connect: 2s, first_byte: 10s, idle: 10s}}}}\n"
        f"providers:\n{written}{text}models:\n"
        f"  - {{id: pic, output_modalities: [image], price: {{image: {PRICE}}}, pool: [{pool}], reserve: {reserve}, "
        f"image: {{sizes: [1024x1024, 512x512], extra: [seed]}}{model}}}\n"
        f"  - {{id: edit, input_modalities: [text, image], output_modalities: [image], price: {{image: {PRICE}}}, "
        f"pool: [{pool}], image: {{needs_image: true}}}}\n"
        f"  - {{id: m, price: {{input: 1, output: 2}}, pool: [{{provider: text, model: real}}]}}\n"
        f"aliases: {{picture: pic}}\n{more}"
    )


class Studio:
    """A gateway with image models, and callers."""

    def __init__(self, till: AccountsGateway) -> None:
        self.till = till
        self.running = till.running

    @property
    def scheduler(self) -> Any:
        """The jobs of this gateway."""
        return self.running.app.jobs.scheduler

    async def anybody(self) -> Caller:
        """A caller where nobody is asked for a key."""
        return Caller(await self.running.client(), "", "")

    async def caller(self, email: str = "a@example.com", *, usd: float = 1.0) -> Caller:
        """Somebody new, with so many dollars."""
        return await self.till.caller(email, nano=round(usd * 1e9))

    async def ledger(self, caller: Caller) -> list[tuple[str, float]]:
        """The lines of a caller's ledger but for the first grant, oldest first."""
        entries = (await caller.ask("GET", "/v1/credits/transactions?limit=100")).json["data"]
        return [(one["kind"], one["amount"]) for one in reversed(entries)][1:]

    async def is_at_rest(self) -> None:
        """Wait until no job is under way."""
        await until(lambda: len(self.scheduler) == 0)


async def order(caller: Caller, *, headers: str = "", **members: Any) -> Answer:
    """Ask for a picture."""
    return await caller.ask("POST", PATH, {"model": "pic", "prompt": "a cat", **members}, headers=headers)


async def ended(caller: Caller, job: Any) -> Any:
    """A job's document once it has ended."""
    answer = await caller.ask("GET", f"/v1/jobs/{job['id']}", headers="prefer: wait=20\r\n")
    assert answer.status == 200
    return answer.json


async def bought(caller: Caller, **members: Any) -> Any:
    """Ask for a picture, and wait for the job's end; its document."""
    answer = await order(caller, **members)
    assert answer.status == 202, answer.body
    return await ended(caller, answer.json)


@contextlib.asynccontextmanager
async def studio(
    directory: Path, *dialects: str, has_accounts: bool = True, timing: Timing = HASTY, **how: Any
) -> AsyncIterator[tuple[Any, ...]]:
    """A gateway in front of scripted providers that speak these dialects: (studio, provider, …)."""
    async with providers(len(dialects)) as scripted:
        accounts = f"accounts: {{required: true, database: 'sqlite:{directory}/kyma.db'}}\n" if has_accounts else ""
        sources = [(dialect, provider.port) for dialect, provider in zip(dialects, scripted, strict=True)]
        async with gateway(configuration(*sources, accounts=accounts, **how), directory, timing=timing) as running:
            yield Studio(AccountsGateway(running)), *scripted


def plays(provider: Provider, *answers: bytes) -> None:
    """Play one answer a request."""
    for answer in answers:
        provider.plays(answer)
