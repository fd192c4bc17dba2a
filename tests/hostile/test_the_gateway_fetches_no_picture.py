"""The gateway connects to its configured providers only: no picture's URL, queue's address or redirect leads it elsewhere."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.translation import OTHER, PATHS, WHOLE_ANSWERS
from tests.harness import Provider, both, providers, whole
from tests.jobs.image_gateway import (
    FAL,
    OPENAI,
    ImageGateway,
    ended_job,
    image_gateway,
    images_answer,
    play,
    queue_answers,
    queue_result,
    submit,
)

METADATA = "http://169.254.169.254/latest/meta-data/"
REFUSED = [
    "file:///etc/passwd", "FILE:///etc/passwd", "file://localhost/etc/passwd", "javascript:alert(1)",
    "data:text/html;base64,PGI+", "data:,a", "gopher://127.0.0.1:6379/_x", "ftp://127.0.0.1/a.png", "unix:/run/kyma.sock",
    "//169.254.169.254/", "http://user:word@169.254.169.254/", "http://169.254.169.254\r\nx-evil: 1/", "http://\u2460\u2461\u2462.example/",
]  # fmt: skip
"""No scheme of a picture, or no URL that all readers take for the same."""
SEES = "input_modalities: [text, image]"
DIALECTS = {OPENAI: (images_answer(),), FAL: queue_answers()}


@contextlib.asynccontextmanager
async def edits(directory: Path, dialect: str) -> AsyncIterator[tuple[ImageGateway, Provider, Provider]]:
    """A gateway with a model that edits pictures, its provider, and a server to which nothing may come."""
    async with providers(1) as (target,), image_gateway(directory, dialect) as (images, provider):
        yield images, provider, target
        assert target.connections == 0
        assert images.running.upstreams["open"] <= provider.connections


@pytest.mark.parametrize("member", ["image_url", "image_urls"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_url_of_an_input_picture_is_passed_on_as_text(tmp_path: Path, dialect: str, member: str) -> None:
    async with edits(tmp_path, dialect) as (images, provider, target):
        caller = await images.caller()
        for url in (f"http://127.0.0.1:{target.port}/secret.png", f"http://localhost:{target.port}/", METADATA):
            provider.received.clear()
            play(provider, *DIALECTS[dialect])
            picture: dict[str, Any] = {member: url if member == "image_url" else [url]}
            answer = await submit(caller, model="edit", **picture)
            assert (await ended_job(caller, answer.json))["status"] == "succeeded"
            assert json.dumps(url).encode() in provider.received[0].body


async def test_what_is_no_web_url_or_picture_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    async with edits(tmp_path, FAL) as (images, provider, _):
        caller = await images.caller()
        for url in REFUSED:
            pictures: dict[str, Any] = {"image_url": url, "image_urls": [url]}
            for name, value in pictures.items():
                answer = await submit(caller, model="edit", **{name: value})
                assert (url, answer.status, answer.json["error"]["param"]) == (url, 400, name)
        assert not provider.received
        assert await images.ledger(caller) == []


async def test_the_addresses_that_a_queue_gives_are_not_followed(tmp_path: Path) -> None:
    async with edits(tmp_path, FAL) as (images, provider, target):
        elsewhere = f"http://127.0.0.1:{target.port}/"
        urls = {"status_url": elsewhere, "response_url": elsewhere, "cancel_url": elsewhere}
        play(provider, whole(json.dumps({"request_id": "r-1", **urls}).encode()))
        play(provider, whole(json.dumps({"status": "COMPLETED", **urls}).encode()), queue_result(elsewhere))
        caller = await images.caller()
        job = await ended_job(caller, (await submit(caller)).json)
        assert job["output"]["data"] == [{"url": elsewhere}]  # the caller fetches it, or does not


async def test_the_id_of_a_job_cannot_lead_to_another_path(tmp_path: Path) -> None:
    async with edits(tmp_path, FAL) as (images, provider, _):
        caller = await images.caller()
        for name in ("../../admin", "r/../../x", "r?x=1", "r#x", "r\r\nx-evil: 1", "", "r" * 129, "http://a/"):
            images.running.forget_failures()
            play(provider, whole(json.dumps({"request_id": name}).encode()))
            job = await ended_job(caller, (await submit(caller)).json)
            assert (name, job["status"]) == (name, "failed")
        assert {one.line for one in provider.received} == {"POST /base/owner/app/v1 HTTP/1.1"}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_redirect_of_an_image_provider_is_not_followed(tmp_path: Path, dialect: str) -> None:
    async with edits(tmp_path, dialect) as (images, provider, target):
        caller = await images.caller()
        for status in (
            "301 Moved Permanently",
            "302 Found",
            "303 See Other",
            "307 Temporary Redirect",
            "308 Permanent Redirect",
        ):
            images.running.forget_failures()
            moved = whole(b"{}", status=status, more=f"location: http://127.0.0.1:{target.port}/\r\n")
            play(provider, moved)
            job = await ended_job(caller, (await submit(caller)).json)
            assert (status, job["status"]) == (status, "failed")


@pytest.mark.parametrize("is_translated", [False, True])
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_the_pictures_of_a_chat_are_passed_on_as_text(tmp_path: Path, caller: str, is_translated: bool) -> None:
    source = OTHER[caller] if is_translated else caller
    async with providers(1) as (target,), both(tmp_path, dialect=source, model=SEES) as (gateway, provider):
        url = f"http://127.0.0.1:{target.port}/a.png"
        part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
        if caller == "anthropic":
            part = {"type": "image", "source": {"type": "url", "url": url}}
        document = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [part]}]}
        provider.plays(WHOLE_ANSWERS[source])
        client = await gateway.client()
        client.post(json.dumps(document).encode(), path=PATHS[caller])
        assert (await client.answer()).status == 200
        assert url.encode() in provider.received[0].body
        assert (target.connections, gateway.upstreams["open"]) == (0, 1)
