"""`/v1/images/edits` takes a form with pictures and a mask, or OpenAI's JSON, and starts a job at a source that edits."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.core.jobs.edit_request import edit_members
from kyma_proxy.errors import GatewayError
from tests.accounts_harness import Caller
from tests.forms import BOUNDARY, end, field, file, form_type
from tests.harness import Answer, Provider
from tests.jobs.image_gateway import OPENAI, PRICE, URL, ImageGateway, ended_job, image_gateway, images_answer

PNG, JPEG = b"\x89PNG\r\n\x1a\n" + b"p" * 50, b"\xff\xd8\xff\xe0" + b"j" * 50
WEBP, GIF = b"RIFF....WEBPVP8 ", b"GIF89a" + b"g" * 9
TYPE = b"multipart/form-data; boundary=" + BOUNDARY
RETOUCH = ", input_modalities: [text, image], image: {most_input_images: 3, extra: [mask, quality]}"


def url(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def form(*pictures: bytes, more: bytes = b"", name: str = "image[]", model: bytes = b"retouch") -> bytes:
    files = b"".join(file(one, name=name, filename=f"{at}.bin") for at, one in enumerate(pictures))
    return files + more + field("prompt", "un été".encode()) + field("model", model) + end()


@contextlib.asynccontextmanager
async def editing(directory: Path) -> AsyncIterator[tuple[ImageGateway, Provider, Caller]]:
    source = f"price: {{image: {PRICE}}}, pool: [{{provider: p0, model: x}}]{RETOUCH}"
    models = f"  - {{id: retouch, output_modalities: [image], {source}}}\n"
    async with image_gateway(directory, OPENAI, models=models) as (images, provider):
        yield images, provider, await images.caller()


async def ask(caller: Caller, body: bytes, *, more: str = "") -> Answer:
    credential = f"authorization: Bearer {caller.secret}\r\n"
    caller.client.post(body, path="/v1/images/edits", more=form_type() + credential + more)
    return await caller.client.answer()


async def test_a_form_with_several_pictures_and_a_mask_is_a_job_at_a_source_that_edits(tmp_path: Path) -> None:
    async with editing(tmp_path) as (images, provider, caller):
        provider.plays(images_answer())
        body = form(PNG, JPEG, more=file(PNG, name="mask") + field("quality", b"high") + field("n", b"1"))
        answer = await ask(caller, body)
        assert (answer.status, answer.json["object"], answer.json["model"]) == (202, "image.job", "retouch")
        assert (await ended_job(caller, answer.json))["output"]["data"] == [{"url": URL}]
        (received,) = provider.received
        assert received.line == "POST /base/images/edits HTTP/1.1"
        assert json.loads(received.body) == {
            "model": "x", "prompt": "un été", "quality": "high", "mask": {"image_url": url(PNG, "png")},
            "images": [{"image_url": url(PNG, "png")}, {"image_url": url(JPEG, "jpeg")}],
        }  # fmt: skip
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)]


async def test_a_waiting_caller_gets_the_pictures_and_the_same_key_the_same_job(tmp_path: Path) -> None:
    async with editing(tmp_path) as (_, provider, caller):
        provider.plays(images_answer())
        body = form(WEBP, name="image")
        for _ in range(2):
            answer = await ask(caller, body, more="prefer: wait=20\r\nidempotency-key: k\r\n")
            assert (answer.status, answer.json["data"]) == (200, [{"url": URL}])
        assert len(provider.received) == 1
        other = await ask(caller, form(GIF, name="image"), more="idempotency-key: k\r\n")
        assert other.status == 409


@pytest.mark.parametrize(("body", "status", "param"), [
    (form(PNG, JPEG, GIF, WEBP), 400, "image_urls"),
    (form(b"no picture"), 400, None), (form(PNG, more=file(b"x", name="mask")), 400, "mask"),
    (form(PNG, more=file(PNG, name="sound")), 400, "sound"), (form(PNG, more=field("prompt", b"two")), 400, "prompt"),
    (form(PNG, more=field("n", b"many")), 400, "n"), (form(PNG, more=field("unheard_of", b"x")), 400, "unheard_of"),
    (form(PNG, more=field("stream", b"true")), 400, "stream"), (form(PNG, model=b"nothing"), 404, "model"),
    (form(PNG, model=b"m"), 400, "model"), (form(PNG, model=b"pic"), 400, "image_urls"), (form(PNG)[:-9], 400, None),
    (form(PNG, more=field("model", b"x")), 400, "model"), (form(PNG * 200_000), 413, None),
])  # fmt: skip
async def test_what_can_not_be_edited_reaches_no_source(tmp_path: Path, body: bytes, status: int, param: str | None) -> None:
    async with editing(tmp_path) as (_, provider, caller):
        answer = await ask(caller, body)
        assert (answer.status, answer.json["error"]["param"]) == (status, param)
        assert provider.received == []


def members(body: bytes, kind: bytes | None = TYPE) -> Any:
    return json.loads(edit_members(kind, body))


def test_what_a_picture_is_its_first_bytes_say() -> None:
    for picture, kind in ((PNG, "png"), (JPEG, "jpeg"), (WEBP, "webp"), (GIF, "gif")):
        assert members(form(picture))["image_urls"] == [url(picture, kind)]


def test_the_fields_of_a_form_are_what_they_are_in_json() -> None:
    body = form(PNG, more=field("n", b"2") + field("stream", b"false") + field("size", b"1024x1024") + field("user", b"7"))
    assert members(body) == {
        "image_urls": [url(PNG, "png")], "n": 2, "stream": False, "size": "1024x1024", "user": "7", "prompt": "un été",
        "model": "retouch",
    }  # fmt: skip


@pytest.mark.parametrize("picture", [PNG + b"\r\n--", b"\x89PNG\r\n\x1a\n\r\n\r\n", PNG + b"\r\n"])
def test_every_byte_of_a_picture_is_kept(picture: bytes) -> None:
    (found,) = members(form(picture))["image_urls"]
    assert base64.b64decode(found.partition(",")[2]) == picture


@pytest.mark.parametrize("body", [
    {"model": "x", "prompt": "y"}, {"model": "x", "images": None}, {"model": "x", "images": "none"}, [], {"images": [1]},
    {"model": "x", "images": [{"image_url": "a"}], "image_urls": ["b"]},
])  # fmt: skip
def test_json_without_pictures_of_its_own_stays_what_it_is(body: object) -> None:
    written = json.dumps(body).encode()
    assert edit_members(b"application/json", written) == written


def test_the_pictures_of_json_are_those_of_a_job() -> None:
    body = b'{"model":"x","images":[{"image_url":"https://a.example/1.png"}],"mask":{"image_url":"https://a.example/2.png"}}'
    assert members(body, b"application/json") == {
        "model": "x", "mask": {"image_url": "https://a.example/2.png"}, "image_urls": ["https://a.example/1.png"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind", [b"multipart/mixed; boundary=a", b"multipart/form-data", b"multipart/form-data; boundary=other"]
)
def test_another_type_than_that_of_the_form_is_refused(kind: bytes) -> None:
    with pytest.raises(GatewayError):
        edit_members(kind, form(PNG))


async def test_json_at_the_same_path_is_a_job_as_well(tmp_path: Path) -> None:
    async with editing(tmp_path) as (_, provider, caller):
        provider.plays(images_answer())
        document = {"model": "retouch", "prompt": "x", "images": [{"image_url": "https://a.example/1.png"}]}
        answer = await caller.ask("POST", "/v1/images/edits", document)
        await ended_job(caller, answer.json)
        assert json.loads(provider.received[0].body)["images"] == [{"image_url": "https://a.example/1.png"}]
