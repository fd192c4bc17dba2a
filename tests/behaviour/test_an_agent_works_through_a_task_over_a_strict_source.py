"""An agent of either API works through a task with tools, over a chat source that refuses what real ones refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import Answer, Client, gateway
from tests.strict_chat import FLAVOURS, SOURCES, Step, strict_chat

Json = dict[str, Any]
STEPS: list[Step] = [("look", {"at": 1}), ("look", {"at": "two"}), ("look", {}), "It is done."]
SCHEMA = {"type": "object", "properties": {"at": {}}}


def task(request: Json) -> list[Step]:
    return STEPS


def events(answer: Answer) -> list[Json]:
    return [json.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: {")]


def message_of(answer: Answer, *, stream: bool) -> Json:
    """The message that a client of Messages builds."""
    if not stream:
        whole: Json = answer.json
        return whole
    message: Json = {}
    for event in events(answer):
        if event["type"] == "message_start":
            message = event["message"]
        elif event["type"] == "content_block_start":
            message["content"].append(event["content_block"] | {"json": ""})
        elif event["type"] == "content_block_delta":
            block, delta = message["content"][-1], event["delta"]
            name = {"input_json_delta": "json"}.get(delta["type"], delta["type"].removesuffix("_delta"))
            written = delta.get("partial_json", delta.get(name))
            block[name] = written if name == "signature" else block[name] + written
        elif event["type"] == "message_delta":
            message |= event["delta"]
    for block in message["content"]:
        written = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(written or "{}")
    return message


async def works_with_messages(client: Client, *, stream: bool) -> str:
    """Work through the task as an agent of Messages. Return the last text."""
    messages: list[Json] = [{"role": "user", "content": "Do it."}]
    tools = [{"name": "look", "input_schema": SCHEMA}]
    for _ in STEPS:
        body = {"model": "m", "max_tokens": 99, "messages": messages, "tools": tools, "stream": stream}
        client.post(json.dumps(body).encode(), path="/v1/messages")
        answer = await client.answer()
        assert answer.status == 200, answer.body
        message = message_of(answer, stream=stream)
        messages.append({"role": "assistant", "content": message["content"]})
        calls = [block for block in message["content"] if block["type"] == "tool_use"]
        if not calls:
            return str(message["content"][-1]["text"])
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": json.dumps(call["input"])} for call in calls]
        messages.append({"role": "user", "content": results})
    raise AssertionError("the task has no end")


async def works_with_responses(client: Client, *, stream: bool, include: bool) -> str:
    """Work through the task as an agent of Responses. Return the last text."""
    items: list[Json] = [{"role": "user", "content": "Do it."}]
    tools = [{"type": "function", "name": "look", "parameters": SCHEMA}]
    included = ["reasoning.encrypted_content"] if include else []
    for _ in STEPS:
        body = {"model": "m", "input": items, "tools": tools, "stream": stream, "store": False, "include": included}
        client.post(json.dumps(body).encode(), path="/v1/responses")
        answer = await client.answer()
        assert answer.status == 200, answer.body
        output = (events(answer)[-1]["response"] if stream else answer.json)["output"]
        items += output
        calls = [item for item in output if item["type"] == "function_call"]
        if not calls:
            return str(output[-1]["content"][0]["text"])
        items += [{"type": "function_call_output", "call_id": one["call_id"], "output": one["arguments"]} for one in calls]
    raise AssertionError("the task has no end")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", ["messages", "responses", "responses-without-thoughts"])
@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_an_agent_works_through_a_task(tmp_path: Path, flavour: str, api: str, stream: bool) -> None:
    async with strict_chat(flavour, task) as (provider, port):
        text = configuration(ProviderEntry(port, source=SOURCES[flavour]))
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            if api == "messages":
                last = await works_with_messages(client, stream=stream)
            else:
                last = await works_with_responses(client, stream=stream, include=api == "responses")
            assert last == "It is done."
            assert provider.refusals == []
            assert provider.results == ['{"at": 1}', '{"at": "two"}', "{}"]


@pytest.mark.parametrize("flavour", ["gemini", "moonshot"])
@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_a_call_of_another_source_gets_the_placeholder_that_this_one_takes(
    tmp_path: Path, flavour: str, api: str
) -> None:
    async with strict_chat(flavour, task) as (provider, port):
        text = configuration(ProviderEntry(port, source=SOURCES[flavour]))
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            if api == "messages":
                use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
                result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"}
                tools = [{"name": "look", "input_schema": SCHEMA}]
                turns = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": [use]}]
                body: Json = {"messages": [*turns, {"role": "user", "content": [result]}], "max_tokens": 9}
            else:
                call = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
                output = {"type": "function_call_output", "call_id": "call_1", "output": "1"}
                tools = [{"type": "function", "name": "look", "parameters": SCHEMA}]
                body = {"input": [{"role": "user", "content": "Go."}, call, output]}
            client.post(json.dumps(body | {"model": "m", "tools": tools}).encode(), path=f"/v1/{api}")
            assert (await client.answer()).status == 200
            assert provider.refusals == []


async def test_no_other_source_gets_what_one_wants_back(tmp_path: Path) -> None:
    async with strict_chat("gemini", task) as (first, port), strict_chat("plain", task) as (second, other):
        entries = (ProviderEntry(port, source=SOURCES["gemini"]), ProviderEntry(other, source=SOURCES["plain"]))
        models = "  - {id: other, pool: [{provider: p1, model: real-1, reasoning_field: none}]}\n"
        async with gateway(configuration(*entries, pool=1, models=models), tmp_path) as running:
            client = await running.client()
            tools = [{"name": "look", "input_schema": SCHEMA}]
            body: Json = {"model": "m", "max_tokens": 9, "tools": tools, "messages": [{"role": "user", "content": "Go."}]}
            client.post(json.dumps(body).encode(), path="/v1/messages")
            content = (await client.answer()).json["content"]
            (call,) = [block for block in content if block["type"] == "tool_use"]
            assert call["id"].startswith("kyma-call-")
            result = {"type": "tool_result", "tool_use_id": call["id"], "content": "1"}
            turns = [*body["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
            client.post(json.dumps(body | {"model": "other", "messages": turns}).encode(), path="/v1/messages")
            assert (await client.answer()).status == 200
            assert (first.refusals, second.refusals) == ([], [])
            assert second.requests[0]["messages"][1]["tool_calls"][0]["id"] == "functions.look:0"
