"""An error of a source reaches callers of another dialect in the status, type, code and words by which their clients act."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.behaviour.translation import PATHS, STREAMS, ask
from tests.configurations import ProviderEntry, configuration
from tests.dialect.errors_of_sources import BUSY, IMAGE, OPERATORS, SAMPLES, TOO_LONG, Sample
from tests.harness import LAST_CHUNK, Answer, Client, both, chunk, gateway, head, providers, whole

RESPONSES = b'{"model": "m", "input": "hi", "stream": false}'
OVERFLOWS = [one for one in SAMPLES if one.kind is TOO_LONG and one.numbers[0] > one.numbers[2]]


def first(kind: object, speaks: str) -> Sample:
    """The first sample of a kind."""
    return next(one for one in SAMPLES if one.kind is kind and one.speaks == speaks)


def failing(sample: Sample) -> bytes:
    """The answer that such an error is."""
    return whole(json.dumps(sample.body).encode(), status=f"{sample.status} Error")


async def told(client: Client, caller: str) -> Answer:
    """What a caller of an endpoint gets."""
    if caller == "responses":
        client.post(RESPONSES, path="/v1/responses")
    else:
        ask(client, caller)
    return await client.answer()


@pytest.mark.parametrize("sample", OVERFLOWS, ids=str)
async def test_a_prompt_that_is_too_long_is_told_so_that_agents_shorten_it(tmp_path: Path, sample: Sample) -> None:
    prompt, _, context = sample.numbers
    provider = ProviderEntry(0, dialect=sample.speaks, more="endpoints: [chat]" if sample.speaks == "openai" else "")
    async with providers(1) as (source,), gateway(configuration(provider._replace(at=source.port)), tmp_path) as running:
        client = await running.client()
        for caller in ("responses", "anthropic" if sample.speaks == "openai" else "openai"):
            source.plays(failing(sample))
            answer = await told(client, caller)
            error = answer.json["error"]
            if caller == "anthropic":
                assert error["message"] == f"prompt is too long: {prompt} tokens > {context} maximum"
            else:
                assert error["code"] == "context_length_exceeded"
            assert (answer.status, error["type"]) == (400, "invalid_request_error")
        assert {one["ending"] for one in await running.records()} == {"relayed_error"}


@pytest.mark.parametrize(("caller", "expected"), [
    ("anthropic", (529, "overloaded_error")), ("openai", (503, "server_error")), ("responses", (503, "server_error")),
])  # fmt: skip
@pytest.mark.parametrize("speaks", ["openai", "anthropic"])
@pytest.mark.parametrize("at_once", [True, False], ids=["status", "event"])
async def test_an_overload_of_every_source_is_told_by_the_status_that_the_callers_dialect_has(
    tmp_path: Path, caller: str, expected: tuple[int, str], speaks: str, at_once: bool
) -> None:
    event = f"event: error\ndata: {json.dumps(first(BUSY, 'anthropic').body)}\n\n".encode()
    overload = (
        whole(b'{"error":{"message":"busy"}}', status="529 Overloaded") if at_once else head() + chunk(event) + LAST_CHUNK
    )
    async with both(tmp_path, 2, dialect=speaks) as (running, one, other):
        one.plays(overload)
        other.plays(overload)
        answer = await told(await running.client(), caller)
        assert (answer.status, answer.json["error"]["type"]) == expected
        (record,) = await running.records()
        assert (record["error_code"], record["status"]) == ("server_is_overloaded", expected[0])


@pytest.mark.parametrize("caller", ["openai", "anthropic"])
@pytest.mark.parametrize("kind", [TOO_LONG, IMAGE], ids=str)
async def test_an_error_of_the_callers_own_dialect_passes_as_it_is(tmp_path: Path, caller: str, kind: object) -> None:
    sample = first(kind, caller)
    async with both(tmp_path, dialect=caller) as (running, source):
        source.plays(failing(sample))
        client = await running.client()
        ask(client, caller)
        answer = await client.answer()
        assert (answer.status, answer.body) == (sample.status, json.dumps(sample.body).encode())


@pytest.mark.parametrize("caller", ["openai", "anthropic"])
@pytest.mark.parametrize("kind", [TOO_LONG, BUSY, IMAGE, OPERATORS], ids=str)
async def test_an_error_within_a_translated_answer_has_its_kind(tmp_path: Path, caller: str, kind: object) -> None:
    speaks = "anthropic" if caller == "openai" else "openai"
    sample = first(kind, speaks)
    event = f"event: error\ndata: {json.dumps(sample.body)}\n\n".encode()
    async with both(tmp_path, dialect=speaks) as (running, source):
        source.plays(head() + b"".join(map(chunk, [*STREAMS[speaks][:3], event])) + LAST_CHUNK)
        client = await running.client()
        ask(client, caller, stream=True)
        await client.head()
        got = await client.read_to_end()
        error = json.loads(got[got.rindex(b"data: {") + 6 :].split(b"\n")[0])["error"]
        expected = {TOO_LONG: "invalid_request_error", IMAGE: "invalid_request_error"}
        assert error["type"] == expected.get(sample.kind, "server_error" if caller == "openai" else "overloaded_error")
        assert b"provider-key" not in got


@pytest.mark.parametrize(("caller", "endpoint", "works"), [
    ("openai", "/v1/embeddings", "/v1/chat/completions"), ("openai", "/v1/completions", "/v1/chat/completions"),
])  # fmt: skip
async def test_the_error_of_a_model_that_can_not_be_reached_names_a_path_of_the_callers_own_dialect(
    tmp_path: Path, caller: str, endpoint: str, works: str
) -> None:
    async with both(tmp_path, dialect="anthropic") as (running, _):
        client = await running.client()
        client.post(b'{"model": "m", "input": "hi", "prompt": "hi"}', path=endpoint)
        answer = await client.answer()
        assert answer.json["error"]["message"].endswith(f"ask for it at {works}.")
        assert PATHS[caller] == works


async def test_the_error_of_a_model_without_conversations_names_the_path_that_it_has(tmp_path: Path) -> None:
    async with providers(1) as (source,):
        entry = ProviderEntry(source.port, more="endpoints: [embeddings]")
        async with gateway(configuration(entry), tmp_path) as running:
            client = await running.client()
            for dialect in PATHS:
                ask(client, dialect)
                message = (await client.answer()).json["error"]["message"]
                assert message == f"No source of m has the endpoint {KEYS[dialect]}; ask for it at /v1/embeddings."


KEYS = {"openai": "chat", "anthropic": "messages"}
