"""Translated requests hold what their source takes; what it refuses unforeseen is left out when it is asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.accounts_harness import accounts_gateway
from tests.behaviour.translation import WHOLE_ANSWERS
from tests.configurations import ProviderEntry, configuration
from tests.harness import Client, both, gateway, providers, whole
from tests.strict_sources import KINDS, Kind, complaints, entry, judged, model_entry, strict

Json = dict[str, Any]
LONG = "mcp__a_server_with_quite_a_long_name__a_tool_that_has_an_even_longer_name"
SCHEMA: Json = {
    "type": "object", "required": ["n"], "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 9, "description": "how many"},
        "names": {"type": "array", "minItems": 2, "items": {"type": "string", "maxLength": 9}},
    },
}  # fmt: skip
STOP = ["one", "two", "three", "four", "five"]
PATHS = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}


def messages_request(*, has_tools: bool) -> Json:
    """What Claude Code and Anthropic's library may ask for at once."""
    request: Json = {
        "model": "m", "max_tokens": 900, "system": "Be brief.", "messages": [{"role": "user", "content": "hello"}],
        "output_config": {"effort": "xhigh"}, "stop_sequences": STOP, "temperature": 0.5, "top_p": 0.9,
        "metadata": {"user_id": "u" * 80}, "seed": 7, "logit_bias": {},
    }  # fmt: skip
    if not has_tools:
        request["output_config"]["format"] = {"type": "json_schema", "schema": SCHEMA}
        return request
    request["tools"] = [{"name": LONG, "input_schema": SCHEMA}, {"name": "a.b", "input_schema": SCHEMA}]
    request["tool_choice"] = {"type": "tool", "name": LONG, "disable_parallel_tool_use": True}
    request["messages"] += [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": LONG, "input": {"n": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "done"}]},
    ]
    return request


