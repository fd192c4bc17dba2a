"""A body that was sent to another endpoint than its own is served as what it is, in its own dialect, and the log says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.behaviour.translation import STREAMS, WHOLE_ANSWERS, text_of_stream
from tests.harness import CLOSE, LAST_CHUNK, both, chunk, head

TURNS = [{"role": "user", "content": "hi"}]
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


class Case(NamedTuple):
    """A body, the path that it is sent to, and the endpoint and the dialect that it is of."""

    path: str
    body: dict[str, Any]
    endpoint: str
    dialect: str

    def __str__(self) -> str:
        """Name the test."""
        return f"{self.endpoint} at {self.path}"


_RESPONSES = {"model": "m", "input": "hi"}
_CHAT = {"model": "m", "messages": TURNS, "max_completion_tokens": 50}
_MESSAGES = {"model": "m", "messages": TURNS, "max_tokens": 50, "system": "Be brief."}
CASES = [
    Case(CHAT, _RESPONSES, "responses", "openai"), Case(MESSAGES, _RESPONSES, "responses", "openai"),
    Case(MESSAGES, _CHAT, "chat/completions", "openai"), Case(RESPONSES, _CHAT, "chat/completions", "openai"),
    Case(CHAT, _MESSAGES, "messages", "anthropic"), Case(RESPONSES, _MESSAGES, "messages", "anthropic"),
]  # fmt: skip
KINDS = {
    "responses": ("object", "response"),
    "chat/completions": ("object", "chat.completion"),
    "messages": ("type", "message"),
}
FIRST_EVENTS = {
    "responses": b"event: response.created", "chat/completions": b'data: {"id":"chatcmpl-', "messages": b"event: message_start",
}  # fmt: skip
PREFIXES = {"responses": "resp_", "chat/completions": "chatcmpl-", "messages": "msg_"}


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_body_is_answered_in_its_own_dialect_whatever_its_path(tmp_path: Path, case: Case) -> None:
    speaks = "anthropic" if case.dialect == "openai" else "openai"
    async with both(tmp_path, dialect=speaks) as (running, source):
        source.plays(WHOLE_ANSWERS[speaks])
        client = await running.client()
        client.post(json.dumps(case.body).encode(), path=case.path)
        answer = await client.answer()
        name, kind = KINDS[case.endpoint]
        assert (answer.status, answer.json[name]) == (200, kind)
        assert answer.json["id"].startswith(PREFIXES[case.endpoint])
        (record,) = await running.records()
        assert (record["endpoint"], record["dialect"]) == (case.endpoint, case.dialect)
        assert record["asked_at"] == case.path.removeprefix("/v1/")
        assert record["ending"] == "completed"


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_stream_and_its_break_are_in_the_dialect_of_the_body(tmp_path: Path, case: Case) -> None:
    speaks = "anthropic" if case.dialect == "openai" else "openai"
    async with both(tmp_path, dialect=speaks) as (running, source):
        client = await running.client()
        for ends in (LAST_CHUNK, CLOSE):
            events = STREAMS[speaks] if ends == LAST_CHUNK else STREAMS[speaks][:4]
            source.plays(head() + b"".join(map(chunk, events)), ends)
            client.post(json.dumps(case.body | {"stream": True}).encode(), path=case.path)
            assert (await client.head()).headers["content-type"].startswith("text/event-stream")
            got = b""
            while ends == LAST_CHUNK and (piece := await client.chunk()):
                got += piece
            got = got or await client.read_to_end()
            assert FIRST_EVENTS[case.endpoint] in got[:200]
            is_error = b"event: error" in got or b'data: {"error":' in got
            assert is_error is (ends == CLOSE)
        assert [one["ending"] for one in await running.records()] == ["completed", "broken"]


CURSORS: dict[str, Any] = {
    "model": "m", "stream": True, "stream_options": {"include_usage": True}, "store": False, "text": {"verbosity": "low"},
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "medium", "summary": "auto"},
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}],
}  # fmt: skip


@pytest.mark.parametrize("speaks", STREAMS)
async def test_a_client_that_reads_chat_completions_gets_them_though_its_body_is_of_responses(
    tmp_path: Path, speaks: str
) -> None:
    async with both(tmp_path, dialect=speaks) as (running, source):
        source.plays(head() + b"".join(map(chunk, STREAMS[speaks])) + LAST_CHUNK)
        client = await running.client()
        client.post(json.dumps(CURSORS).encode(), path=CHAT)
        answer = await client.answer()
        assert answer.status == 200
        assert text_of_stream("openai", answer.body) == "one two"
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert b'"total_tokens":' in answer.body or b'"prompt_tokens"' in answer.body
        assert "text.verbosity" in answer.headers["x-kyma-dropped"]
        sent = json.loads(source.received[0].body)
        assert sent["model"] == "real-0"
        assert sent["messages"][-1]["role"] == "user"
        assert len(sent["tools"]) == 1
        (record,) = await running.records()
        assert (record["endpoint"], record["asked_at"]) == ("chat/completions", "chat/completions")
        assert (record["completion_tokens"], record["ending"]) == (3, "completed")


async def test_options_of_a_stream_change_nothing_for_callers_of_responses(tmp_path: Path) -> None:
    body = {"model": "m", "input": "hi", "stream_options": {"include_obfuscation": False}}
    async with both(tmp_path, dialect="openai") as (running, source):
        client = await running.client()
        client.post(json.dumps(body).encode(), path=RESPONSES)
        assert (await client.answer()).status == 200
        assert json.loads(source.received[0].body) == body | {"model": "real-0"}


async def test_what_a_chat_request_can_not_say_is_refused_in_its_dialect(tmp_path: Path) -> None:
    async with both(tmp_path, dialect="openai") as (running, source):
        client = await running.client()
        client.post(json.dumps(CURSORS | {"previous_response_id": "resp_1"}).encode(), path=CHAT)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["param"]) == (400, "previous_response_id")
        assert source.received == []


async def test_a_right_body_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async with both(tmp_path, dialect="openai") as (running, source):
        client = await running.client()
        for path, body in ((CHAT, _CHAT), (RESPONSES, _RESPONSES), ("/v1/embeddings", _RESPONSES)):
            client.post(json.dumps(body).encode(), path=path)
            assert (await client.answer()).status == 200
        lines = [one.line.split()[1] for one in source.received]
        assert lines == [CHAT, RESPONSES, "/v1/embeddings"]
        assert [json.loads(one.body) for one in source.received] == [
            body | {"model": "real-0"} for body in (_CHAT, _RESPONSES, _RESPONSES)
        ]
        assert {one["asked_at"] for one in await running.records()} == {None}


async def test_a_body_of_several_endpoints_is_that_of_its_path(tmp_path: Path) -> None:
    body = {"model": "m", "messages": TURNS, "max_tokens": 50}
    for path, dialect in ((CHAT, "openai"), (MESSAGES, "anthropic")):
        directory = tmp_path / dialect
        directory.mkdir()
        async with both(directory, dialect=dialect) as (running, source):
            source.plays(WHOLE_ANSWERS[dialect])
            client = await running.client()
            client.post(json.dumps(body).encode(), path=path)
            assert (await client.answer()).status == 200
            assert source.received[0].line.split()[1] == path


async def test_an_error_is_in_the_dialect_of_the_body(tmp_path: Path) -> None:
    async with both(tmp_path, dialect="openai") as (running, _):
        client = await running.client()
        client.post(json.dumps(_MESSAGES | {"model": "none"}).encode(), path=CHAT)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")
