"""With `usage: ask` the log and the metrics have the tokens of every stream; what callers get does not change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import DONE, LAST_CHUNK, MESSAGE, OK, Client, both, chunk, event, head, whole

ASKS = "usage: ask"
USAGE = b'data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
ANSWER = head() + chunk(event("one")) + chunk(USAGE) + chunk(DONE) + LAST_CHUNK
INSERTED = b'"stream_options":{"include_usage":true},'
LARGE = "x" * 200_000
"""A prompt that is read in slices."""


async def ask(client: Client, **members: object) -> bytes:
    """Send a chat request; returns the body that the caller gets."""
    client.ask(**({"max_tokens": 5} | members))  # type: ignore[arg-type]
    return (await client.answer()).body


@pytest.mark.parametrize("prompt", ["hello", LARGE], ids=["small", "large"])
async def test_the_usage_of_a_stream_is_asked_for_and_withheld_from_who_did_not_ask(tmp_path: Path, prompt: str) -> None:
    async with both(tmp_path, more=ASKS) as (gateway, provider):
        provider.plays(ANSWER)
        assert await ask(await gateway.client(), stream=True, user=prompt) == event("one") + DONE
        assert provider.received[0].body.startswith(b"{" + INSERTED)
        assert provider.received[0].body.count(b"stream_options") == 1
        (record,) = await gateway.records()
        assert (record["prompt_tokens"], record["completion_tokens"], record["usage_source"]) == (3, 5, "reported")
        assert await gateway.metric("kyma_tokens_total") == 8


@pytest.mark.parametrize("prompt", ["hello", LARGE], ids=["small", "large"])
async def test_a_null_is_replaced(tmp_path: Path, prompt: str) -> None:
    async with both(tmp_path, more=ASKS) as (gateway, provider):
        provider.plays(ANSWER)
        assert await ask(await gateway.client(), stream=True, user=prompt, stream_options=None) == event("one") + DONE
        assert json.loads(provider.received[0].body)["stream_options"] == {"include_usage": True}
        assert provider.received[0].body.count(b"stream_options") == 1


@pytest.mark.parametrize(
    "options", [{"include_usage": True}, {"include_usage": False}, {}, {"include_obfuscation": False}, {"later": [1]}, [1], "x"]
)
async def test_options_of_the_callers_own_pass_unchanged_and_so_does_what_they_bring(tmp_path: Path, options: object) -> None:
    async with both(tmp_path, more=ASKS) as (gateway, provider):
        provider.plays(ANSWER)
        assert await ask(await gateway.client(), stream=True, stream_options=options) == event("one") + USAGE + DONE
        assert json.loads(provider.received[0].body)["stream_options"] == options
        assert provider.received[0].body.count(b"stream_options") == 1


async def test_whole_answers_and_other_endpoints_are_not_touched(tmp_path: Path) -> None:
    async with both(tmp_path, more=ASKS) as (gateway, provider):
        client = await gateway.client()
        provider.plays(OK)
        await ask(client)
        provider.plays(OK)
        await ask(client, stream=False)
        client.post(b'{"model":"m","input":"x","stream":true}', path="/v1/embeddings")
        await client.answer()
        assert not [one for one in provider.received if b"stream_options" in one.body]


async def test_a_source_that_refuses_the_option_is_not_asked(tmp_path: Path) -> None:
    text = "models: [{id: m, pool: [{provider: p0, model: real-0, stream_usage: false}]}]"
    async with both(tmp_path, pool=0, models=f"  - {text[9:-1]}\n", more=ASKS) as (gateway, provider):
        provider.plays(ANSWER)
        assert await ask(await gateway.client(), stream=True) == event("one") + USAGE + DONE
        assert b"stream_options" not in provider.received[0].body


async def test_a_provider_of_the_other_dialect_needs_not_to_be_asked(tmp_path: Path) -> None:
    async with both(tmp_path, dialect="anthropic", more=ASKS) as (gateway, provider):
        provider.plays(whole(MESSAGE))
        await ask(await gateway.client(), messages=[{"role": "user", "content": "hello"}])
        assert b"stream_options" not in provider.received[0].body


async def test_nothing_is_inserted_and_nothing_is_withheld_without_it(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(ANSWER)
        assert await ask(await gateway.client(), stream=True) == event("one") + USAGE + DONE
        assert b"stream_options" not in provider.received[0].body


async def test_a_reload_switches_it(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        path, client = tmp_path / "gateway.yaml", await gateway.client()
        for text, is_asked in ((f"{path.read_text()}\n{ASKS}\n", True), (path.read_text(), False)):
            path.write_text(text)
            await gateway.configuration.reload("test")
            provider.plays(ANSWER)
            await ask(client, stream=True)
            assert (INSERTED in provider.received[-1].body) is is_asked
