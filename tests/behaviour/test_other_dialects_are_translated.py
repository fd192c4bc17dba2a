"""A caller of one dialect is served by sources of the other, and every promise holds: the commit, the truth, the layers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness import CLOSE, LAST_CHUNK, Client, chunk, gateway, head, providers, until, whole

CHUNKS = [
    {"id": "c1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "one "}}]},
    {"id": "c1", "choices": [{"index": 0, "delta": {"content": "two"}}]},
    {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "c1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
]
EVENTS = [
    {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]
OPENAI = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in CHUNKS] + [b"data: [DONE]\n\n"]
ANTHROPIC = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in EVENTS]
STREAMS = {"openai": OPENAI, "anthropic": ANTHROPIC}
WHOLE = {
    "openai": {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    },
    "anthropic": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "x", "content": [{"type": "text", "text": "one two"}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 3},
    },
}  # fmt: skip
OTHER = {"openai": "anthropic", "anthropic": "openai"}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def configuration(*dialects: str, ports: list[int], more: str = "") -> str:
    """A model `m` with one source a dialect, in this order."""
    made = "".join(
        f"  - {{name: p{at}, base_url: 'http://127.0.0.1:{port}/v1', dialect: {dialect}, "
        f"api_key: key-{at}, warm_connections: 0}}\n"
        for at, (dialect, port) in enumerate(zip(dialects, ports, strict=True))
    )
    pool = ", ".join(f"{{provider: p{at}, model: real-{at}}}" for at in range(len(dialects)))
    return (
        f"defaults: {{policy: priority, timeouts: {{first_byte: 5s, idle: 300ms}}}}\nproviders:\n{made}"
        f"models:\n  - {{id: m, price: {{input: 1, output: 2}}, pool: [{pool}]}}\n{more}"
    )


def ask(client: Client, dialect: str, **members: Any) -> None:
    document = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]} | members
    body = json.dumps(document).encode()
    client.send(f"POST {PATHS[dialect]} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


def words(dialect: str, body: bytes) -> str:
    """The text of a stream."""
    said = ""
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if dialect == "anthropic":
                said += event.get("delta", {}).get("text", "")
            else:
                said += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
    return said


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_whole_answer(tmp_path: Path, dialect: str) -> None:
    async with providers(1) as (source,):
        source.plays(whole(json.dumps(WHOLE[OTHER[dialect]]).encode()))
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect)
            answer = await client.answer()
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            said = answer.json["content"][0] if dialect == "anthropic" else answer.json["choices"][0]["message"]
            assert "one two" in said.values()
            assert answer.json["model"] == "m"
            sent = source.received[0]
            assert sent.line == f"POST {PATHS[OTHER[dialect]]} HTTP/1.1"
            assert json.loads(sent.body)["model"] == "real-0"
            record = (await running.records())[0]
            assert (record["prompt_tokens"], record["completion_tokens"], record["usage_source"]) == (7, 3, "reported")
            assert (record["dialect"], record["ending"]) == (dialect, "completed")


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_stream_event_by_event(tmp_path: Path, dialect: str) -> None:
    gates = [asyncio.Event() for _ in range(2)]
    pieces = STREAMS[OTHER[dialect]]
    async with providers(1) as (source,):
        first = next(at for at, piece in enumerate(pieces) if b"one " in piece) + 1
        source.plays(head() + b"".join(map(chunk, pieces[:first])), gates[0], b"".join(map(chunk, pieces[first:])) + LAST_CHUNK)
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            opening = await client.head()
            assert opening.headers["content-type"].startswith("text/event-stream")
            got = b""
            while "one " not in words(dialect, got):
                got += await client.chunk()
            gates[0].set()
            while piece := await client.chunk():
                got += piece
            assert words(dialect, got) == "one two"
            assert got.rstrip().endswith(b"[DONE]" if dialect == "openai" else b'{"type":"message_stop"}')
            record = (await running.records())[0]
            assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (7, 3, "completed")


@pytest.mark.parametrize("dialect", OTHER)
async def test_who_asks_for_a_stream_gets_one_though_the_source_answers_in_one_piece(tmp_path: Path, dialect: str) -> None:
    async with providers(1) as (source,):
        source.plays(whole(json.dumps(WHOLE[OTHER[dialect]], indent=1).encode()))
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            answer = await client.answer()
            assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
            assert words(dialect, answer.body) == "one two"
            assert answer.body.rstrip().endswith(b"[DONE]" if dialect == "openai" else b'{"type":"message_stop"}')
            record = (await running.records())[0]
            assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (7, 3, "completed")


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("how", ["closes", "ends without its end", "is silent"])
async def test_a_stream_that_is_cut_is_never_passed_off_as_whole(tmp_path: Path, dialect: str, how: str) -> None:
    pieces = STREAMS[OTHER[dialect]]
    begun = head() + b"".join(map(chunk, pieces[: 4 if OTHER[dialect] == "anthropic" else 2]))
    async with providers(1) as (source,):
        source.plays(
            *{"closes": (begun, CLOSE), "ends without its end": (begun + LAST_CHUNK,)}.get(how, (begun, asyncio.Event()))
        )
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            await client.head()
            got = await client.rest()
            assert b'"error"' in got
            assert b"[DONE]" not in got
            assert b"message_stop" not in got
            record = (await running.records())[0]
            assert record["ending"] == "broken"
            await running.is_at_rest()


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_error_of_the_source_is_told_in_the_callers_dialect(tmp_path: Path, dialect: str) -> None:
    errors = {
        "openai": {"error": {"message": "too long", "type": "invalid_request_error", "param": None, "code": None}},
        "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}},
    }
    async with providers(1) as (source,):
        source.plays(whole(json.dumps(errors[OTHER[dialect]]).encode(), status="400 Bad Request"))
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            answer = await client.answer()
            assert (answer.status, answer.json["error"]["message"]) == (400, "too long")
            assert ("type" in answer.json) is (dialect == "anthropic")
            if dialect == "anthropic":
                assert answer.json["request_id"] == answer.headers["x-request-id"]
            assert (await running.records())[0]["ending"] == "relayed_error"


@pytest.mark.parametrize("dialect", OTHER)
async def test_who_speaks_the_callers_dialect_comes_first_and_the_other_steps_in(tmp_path: Path, dialect: str) -> None:
    async with providers(2) as (foreign, native):
        native.plays(whole(json.dumps(WHOLE[dialect]).encode()), whole(b"{}", status="503 Busy"))
        foreign.plays(whole(json.dumps(WHOLE[OTHER[dialect]]).encode()))
        text = configuration(OTHER[dialect], dialect, ports=[foreign.port, native.port])
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            ask(client, dialect)
            answer = await client.answer()
            assert "x-kyma-fallback" not in answer.headers
            assert answer.body == json.dumps(WHOLE[dialect]).encode()  # bytes stay bytes
            native.plays(whole(b"{}", status="503 Busy"))
            ask(client, dialect)
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"


async def test_what_can_not_be_said_does_not_keep_others_from_answering(tmp_path: Path) -> None:
    async with providers(2) as (foreign, native):
        text = configuration("anthropic", "openai", ports=[foreign.port, native.port])
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            native.plays(whole(json.dumps(WHOLE["openai"]).encode()))
            ask(client, "openai", n=2)
            assert (await client.answer()).status == 200
            assert foreign.received == []


@pytest.mark.parametrize("body", [b"<html>no</html>", b"[]", b"", b'{"choices": 1}'])
@pytest.mark.parametrize("dialect", OTHER)
async def test_an_answer_that_is_none_leads_on(tmp_path: Path, dialect: str, body: bytes) -> None:
    async with providers(2) as (odd, fine):
        odd.plays(whole(body))
        fine.plays(whole(json.dumps(WHOLE[OTHER[dialect]]).encode()))
        text = configuration(OTHER[dialect], OTHER[dialect], ports=[odd.port, fine.port])
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            ask(client, dialect)
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_caller_who_leaves_is_noticed(tmp_path: Path, dialect: str) -> None:
    async with providers(1) as (source,):
        source.plays(head() + b"".join(map(chunk, STREAMS[OTHER[dialect]][:3])), asyncio.Event())
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            await client.head()
            (exchange,) = [one.exchange for one in running.app.gateway.live]
            assert exchange.inbound.body == b""
            (attempt,) = exchange.attempts
            assert attempt.pump.body.translation is None  # the prompt is not kept twice either
            client.leave()
            await until(lambda: source.open == 0)
            assert (await running.records())[0]["ending"] == "client_gone"


async def test_no_field_of_a_dialect_crosses_over(tmp_path: Path) -> None:
    async with providers(1) as (source,):
        source.plays(whole(json.dumps(WHOLE["openai"]).encode()))
        async with gateway(configuration("openai", ports=[source.port]), tmp_path) as running:
            client = await running.client()
            body = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]}'
            client.send(
                b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: a\r\nx-api-key: secret\r\nanthropic-version: 2023-06-01\r\n"
                b"anthropic-beta: new-thing\r\nx-own: kept\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            assert (await client.answer()).status == 200
            assert source.received[0].line == "POST /v1/chat/completions HTTP/1.1"
            sent = source.received[0].headers
            assert not [name for name in sent if name.startswith(("anthropic-", "x-api-key"))]
            assert (sent["x-own"], sent["authorization"]) == ("kept", "Bearer key-0")


async def test_what_is_meant_for_an_anthropic_source_reaches_it_from_any_caller(tmp_path: Path) -> None:
    async with providers(1) as (source,):
        source.plays(whole(json.dumps(WHOLE["anthropic"]).encode()))
        async with gateway(configuration("anthropic", ports=[source.port]), tmp_path) as running:
            client = await running.client()
            body = b'{"model":"m","messages":[{"role":"user","content":"a"}]}'
            client.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n"
                b"anthropic-beta: new-thing\r\nanthropic-version: 2099-01-01\r\nopenai-beta: b\r\n"
                b"openai-organization: o\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            assert (await client.answer()).status == 200
            sent = source.received[0].headers
            assert (sent["anthropic-beta"], sent["anthropic-version"], sent["x-api-key"]) == (
                "new-thing",
                "2099-01-01",
                "key-0",
            )
            assert not [name for name in sent if name.startswith(("openai-", "authorization"))]


BAD_ENDS = {
    "openai": {
        "broken JSON": b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"x}\n\n',
        "half a character": 'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"ä'.encode()[:-1],
        "no reason": b"",
    },
    "anthropic": {
        "broken JSON": b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x}\n\n',
        "half a character": 'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ä'.encode()[
            :-1
        ],
        "no reason": b"",
    },
}


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("how", BAD_ENDS["openai"])
async def test_a_stream_that_ends_badly_is_told_as_broken_and_what_came_has_gone_out(
    tmp_path: Path, dialect: str, how: str
) -> None:
    pieces = STREAMS[OTHER[dialect]]
    end = max(at for at, piece in enumerate(pieces) if b"two" in piece) + 1
    begun = b"".join(map(chunk, pieces[:end]))
    bad = BAD_ENDS[OTHER[dialect]][how]
    async with providers(1) as (source,):
        source.plays(head() + begun + (chunk(bad) if bad else b"") + LAST_CHUNK)
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            await client.head()
            got = await client.rest()
            assert words(dialect, got) == "one two"
            assert got.count(b'"error":') == 1
            assert b"[DONE]" not in got
            assert b"message_stop" not in got
            assert (await running.records())[0]["ending"] == "broken"
            await running.is_at_rest()


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_event_of_a_megabyte_is_told_whole(tmp_path: Path, dialect: str) -> None:
    long = "0123456789abcdef" * 65_536
    pieces = [piece.replace(b"one ", long.encode()) for piece in STREAMS[OTHER[dialect]]]
    async with providers(1) as (source,):
        source.plays(head() + b"".join(map(chunk, pieces)) + LAST_CHUNK)
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            answer = await client.answer()
            assert words(dialect, answer.body) == f"{long}two"
            assert (await running.records())[0]["ending"] == "completed"


async def test_tokens_are_counted_about_where_no_source_can(tmp_path: Path) -> None:
    async with providers(1) as (source,), gateway(configuration("openai", ports=[source.port]), tmp_path) as running:
        client = await running.client()
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 400}]}).encode()
        request = f"POST /v1/messages/count_tokens HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
        client.send(request.encode() + body)
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-estimated"]) == (200, "true")
        assert 450 <= answer.json["input_tokens"] <= 550
        assert source.received == []
        record = (await running.records())[0]
        assert (record["ending"], record["attempts"], record["cost_usd"]) == ("completed", [], None)


@pytest.mark.parametrize("answers", ["404 Not Found", "400 Bad Request", "503 Busy"])
async def test_tokens_are_counted_about_where_a_source_says_that_it_can_not(tmp_path: Path, answers: str) -> None:
    async with providers(2) as sources:
        for source in sources:
            source.plays(whole(b"{}", status=answers))
        text = configuration("anthropic", "anthropic", ports=[source.port for source in sources])
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            body = b'{"model":"m","messages":[{"role":"user","content":"one two three"}]}'
            client.post(body, path="/v1/messages/count_tokens")
            answer = await client.answer()
            record = (await running.records())[0]
            if answers == "404 Not Found":
                assert (answer.status, answer.headers["x-kyma-estimated"]) == (200, "true")
                assert (record["ending"], len(record["attempts"])) == ("completed", 2)
            else:
                assert answer.status == (400 if answers == "400 Bad Request" else 502)
                assert "x-kyma-estimated" not in answer.headers


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_error_in_mid_stream_is_told_once(tmp_path: Path, dialect: str) -> None:
    pieces = STREAMS[OTHER[dialect]]
    error = {
        "openai": {"error": {"message": "overloaded"}},
        "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
    }
    told = f"event: error\ndata: {json.dumps(error[OTHER[dialect]])}\n\n".encode()
    begun = b"".join(map(chunk, [*pieces[:2], told]))
    async with providers(1) as (source,):
        source.plays(head() + begun + LAST_CHUNK)
        async with gateway(configuration(OTHER[dialect], ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, stream=True)
            await client.head()
            got = await client.rest()
            assert got.count(b'"error":') == 1
            assert (await running.records())[0]["ending"] == "broken"


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LOOKS = {
    "openai": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
}


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("has_eyes", [True, False])
async def test_an_image_is_for_models_with_eyes(tmp_path: Path, dialect: str, has_eyes: bool) -> None:
    async with providers(1) as (source,):
        source.plays(whole(json.dumps(WHOLE[OTHER[dialect]]).encode()))
        text = configuration(OTHER[dialect], ports=[source.port])
        if has_eyes:
            text = text.replace("id: m, ", "id: m, input_modalities: [text, image], ")
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            ask(
                client,
                dialect,
                messages=[{"role": "user", "content": [LOOKS[dialect], {"type": "text", "text": "What is it?"}]}],
            )
            answer = await client.answer()
            assert answer.status == (200 if has_eyes else 400)
            if has_eyes:
                assert PIXEL.encode() in source.received[0].body
            else:
                assert "takes no images" in answer.json["error"]["message"]
                assert source.received == []


CALLING = WHOLE["openai"] | {
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "I run it.",
                "tool_calls": [{"id": "functions.Bash:0", "type": "function", "function": {"name": "Bash", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        }
    ]
}


async def test_a_conversation_can_change_its_source_between_a_call_and_its_result(tmp_path: Path) -> None:
    async with providers(2) as (foreign, native):
        native.plays(whole(b"{}", status="503 Busy"))
        foreign.plays(whole(json.dumps(CALLING).encode()))
        text = configuration("openai", "anthropic", ports=[foreign.port, native.port])
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            thinks = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
            ask(client, "anthropic", **thinks)
            called = (await client.answer()).json["content"]
            result = {"type": "tool_result", "tool_use_id": called[-1]["id"], "content": "42"}
            turns = [
                {"role": "user", "content": "Run it."},
                {"role": "assistant", "content": called},
                {"role": "user", "content": [result]},
            ]
            native.plays(whole(json.dumps(WHOLE["anthropic"]).encode()))
            ask(client, "anthropic", messages=turns, **thinks)
            answer = await client.answer()
            assert answer.headers["x-kyma-dropped"] == "messages[1].content[0], thinking"
            sent = json.loads(native.received[-1].body)
            use = sent["messages"][1]["content"][0]
            assert sent == {"model": "real-1", "max_tokens": 4000, "messages": [
                turns[0], {"role": "assistant", "content": [use]}, turns[2],
            ]}  # fmt: skip
            assert use["id"] == sent["messages"][2]["content"][0]["tool_use_id"]
            assert set(use["id"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")

            native.plays(whole(b"{}", status="503 Busy"))  # and the source that called sees its own id again
            foreign.plays(whole(json.dumps(WHOLE["openai"]).encode()))
            ask(client, "anthropic", messages=turns, **thinks)
            await client.answer()
            _, call, told = json.loads(foreign.received[-1].body)["messages"]
            assert call["tool_calls"][0]["id"] == told["tool_call_id"] == "functions.Bash:0"


@pytest.mark.parametrize("speaks", OTHER)
@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("shows", [True, False])
async def test_a_substitute_without_eyes_is_not_asked_about_an_image(
    tmp_path: Path, dialect: str, speaks: str, shows: bool
) -> None:
    async with providers(2) as (source, substitute):
        source.plays(whole(b"{}", status="503 Busy"))
        substitute.plays(whole(json.dumps(WHOLE[speaks]).encode()))
        text = configuration(dialect, speaks, ports=[source.port, substitute.port])
        text = text[: text.index("models:")] + (
            "models:\n  - {id: m, input_modalities: [text, image], pool: [{provider: p0, model: real-0}]}\n"
            "  - {id: blind, pool: [{provider: p1, model: real-1}]}\nfallbacks: {m: [blind]}\n"
        )
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            said = {"type": "text", "text": 'Not an image: {"type": "image"}'}
            content = [LOOKS[dialect], said] if shows else [said]
            ask(client, dialect, messages=[{"role": "user", "content": content}])
            answer = await client.answer()
            if not shows:
                assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "3")
                return
            assert answer.status == 502
            assert "503" in answer.json["error"]["message"]
            assert substitute.received == []


@pytest.mark.parametrize("dialect", OTHER)
async def test_who_asks_for_a_model_without_eyes_by_its_name_hears_what_its_source_says(tmp_path: Path, dialect: str) -> None:
    async with providers(1) as (source,):
        source.plays(whole(b'{"error":"blind"}', status="400 Bad Request"))
        async with gateway(configuration(dialect, ports=[source.port]), tmp_path) as running:
            client = await running.client()
            ask(client, dialect, messages=[{"role": "user", "content": [LOOKS[dialect]]}])
            answer = await client.answer()
            assert (answer.status, answer.body) == (400, b'{"error":"blind"}')


THINKING = WHOLE["openai"] | {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "No.", "reasoning_content": "7 times 13."},
            "finish_reason": "stop",
        }
    ]
}


async def test_a_thought_that_nobody_has_signed_shuts_no_conversation_out_from_anthropic(tmp_path: Path) -> None:
    async with providers(2) as (foreign, native):
        native.plays(whole(b"{}", status="503 Busy"))
        foreign.plays(whole(json.dumps(THINKING).encode()))
        text = configuration("openai", "anthropic", ports=[foreign.port, native.port])
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            ask(client, "anthropic")
            first = await client.answer()
            thought, said = first.json["content"]
            assert (thought["type"], said["text"]) == ("thinking", "No.")
            assert thought["signature"]

            native.plays(whole(json.dumps(WHOLE["anthropic"]).encode()))
            turns = [{"role": "user", "content": "Is 91 prime?"}, {"role": "assistant", "content": first.json["content"]}]
            ask(client, "anthropic", messages=turns)
            answer = await client.answer()
            assert "x-kyma-fallback" not in answer.headers
            assert answer.headers["x-kyma-dropped"] == "messages[1].content[0]"
            assert answer.body == json.dumps(WHOLE["anthropic"]).encode()
            sent = json.loads(native.received[-1].body)
            assert sent == {"model": "real-1", "max_tokens": 50, "messages": [turns[0], turns[1] | {"content": [said]}]}

            native.plays(whole(b"{}", status="503 Busy"))  # and the source that had the thought gets it back
            foreign.plays(whole(json.dumps(WHOLE["openai"]).encode()))
            ask(client, "anthropic", messages=turns)
            assert "x-kyma-dropped" not in (await client.answer()).headers
            assert json.loads(foreign.received[-1].body)["messages"][1]["reasoning_content"] == "7 times 13."
