"""Callers of Responses are answered by whoever can: natively, or in translation if that source fails or lacks the endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import gateway, providers, whole

BODY = b'{"model": "m", "input": "hello"}'
PATH = "/v1/responses"
USAGE = {"input_tokens": 3, "output_tokens": 5}
MESSAGE = whole(json.dumps({
    "id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn", "usage": USAGE,
}).encode())  # fmt: skip
CHAT = whole(json.dumps({
    "id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
}).encode())  # fmt: skip


async def test_a_native_source_that_fails_is_followed_by_a_translated_one(tmp_path: Path) -> None:
    async with providers(2) as (native, other):
        text = configuration(ProviderEntry(native.port), ProviderEntry(other.port, dialect="anthropic"))
        async with gateway(text, tmp_path) as running:
            native.plays(whole(b"{}", status="500 Internal Server Error"))
            other.plays(MESSAGE)
            client = await running.client()
            client.post(BODY, path=PATH)
            answer = await client.answer()
            assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
            assert answer.json["output"][0]["content"][0]["text"] == "hi"
            (record,) = await running.records()
            assert (record["endpoint"], record["prompt_tokens"], record["completion_tokens"]) == ("responses", 3, 5)


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed", "501 Not Implemented"])
async def test_a_source_that_lacks_the_endpoint_is_asked_at_chat_in_the_same_request(tmp_path: Path, status: str) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port), tmp_path) as running:
        for played in (whole(b"{}", status=status), CHAT, CHAT):
            provider.plays(played)
        for _ in range(2):
            client = await running.client()
            client.post(BODY, path=PATH)
            answer = await client.answer()
            assert (answer.status, answer.json["status"], answer.headers.get("x-kyma-fallback")) == (200, "completed", None)
        lines = [one.line.split()[1] for one in provider.received]
        assert lines == ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"]


async def test_a_conversation_of_responses_goes_on_at_a_source_that_has_them(tmp_path: Path) -> None:
    signed = {"google": {"thought_signature": "CiQB" + "x" * 300}}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}, "extra_content": signed}
    message = {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]}
    answered = {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    entries = "endpoints: [chat]", "endpoints: [responses]"
    async with providers(2) as (chat, native):
        sources = [ProviderEntry(one.port, source=more, weight=1) for one, more in zip((chat, native), entries, strict=True)]
        async with gateway(configuration(*sources), tmp_path) as running:
            native.plays(whole(b"{}", status="503 Busy"))
            chat.plays(whole(json.dumps(answered).encode()))
            client = await running.client()
            asked = {"model": "m", "input": [{"role": "user", "content": "Go."}], "include": ["reasoning.encrypted_content"]}
            client.post(json.dumps(asked).encode(), path="/v1/responses")
            output = (await client.answer()).json["output"]
            called = output[-1]["call_id"]
            assert called.startswith("kyma-call-")
            running.forget_failures()
            result = {"type": "function_call_output", "call_id": called, "output": "1"}
            client.post(json.dumps(asked | {"input": [*asked["input"], *output, result]}).encode(), path="/v1/responses")
            answer = await client.answer()
            assert answer.status == 200
            assert answer.headers["x-kyma-dropped"] == "input[1]"
            sent = json.loads(native.received[-1].body)["input"]
            assert [one.get("type") for one in sent] == [None, "function_call", "function_call_output"]
            assert {one["call_id"] for one in sent[1:]} == {"call_1"}
