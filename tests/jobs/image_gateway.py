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

FAST_TIMING = Timing(
    expires=30.0, grace=30.0, first_poll=0.002, max_poll_interval=0.01, max_polls_per_s=100_000.0, request=5.0, contact=0.2,
    rounds=(0.002, 0.004), next_poll=0.05, write_retry=0.005,
)  # fmt: skip
"""Short intervals; nothing expires."""

PRICE = 0.05
URL = "https://pictures.example/1.png"
PATH = "/v1/images/generations"
OPENAI, FAL = "openai_images", "fal_queue"


def images_answer(*urls: str) -> bytes:
    """An answer of OpenAI's images API."""
    return whole(json.dumps({"created": 1, "data": [{"url": url} for url in urls or (URL,)]}).encode())


def accepted(name: str = "r-1") -> bytes:
    """fal's answer to a submission."""
    elsewhere = "https://elsewhere.example/never-followed"
    return whole(json.dumps({"request_id": name, "status_url": elsewhere, "response_url": elsewhere}).encode())


def withdrawn() -> bytes:
    """fal's answer to the cancellation of a job that was still in the queue."""
    return whole(b'{"status":"OK"}')


def maybe_withdrawn() -> bytes:
    """fal's answer to the cancellation of a job that it may have begun."""
    return whole(b'{"status":"CANCELLATION_REQUESTED"}', status="202 Accepted")


def queue_status(status: str) -> bytes:
    """fal's answer to a poll."""
    return whole(json.dumps({"status": status}).encode(), status="200 OK" if status == "COMPLETED" else "202 Accepted")


def queue_result(*urls: str) -> bytes:
    """fal's answer to a request for the images of a job."""
    images = [{"url": url, "width": 1, "height": 1, "content_type": "image/png"} for url in urls or (URL,)]
    return whole(json.dumps({"images": images, "seed": 1, "has_nsfw_concepts": [False]}).encode())


def error_answer(status: str, document: object = None, *, more: str = "") -> bytes:
    """A provider's error."""
    return whole(json.dumps(document or {"error": {"message": "no"}}).encode(), status=status, more=more)


def queue_answers(*urls: str) -> tuple[bytes, ...]:
    """All answers of fal to a job that succeeds, one for each request."""
    return accepted(), queue_status("IN_QUEUE"), queue_status("IN_PROGRESS"), queue_status("COMPLETED"), queue_result(*urls)


def configuration(
    *sources: tuple[str, int], accounts: str = "", more: str = "", model: str = "", reserve: str = "[]", first: str = "",
    price: str = "", models: str = "",
) -> str:  # fmt: skip
    """A model `pic` whose pool has these sources, tried in this order, a model `edit`, and a text model.

    `first` is the section `image` of the first source, and `price` stands in the model's price beside that of an image.
    `models` are further entries.
    """
    written = "".join(
        f"  - {{name: p{at}, base_url: 'http://127.0.0.1:{port}/base', dialect: {dialect}, api_key: provider-key-{at}}}\n"
        for at, (dialect, port) in enumerate(sources)
    )
    pool = ", ".join(
        f"{{provider: p{at}, model: owner/app/v1, weight: {0 if at else 1}{f', image: {first}' if first and not at else ''}}}"
        for at in range(len(sources))
    )
    text = f"  - {{name: text, base_url: 'http://127.0.0.1:{sources[0][1]}/v1', dialect: openai}}\n"
    return (
        f"{accounts}admin: {{token: {TOKEN}}}\ndefaults: {{timeouts: {{connect: 2s, first_byte: 10s, idle: 10s}}}}\n"
        f"hosts: [a, gateway]\nproviders:\n{written}{text}models:\n"
        f"  - {{id: pic, output_modalities: [image], price: {{image: {PRICE}{price}}}, pool: [{pool}], reserve: {reserve}, "
        f"image: {{sizes: [1024x1024, 512x512], extra: [seed]}}{model}}}\n"
        f"  - {{id: edit, input_modalities: [text, image], output_modalities: [image], price: {{image: {PRICE}}}, "
        f"pool: [{pool}], image: {{needs_image: true}}}}\n"
        f"  - {{id: m, price: {{input: 1, output: 2}}, pool: [{{provider: text, model: real}}]}}\n"
        f"{models}aliases: {{picture: pic}}\n{more}"
    )


class ImageGateway:
    """A gateway with image models, and its callers."""

    def __init__(self, accounts: AccountsGateway) -> None:
        self.accounts = accounts
        self.running = accounts.running

    @property
    def scheduler(self) -> Any:
        """The jobs of this gateway."""
        return self.running.app.jobs.scheduler

    async def caller_without_key(self) -> Caller:
        """A caller of a gateway without accounts."""
        return Caller(await self.running.client(), "", "")

    async def caller(self, email: str = "a@example.com", *, usd: float = 1.0) -> Caller:
        """A caller with a new account that has this many dollars."""
        return await self.accounts.caller(email, nano=round(usd * 1e9))

    async def ledger(self, caller: Caller) -> list[tuple[str, float]]:
        """The entries of a caller's ledger without the first grant, oldest first."""
        entries = (await caller.ask("GET", "/v1/credits/transactions?limit=100")).json["data"]
        return [(one["kind"], one["amount"]) for one in reversed(entries)][1:]

    async def all_jobs_end(self) -> None:
        """Wait until no job waits or runs."""
        await until(lambda: len(self.scheduler) == 0)


async def submit(caller: Caller, *, headers: str = "", **members: Any) -> Answer:
    """Submit an image job; the answer to that."""
    return await caller.ask("POST", PATH, {"model": "pic", "prompt": "a cat", **members}, headers=headers)


async def ended_job(caller: Caller, job: Any) -> Any:
    """Wait for a job's end; its document."""
    answer = await caller.ask("GET", f"/v1/jobs/{job['id']}", headers="prefer: wait=20\r\n")
    assert answer.status == 200
    return answer.json


async def submitted_and_ended(caller: Caller, **members: Any) -> Any:
    """Submit an image job and wait for its end; its document."""
    answer = await submit(caller, **members)
    assert answer.status == 202, answer.body
    return await ended_job(caller, answer.json)


@contextlib.asynccontextmanager
async def image_gateway(
    directory: Path, *dialects: str, has_accounts: bool = True, signup: str = "", timing: Timing = FAST_TIMING, **how: Any
) -> AsyncIterator[tuple[Any, ...]]:
    """A gateway in front of scripted providers that speak these dialects: (image gateway, provider, …)."""
    async with providers(len(dialects)) as scripted:
        accounts = f"accounts: {{required: true, database: 'sqlite:{directory}/kyma.db'{signup}}}\n" if has_accounts else ""
        sources = [(dialect, provider.port) for dialect, provider in zip(dialects, scripted, strict=True)]
        async with gateway(configuration(*sources, accounts=accounts, **how), directory, timing=timing) as running:
            yield ImageGateway(AccountsGateway(running)), *scripted


def play(provider: Provider, *answers: bytes) -> None:
    """Let a provider give one of these answers to each request."""
    for answer in answers:
        provider.plays(answer)
