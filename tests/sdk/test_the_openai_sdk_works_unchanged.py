"""The official OpenAI SDK works as it is: only its base URL is changed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from kyma_proxy.simulated.image_drawing import draw, make_sketch
from tests.configurations import ProviderEntry, configuration, listeners
from tests.forms import wav
from tests.processes import GatewayProcess, free_port, relayed, serving, simulated_provider
from tests.waiting import wait_until

TALK: Any = [{"role": "user", "content": "Tell me of Atlantis"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
CALLED: Any = {"tools": [TOOL], "tool_choice": "required"}


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    """A client with one connection and without retries."""
    http = httpx2.Client(limits=httpx2.Limits(max_connections=1))
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key="ky-any", max_retries=0, timeout=10, http_client=http) as client:
        yield client


@pytest.fixture
async def aclient(gateway: GatewayProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key="ky-any", max_retries=0, timeout=30) as client:
        yield client


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_chat_completion(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sim", messages=TALK)
    assert "simulated provider" in str(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 4


def test_a_streamed_chat_completion(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="sim", messages=TALK, stream=True))
    assert "simulated provider" in text_of(chunks)
    assert len(chunks) > 20
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_reports_its_usage_if_include_usage_is_set(client: openai.OpenAI) -> None:
    *_, last = client.chat.completions.create(model="sim", messages=TALK, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.prompt_tokens == 4


async def test_chat_completions_of_the_async_client(aclient: openai.AsyncOpenAI) -> None:
    answer = await aclient.chat.completions.create(model="sim", messages=TALK)
    stream = await aclient.chat.completions.create(model="sim", messages=TALK, stream=True)
    assert text_of([chunk async for chunk in stream]) == answer.choices[0].message.content


def test_a_tool_call(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sim", messages=TALK, **CALLED)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"simulated"}')
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_streamed_tool_call(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="sim", messages=TALK, **CALLED) as stream:
        arguments = "".join(event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta")
        final = stream.get_final_completion()
    assert arguments == '{"city":"simulated"}'
    assert [call.function.name for call in final.choices[0].message.tool_calls or ()] == ["get_weather"]


def test_sound_is_spoken(client: openai.OpenAI, tmp_path: Path) -> None:
    spoken = client.audio.speech.create(model="sim", voice="alloy", input="Hello")
    assert spoken.content.startswith(b"RIFF")
    with client.audio.speech.with_streaming_response.create(model="sim", voice="alloy", input="Hello") as response:
        response.stream_to_file(tmp_path / "hello.wav")
    assert (tmp_path / "hello.wav").read_bytes() == spoken.content


@pytest.mark.parametrize("form", ["json", "verbose_json", "text", "srt", "vtt"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sound_is_written_down(client: openai.OpenAI, form: Any) -> None:
    sound = ('a "quoted" é.wav', wav(1500))
    written: Any = client.audio.transcriptions.create(model="sim", file=sound, response_format=form, language="en")
    translated: Any = client.audio.translations.create(model="sim", file=sound, response_format=form)
    for one in (written, translated):
        assert "transcript of the simulated provider" in (one if isinstance(one, str) else one.text)
    if form == "verbose_json":
        assert written.duration == 1.5


async def test_sound_is_written_down_by_the_async_client(aclient: openai.AsyncOpenAI) -> None:
    written: Any = await aclient.audio.transcriptions.create(model="sim", file=("a.wav", wav(1500)))
    assert (written.usage.type, written.usage.seconds) == ("duration", 2)


def test_texts_are_judged(client: openai.OpenAI) -> None:
    judged = client.moderations.create(model="sim", input=["Peace", "Violence"])
    assert [one.flagged for one in judged.results] == [False, True]


@pytest.mark.parametrize("call", [
    lambda client: client.files.list(), lambda client: client.batches.list(), lambda client: client.vector_stores.list(),
    lambda client: client.fine_tuning.jobs.list(), lambda client: client.beta.threads.create(),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_not_offered_is_a_not_found_error_that_says_why(client: openai.OpenAI, call: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="is not offered here"):
        call(client)


def test_model_pages_and_completions_share_one_connection(client: openai.OpenAI) -> None:
    for _ in range(3):
        assert {model.id for model in client.models.list()} == {"sim", "vendor/sim", "claude", "sketch", "retouch"}
        assert client.models.retrieve("sim").owned_by == "unknown"
        assert client.models.retrieve("vendor/sim").id == "vendor/sim"
        assert client.chat.completions.create(model="vendor/sim", messages=TALK).choices
        assert list(client.chat.completions.create(model="sim", messages=TALK, stream=True))


def test_the_headers_name_the_alias_and_the_model_that_answered(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="fast", messages=TALK, extra_headers={"x-request-id": "my-own-id"}
    )
    assert raw.headers["x-request-id"] == "my-own-id"
    assert raw.headers["x-kyma-model"] == "sim"
    assert raw.headers["x-kyma-alias"] == "fast"
    assert "x-kyma-fallback" not in raw.headers
    assert raw.parse().model == "sim-1"


def test_the_headers_name_the_layer_of_a_fallback(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with simulated_provider() as provider:
        text = configuration(
            free_port(),
            ProviderEntry(provider),
            defaults="policy: priority",
            pool=0,
            models="  - {id: pooled, pool: [{provider: p0, model: a}, {provider: p1, model: b}]}\n"
            "  - {id: reserved, pool: [{provider: p0, model: a}], reserve: [{provider: p1, model: b}]}\n"
            "  - {id: alone, pool: [{provider: p0, model: a}]}\n",
            more=f"fallbacks: {{alone: [pooled]}}\n{listeners(address, access_log=tmp_path / 'access.log')}",
        )
        with serving(text, tmp_path, f"http://{address}"), openai.OpenAI(base_url=f"http://{address}/v1", api_key="-") as sdk:
            for model, layer, answering in (
                ("pooled", "1", "pooled"),
                ("reserved", "2", "reserved"),
                ("alone", "3", "pooled"),
            ):
                raw = sdk.chat.completions.with_raw_response.create(model=model, messages=TALK)
                assert raw.headers["x-kyma-fallback"] == "true"
                assert raw.headers["x-kyma-fallback-layer"] == layer
                assert raw.headers["x-kyma-model"] == answering
                assert raw.parse().model == "b"


def test_the_request_id_is_the_one_in_the_access_log(client: openai.OpenAI, gateway: GatewayProcess) -> None:
    answer = client.chat.completions.create(model="sim", messages=TALK)
    wait_until(lambda: any(one["request_id"] == answer._request_id for one in relayed(gateway.log)))
    (record,) = [one for one in relayed(gateway.log) if one["request_id"] == answer._request_id]
    assert record["provider_request_id"].startswith("req_")
    assert (record["ending"], record["prompt_tokens"], record["usage_source"]) == ("completed", 4, "reported")
    assert "Atlantis" not in gateway.log.read_text()


def test_a_legacy_completion(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="sim", prompt="Tell me of Atlantis")
    chunks = list(client.completions.create(model="sim", prompt="Tell me of Atlantis", stream=True))
    assert "simulated provider" in whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="sim", input=["one", "two"])
    assert [len(entry.embedding) for entry in answer.data] == [256, 256]


def test_a_response_of_the_responses_api(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="sim", input="Tell me of Atlantis")
    assert answer.status == "completed"
    assert "simulated provider" in answer.output_text


def test_a_streamed_response_of_the_responses_api(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="sim", input="Tell me of Atlantis", stream=True))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert "simulated provider" in "".join(event.delta for event in events if event.type == "response.output_text.delta")


def test_an_unknown_model_is_not_found_and_the_closest_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean sim") as caught:
        client.chat.completions.create(model="simm", messages=TALK)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError, match="no model simm"):
        client.models.retrieve("simm")


def test_a_bad_request_of_the_provider_or_of_the_gateway_is_raised_as_one(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="one choice") as caught:
        client.chat.completions.create(model="sim", messages=TALK, n=2)
    assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
        client.embeddings.create(model="claude", input="a")
    assert client.chat.completions.create(model="sim", messages=TALK).choices


async def test_fifty_streams_at_once(aclient: openai.AsyncOpenAI) -> None:
    async def one(number: int) -> str:
        talk: Any = [{"role": "user", "content": "x" * number}]
        stream = await aclient.chat.completions.create(model="sim", messages=talk, stream=True)
        return text_of([chunk async for chunk in stream])

    texts = await asyncio.gather(*(one(number) for number in range(1, 51)))
    assert all(f"had {number} characters" in text for number, text in enumerate(texts, 1))


def test_images_are_generated_while_the_client_waits(client: openai.OpenAI) -> None:
    waiting = client.with_options(default_headers={"Prefer": "wait=20"})
    images = waiting.images.generate(model="sketch", prompt="a cat on a mat", n=2, size="512x512")
    assert images.data is not None
    assert len(images.data) == 2
    picture = httpx2.get(images.data[0].url or "")
    assert (picture.status_code, picture.content[:8]) == (200, b"\x89PNG\r\n\x1a\n")


def test_images_come_as_base64_if_that_is_requested(client: openai.OpenAI) -> None:
    images = client.images.generate(
        model="sketch", prompt="a cat", response_format="b64_json", extra_headers={"Prefer": "wait=20"}
    )
    assert images.data is not None
    assert base64.b64decode(images.data[0].b64_json or "").startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("has_mask", [False, True])
def test_images_are_edited_while_the_client_waits(client: openai.OpenAI, count: int, has_mask: bool) -> None:
    picture = draw(make_sketch("A red fox", 1, 1, 64, 64))
    images: Any = ("a.png", picture) if count == 1 else [(f"{at}.png", picture) for at in range(count)]
    edited = client.images.edit(
        model="retouch", prompt="in winter", image=images, mask=("m.png", picture) if has_mask else openai.omit, n=2,
        quality="high", extra_headers={"Prefer": "wait=20"},
    )  # fmt: skip
    assert edited.data is not None
    assert len(edited.data) == 2


async def test_images_and_chat_share_an_async_client(aclient: openai.AsyncOpenAI) -> None:
    prefers = {"Prefer": "wait=20"}
    chat, images = await asyncio.gather(
        aclient.chat.completions.create(model="sim", messages=TALK),
        aclient.images.generate(model="sketch", prompt="a dog", extra_headers=prefers),
    )
    assert chat.choices[0].message.content
    assert images.data is not None
    assert images.data[0].url


def test_an_invalid_image_request_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(model="sketch", prompt="a cat", size="256x256")
    assert (refused.value.code, refused.value.param) == ("invalid_request", "size")
    with pytest.raises(openai.BadRequestError, match="is a text model"):
        client.images.generate(model="sim", prompt="a cat")


def test_a_failed_image_job_is_an_internal_server_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        client.images.generate(model="sketch", prompt="fail, please", extra_headers={"Prefer": "wait=20"})
    assert failed.value.code == "provider_error"
