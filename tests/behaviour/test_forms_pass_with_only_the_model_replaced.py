"""A form is passed on with its `model` replaced, wherever that stands, and the transcript as it comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.accounts_harness import accounts_gateway
from tests.forms import BOUNDARY, end, field, file, form_type, wav
from tests.harness import CLOSE, LAST_CHUNK, Answer, Client, both, chunk, head, providers, whole
from tests.waiting import until

SOUND = wav(3000)
TRANSCRIPT = b'{"text":"hello","usage":{"type":"duration","seconds":3}}'
FIRST = field("model", b"m") + field("response_format", b"json") + file(SOUND) + end()
LAST = file(SOUND) + field("temperature", b"0") + field("model", b"m") + end()
PATHS = ["/v1/audio/transcriptions", "/v1/audio/translations"]


async def ask(client: Client, body: bytes, *, path: str = PATHS[0], more: str = "") -> Answer:
    client.post(body, path=path, more=form_type() + more)
    return await client.answer()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [FIRST, LAST], ids=["first", "last"])
async def test_every_other_byte_arrives_as_it_was_sent(tmp_path: Path, path: str, body: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(TRANSCRIPT))
        answer = await ask(await gateway.client(), body, path=path)
        assert (answer.status, answer.body) == (200, TRANSCRIPT)
        (received,) = provider.received
        assert received.line == f"POST {path} HTTP/1.1"
        assert received.body == body.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nreal-0\r\n")
        assert received.headers["content-type"] == f"multipart/form-data; boundary={BOUNDARY.decode()}"
        assert received.headers["content-length"] == str(len(received.body))
        (record,) = await gateway.records()
        assert (record["endpoint"], record["model"], record["bytes_in"]) == (path[4:], "m", len(body))


@pytest.mark.parametrize("size", [1, 3, 97, 4096])
async def test_a_form_may_come_in_pieces_of_any_size(tmp_path: Path, size: int) -> None:
    body = file(SOUND[:1500]) + field("model", b"m") + end()
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(TRANSCRIPT))
        client = await gateway.client()
        client.send(f"POST {PATHS[0]} HTTP/1.1\r\nhost: a\r\n{form_type()}content-length: {len(body)}\r\n\r\n".encode())
        for at in range(0, len(body), size):
            client.send(body[at : at + size])
            await client.writer.drain()
        assert (await client.answer()).body == TRANSCRIPT
        assert provider.received[0].body == body.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nreal-0\r\n")


async def test_a_form_in_chunks_is_sent_on_with_a_length(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(TRANSCRIPT))
        client = await gateway.client()
        client.send(f"POST {PATHS[0]} HTTP/1.1\r\nhost: a\r\n{form_type()}transfer-encoding: chunked\r\n\r\n".encode())
        client.send(chunk(LAST[:1000]) + chunk(LAST[1000:]) + LAST_CHUNK)
        assert (await client.answer()).body == TRANSCRIPT
        assert provider.received[0].headers["content-length"] == str(len(LAST) + len("real-0") - len("m"))


async def test_a_form_is_sent_to_the_next_source_if_one_fails(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (gateway, first, second):
        first.plays(whole(b"{}", status="429 Too Many Requests"))
        second.plays(whole(TRANSCRIPT))
        answer = await ask(await gateway.client(), LAST)
        assert (answer.body, answer.headers["x-kyma-fallback-layer"]) == (TRANSCRIPT, "1")
        assert first.received[0].body == LAST.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nreal-0\r\n")
        assert second.received[0].body == LAST.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nreal-1\r\n")


@pytest.mark.parametrize(("kind", "body"), [
    ("text/plain; charset=utf-8", b"hello\n"), ("text/plain", b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n"),
    ("text/vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n"), ("application/json", b'{"text":""}'),
    ("text/plain", b"{a transcript of a brace"),
    ("application/json; charset=utf-8", b'{"task":"transcribe","text":"x","words":[]}'),
])  # fmt: skip
async def test_a_transcript_passes_in_every_form_that_a_caller_may_ask_for(tmp_path: Path, kind: str, body: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(body, kind=kind))
        answer = await ask(await gateway.client(), FIRST)
        assert (answer.body, answer.headers["content-type"]) == (body, kind)


async def test_a_streamed_transcript_passes_event_by_event(tmp_path: Path) -> None:
    delta = b'data: {"type":"transcript.text.delta","delta":"hel"}\n\n'
    done = b'data: {"type":"transcript.text.done","text":"hello","usage":{"type":"duration","seconds":3}}\n\n'
    async with both(tmp_path) as (gateway, provider):
        go_on = asyncio.Event()
        provider.plays(head() + chunk(delta), go_on, chunk(done) + LAST_CHUNK)
        client = await gateway.client()
        client.post(field("stream", b"true") + FIRST, path=PATHS[0], more=form_type())
        await client.head()
        assert await client.chunk() == delta
        go_on.set()
        assert await client.rest() == done
        (record,) = await gateway.records()
        assert (record["stream"], record["ending"]) == (True, "completed")


@pytest.mark.parametrize("bad", [
    whole(b"<html>Sign in</html>", kind="text/html"), whole(b'{"error":{"message":"busy"}}'), whole(b"", kind="text/plain"),
    whole(b'{"detail":"queued"}'), whole(b'{"text":null}'), whole(TRANSCRIPT)[:-3],
])  # fmt: skip
async def test_what_is_no_transcript_leads_to_the_next_source(tmp_path: Path, bad: bytes) -> None:
    async with both(tmp_path, 2) as (gateway, first, second):
        first.plays(bad, CLOSE)
        second.plays(whole(TRANSCRIPT))
        assert (await ask(await gateway.client(), FIRST)).body == TRANSCRIPT


@pytest.mark.parametrize(("kind", "body", "status"), [
    (form_type(), field("model", b"m") + FIRST, 400), (form_type(), file(SOUND) + end(), 400), (form_type(), FIRST[:-9], 400),
    ("content-type: application/json\r\n", b'{"model":"m"}', 415), ("", FIRST, 415), (form_type() * 2, FIRST, 400),
    (form_type(b"other"), FIRST, 400), (form_type(), FIRST.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nunknown\r\n"), 404),
])  # fmt: skip
async def test_a_form_that_can_not_be_served_reaches_no_source(tmp_path: Path, kind: str, body: bytes, status: int) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.post(body, path=PATHS[0], more=kind)
        answer = await client.answer()
        assert answer.status == status
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}
        assert provider.received == []


MINUTES = "price: {per_minute: 0.006}"
TOKENS = "price: {input: 2.5, output: 10}"


@pytest.mark.parametrize("case", [
    (MINUTES, FIRST, TRANSCRIPT, 0.0003, "reported"),
    (MINUTES, FIRST, b'{"text":"x","duration":2.5}', 0.00025, "reported"),
    (MINUTES, FIRST, b'{"text":"x","duration":"2.5"}', 0.00025, "reported"),
    (MINUTES, FIRST, b'{"text":"x"}', 0.0003003, "estimated"),  # by the head of the WAV file
    (MINUTES, LAST.replace(b"RIFF", b"OggS"), b'{"text":"x"}', 48_044 / 4000 / 60 * 0.006, "estimated"),  # 32 kbit/s
    (TOKENS, FIRST, b'{"text":"x","usage":{"type":"tokens","input_tokens":30,"output_tokens":5,"total_tokens":35}}',
     (30 * 2.5 + 5 * 10) / 1e6, "reported"),
])  # fmt: skip
async def test_a_transcript_is_charged_by_what_was_reported_or_else_by_the_size_of_the_sound(
    tmp_path: Path, case: tuple[str, bytes, bytes, float, str]
) -> None:
    price, form, answer, usd, source = case
    models = f"  - {{id: w, {price}, pool: [{{provider: p0, model: x}}]}}\n"
    async with providers() as (provider,), accounts_gateway(tmp_path, provider.port, models=models) as made:
        provider.plays(whole(answer))
        caller = await made.caller()
        body = form.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nw\r\n")
        assert (await ask(caller.client, body, more=f"authorization: Bearer {caller.secret}\r\n")).status == 200
        (record,) = await made.running.records()
        assert (record["usage_source"], record["cost_usd"]) == (source, pytest.approx(usd, abs=2e-9))
        assert (await caller.balance())["balance"] == pytest.approx(1 - usd, abs=2e-9)


async def test_a_sound_that_may_cost_more_than_there_is_reaches_no_source(tmp_path: Path) -> None:
    models = "  - {id: w, price: {per_minute: 100}, pool: [{provider: p0, model: x}]}\n"
    async with providers() as (provider,), accounts_gateway(tmp_path, provider.port, models=models) as made:
        caller = await made.caller()
        body = LAST.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nw\r\n")
        answer = await ask(caller.client, body, more=f"authorization: Bearer {caller.secret}\r\n")
        assert (answer.status, provider.received) == (402, [])


async def test_the_source_of_a_caller_who_left_is_told_at_once(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays("silence")
        client = await gateway.client()
        client.post(FIRST, path=PATHS[0], more=form_type())
        await until(lambda: bool(provider.received))
        client.leave()
        await until(lambda: provider.open == 0)
        assert (await gateway.records())[0]["ending"] == "client_gone"
