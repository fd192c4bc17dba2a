"""What OpenAI's SDK sends to the endpoints that do not converse arrives so that strict providers take it, metered or not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.accounts_harness import accounts_gateway
from tests.configurations import configuration
from tests.forms import wav
from tests.harness import CLOSE, Gateway, Provider, gateway, providers, whole
from tests.strict_endpoints import answer

PRICE = "price: {per_minute: 0.006, per_million_characters: 15, per_request: 0.002}"
FILE = ('a "new" é.wav', wav(1500), "audio/wav")


@contextlib.asynccontextmanager
async def calling(
    directory: Path, *, is_metered: bool, count: int = 1
) -> AsyncIterator[tuple[openai.AsyncOpenAI, Gateway, list[Provider]]]:
    async with providers(count) as made, contextlib.AsyncExitStack() as stack:
        for provider in made:
            provider.judge = answer
        pool = ", ".join(f"{{provider: p{at}, model: real-0, weight: {int(not at)}}}" for at in range(count))
        models = f"  - {{id: s, {PRICE}, pool: [{pool}]}}\n"
        key, ports = "none", [one.port for one in made]
        if is_metered:
            accounts = await stack.enter_async_context(accounts_gateway(directory, *ports, models=models))
            running, key = accounts.running, (await accounts.caller()).secret
        else:
            running = await stack.enter_async_context(gateway(configuration(*ports, models=models), directory))
        base = f"http://127.0.0.1:{running.port}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0, timeout=20) as client:
            yield client, running, made


async def transcribe(client: openai.AsyncOpenAI, **more: Any) -> Any:
    return await client.audio.transcriptions.create(model="s", file=FILE, **more)


async def speak(client: openai.AsyncOpenAI, **more: Any) -> Any:
    return await client.audio.speech.create(**{"model": "s", "voice": "alloy", "input": "Hello"} | more)


CALLS: dict[str, Any] = {
    "transcription": lambda client: transcribe(client, language="en", temperature=0.2),
    "words": lambda client: transcribe(client, response_format="verbose_json", timestamp_granularities=["word", "segment"]),
    "translation": lambda client: client.audio.translations.create(model="s", file=FILE, prompt="Bonjour"),
    "speech": lambda client: speak(client, speed=1.5, response_format="mp3", instructions="softly"),
    "moderation": lambda client: client.moderations.create(model="s", input=["a", "b"]),
    "rerank": lambda client: client.post(
        "/rerank", cast_to=object, body={"model": "s", "query": "q", "documents": ["a", "b"], "top_n": 1}
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_metered", [False, True])
@pytest.mark.parametrize("call", CALLS)
async def test_a_strict_provider_takes_it(tmp_path: Path, call: str, is_metered: bool) -> None:
    async with calling(tmp_path, is_metered=is_metered) as (client, running, _):
        assert await CALLS[call](client)
        (record,) = await running.records()
        assert (record["status"], record["ending"], record["model"]) == (200, "completed", "s")
        assert record["cost_usd"] > 0


@pytest.mark.parametrize("is_metered", [False, True])
@pytest.mark.parametrize(("call", "rule"), [
    (lambda client: speak(client, input="x" * 4097), "input of at most 4096 characters"),
    (lambda client: speak(client, voice="nobody"), "a built-in voice"),
    (lambda client: speak(client, speed=9), "speed from 0.25 to 4"),
    (lambda client: speak(client, extra_body={"pitch": 2}), "no unknown member"),
    (lambda client: transcribe(client, timestamp_granularities=["word"]), "granularities only with verbose_json"),
    (lambda client: transcribe(client, extra_body={"odd": "1"}), "no unknown field"),
    (lambda client: client.audio.transcriptions.create(model="s", file=("a.txt", b"x")), "a file in a known format"),
    (lambda client: client.moderations.create(model="s", input=""), "an input"),
    (lambda client: client.post("/rerank", cast_to=object, body={"model": "s", "query": "q", "documents": [{"text": "a"}]}),
     "documents are texts"),
])  # fmt: skip
async def test_what_it_refuses_reaches_the_caller_as_it_came_and_costs_nothing(
    tmp_path: Path, call: Any, rule: str, is_metered: bool
) -> None:
    async with calling(tmp_path, is_metered=is_metered) as (client, running, _):
        with pytest.raises(openai.BadRequestError, match=rule):
            await call(client)
        (record,) = await running.records()
        assert (record["status"], record["ending"]) == (400, "relayed_error")
        assert not record["cost_usd"]
        assert running.source()["breaker"] == "closed"


@pytest.mark.parametrize("call", ["transcription", "speech", "moderation", "rerank"])
@pytest.mark.parametrize("failure", [
    (CLOSE,), (whole(b"{}", status="500 Internal Server Error"),), (whole(b'{"error":{"message":"busy","code":429}}'),),
    (whole(b'{"text":"he')[:-4], CLOSE), (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n", CLOSE),
])  # fmt: skip
async def test_the_next_provider_answers_if_one_fails(tmp_path: Path, call: str, failure: tuple[Any, ...]) -> None:
    async with calling(tmp_path, is_metered=True, count=2) as (client, running, (first, second)):
        first.plays(*failure)
        assert await CALLS[call](client)
        assert len(second.received) == 1
        (record,) = await running.records()
        assert (record["fallback_layer"], record["ending"]) == (1, "completed")


async def test_a_file_of_25_mb_arrives_whole(tmp_path: Path) -> None:
    sound = wav(800_000) + bytes(12 * 2**20)
    async with calling(tmp_path, is_metered=True) as (client, running, (provider,)):
        heard = await client.audio.transcriptions.create(model="s", file=("a.wav", sound), prompt="p" * 200)
        assert heard.text == "hello"
        assert sound in provider.received[0].body
        (record,) = await running.records()
        assert json.dumps(record["cost_usd"]) == "0.0023"  # three seconds, and a request