def chat_request(*, has_tools: bool) -> Json:
    """What callers of OpenAI's dialect may ask for at once."""
    request: Json = {
        "model": "m", "max_completion_tokens": 9000, "reasoning_effort": "xhigh", "stop": STOP, "temperature": 0.5,
        "top_p": 0.9, "user": "u", "seed": 7, "logit_bias": {"1": 2}, "parallel_tool_calls": False,
        "messages": [
            {"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "Well"},
        ],
    }  # fmt: skip
    if not has_tools:
        request["response_format"] = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
        return request
    request["tools"] = [
        {"type": "function", "function": {"name": LONG, "parameters": SCHEMA, "strict": True}},
        {
            "type": "function",
            "function": {"name": "any", "parameters": {"type": "object", "properties": {"a": {}}}, "strict": True},
        },
    ]
    call = {"id": "t1", "type": "function", "function": {"name": LONG, "arguments": '{"n": 1}'}}
    request["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "t1", "content": "done"},
    ]  # fmt: skip
    return request


def responses_request(*, has_tools: bool) -> Json:
    """What Codex and OpenAI's library may ask for at once."""
    request: Json = {
        "model": "m", "instructions": "Be brief.", "reasoning": {"effort": "xhigh", "summary": "auto"}, "temperature": 0.5,
        "top_p": 0.9, "user": "u", "prompt_cache_key": "k", "parallel_tool_calls": False, "store": False,
        "input": [{"role": "developer", "content": "Really."}, {"role": "user", "content": "hello"}],
    }  # fmt: skip
    if has_tools:
        request["tools"] = [{"type": "function", "name": LONG, "parameters": SCHEMA, "strict": False}]
    else:
        request["text"] = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
    return request


REQUESTS = {"messages": messages_request, "chat": chat_request, "responses": responses_request}


def called(caller: str, body: bytes, *, stream: bool) -> list[str]:
    """The names of the tools that an answer calls, in any dialect."""
    if stream:
        events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    else:
        events = [json.loads(body)]
    found = []
    for event in events:
        if caller == "messages":
            blocks = event["content"] if not stream else [event["content_block"]] if "content_block" in event else []
            found += [block["name"] for block in blocks if block["type"] == "tool_use"]
        elif caller == "chat":
            parts = [choice["delta" if stream else "message"] for choice in event["choices"]]
            found += [
                call["function"]["name"]
                for part in parts
                for call in part.get("tool_calls") or ()
                if "name" in call["function"]
            ]
        elif not stream or event["type"] == "response.completed":
            output = event["output"] if not stream else event["response"]["output"]
            found += [item["name"] for item in output if item["type"] == "function_call"]
    return found


def callers_of(kind: Kind) -> tuple[str, ...]:
    return ("chat", "responses") if kind.dialect == "anthropic" else ("messages", "responses")


@pytest.mark.parametrize("name", KINDS)
async def test_every_provider_takes_what_is_translated_for_it(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    async with strict(kind, tmp_path) as (running, provider):
        client = await running.client()
        for caller in callers_of(kind):
            for stream in (False, True):
                for has_tools in (True, False):
                    request = REQUESTS[caller](has_tools=has_tools) | ({"stream": True} if stream else {})
                    client.post(json.dumps(request).encode(), path=PATHS[caller])
                    answer = await client.answer()
                    assert answer.status == 200, answer.body
                    assert called(caller, answer.body, stream=stream) == ([LONG] if has_tools else [])
        assert len(provider.received) == 8  # none was asked again: all was known
        assert [found for one in provider.received for found in complaints(kind, json.loads(one.body))] == []


@pytest.mark.parametrize("name", ["gpt-5.6", "claude-4.7"])
async def test_metered_callers_are_served_alike(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    async with (
        providers(1) as (provider,),
        accounts_gateway(tmp_path, entry(kind, provider.port), models=model_entry(kind), pool=0) as running,
    ):
        provider.judge = lambda received: judged(kind, received)
        caller = await running.caller()
        for path in callers_of(kind):
            for stream in (False, True):
                request = REQUESTS[path](has_tools=True) | ({"stream": True} if stream else {})
                answer = await caller.ask("POST", PATHS[path], request)
                assert (answer.status, called(path, answer.body, stream=stream)) == (200, [LONG])


# ---- a refusal that nobody has foreseen


def refusing(names: list[str], asked: list[Json]) -> Any:
    """A judge that refuses these members, one at a time, in OpenAI's words; `asked` gets the requests."""

    def judge(received: Any) -> bytes | None:
        request = json.loads(received.body)
        asked.append(request)
        for name in names:
            if name in request:
                error = {"message": f"Unsupported parameter: '{name}' is not supported with this model.", "param": name}
                return whole(
                    json.dumps({"error": {**error, "type": "invalid_request_error"}}).encode(), status="400 Bad Request"
                )
        return WHOLE_ANSWERS["openai"]

    return judge


def ask(client: Client, **members: Any) -> None:
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    client.post(json.dumps(request | members).encode(), path="/v1/messages")


async def test_a_refused_member_is_left_out_when_the_source_is_asked_again(tmp_path: Path) -> None:
    asked: list[Json] = []
    async with both(tmp_path) as (running, provider):
        provider.judge = refusing(["temperature"], asked)
        client = await running.client()
        ask(client, temperature=0.5, top_p=0.9)
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-dropped"]) == (200, "temperature")
        assert [("temperature" in one, "top_p" in one) for one in asked] == [(True, True), (False, True)]
        ask(client, temperature=0.5)
        assert (await client.answer()).status == 200
        assert "temperature" not in asked[2]
        assert len(asked) == 3
        (first, _) = await running.records(2)
        assert (first["status"], first["fallback_layer"], first["attempts"]) == (200, 0, ["p0:400", "p0:answered"])
        assert running.source()["status"] == "available"


async def test_a_source_is_asked_again_once(tmp_path: Path) -> None:
    asked: list[Json] = []
    async with both(tmp_path) as (running, provider):
        provider.judge = refusing(["temperature", "top_p"], asked)
        client = await running.client()
        ask(client, temperature=0.5, top_p=0.9)
        answer = await client.answer()
        assert (answer.status, "top_p" in answer.json["error"]["message"], len(asked)) == (400, True, 2)
        ask(client, temperature=0.5, top_p=0.9)  # by now both are known
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-dropped"], len(asked)) == (200, "temperature, top_p", 3)


async def test_what_a_caller_wrote_to_a_source_of_his_own_dialect_is_never_left_out(tmp_path: Path) -> None:
    asked: list[Json] = []
    async with both(tmp_path) as (running, provider):
        provider.judge = refusing(["temperature"], asked)
        client = await running.client()
        for _ in range(2):
            client.ask(temperature=0.5)
            assert (await client.answer()).status == 400
        ask(client, temperature=0.5)
        assert (await client.answer()).status == 200
        client.ask(temperature=0.5)  # also not when translated requests lack it
        assert (await client.answer()).status == 400
        assert [one.get("temperature") for one in asked] == [0.5, 0.5, 0.5, None, 0.5]


async def test_one_source_learns_nothing_from_anothers_refusal(tmp_path: Path) -> None:
    first: list[Json] = []
    second: list[Json] = []
    async with both(tmp_path, 2) as (running, one, two):
        one.judge = refusing(["temperature"], first)
        two.judge = refusing([], second)
        client = await running.client()
        ask(client, temperature=0.5)
        assert (await client.answer()).status == 200
        one.judge = lambda _: whole(b"{}", status="503 Service Unavailable")
        ask(client, temperature=0.5)
        assert (await client.answer()).status == 200
        assert second[0]["temperature"] == 0.5


async def test_a_format_that_is_refused_is_asked_for_in_the_prompt(tmp_path: Path) -> None:
    asked: list[Json] = []
    async with both(tmp_path) as (running, provider):
        provider.judge = refusing(["response_format"], asked)
        client = await running.client()
        ask(client, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
        assert (await client.answer()).status == 200
        assert "response_format" not in asked[1]
        assert "minItems" in asked[1]["messages"][0]["content"]


async def test_other_errors_of_the_caller_are_told_at_once(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        error = {"error": {"message": "Invalid 'temperature': must be less than 2", "param": "temperature"}}
        provider.plays(whole(json.dumps(error).encode(), status="400 Bad Request"))
        client = await running.client()
        ask(client, temperature=7)
        assert ((await client.answer()).status, len(provider.received)) == (400, 1)


async def test_images_go_to_a_source_that_sees(tmp_path: Path) -> None:
    async with providers(2) as (blind, seeing):
        blind.judge = seeing.judge = refusing([], [])
        entries = (
            ProviderEntry(blind.port, "openai", source="supports: {images: false}"), ProviderEntry(seeing.port, "openai"),
        )  # fmt: skip
        async with gateway(configuration(*entries, model="input_modalities: [text, image]"), tmp_path) as running:
            client = await running.client()
            image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
            ask(client, messages=[{"role": "user", "content": [image]}])
            assert (await client.answer()).status == 200
            ask(client)
            assert (await client.answer()).status == 200
            assert (len(blind.received), len(seeing.received)) == (1, 1)
