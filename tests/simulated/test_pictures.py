"""Pictures from the simulated provider, over a real socket: OpenAI's images, fal.ai's queue, and what they show."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from kyma_proxy.simulated import fal, images, orders
from kyma_proxy.simulated import server as simulated
from kyma_proxy.simulated.kept import Kept
from kyma_proxy.simulated.reading import BadRequest
from kyma_proxy.simulated.studio import Clock
from tests.simulated.test_picture import decode

PACE_S = 0.05
FOX = {"prompt": "A red fox"}
APP = "/queue/fal-ai/flux"


class Hands:
    """A clock that is set by hand; waiting is noted, and over at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waited: list[float] = []

    async def wait(self, seconds: float) -> None:
        self.waited.append(seconds)


class Visitor:
    """A client of the provider that says the status and the JSON of each answer."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.session = session
        self.origin = origin

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        url = path if path.startswith("http") else f"{self.origin}{path}"
        async with self.session.request(method, url, json=body) as response:
            return response.status, await response.json()

    async def submitted(self, body: dict[str, object], path: str = APP) -> dict[str, str]:
        status, said = await self.call("POST", path, body)
        assert status == 200
        return said

    async def seen(self, url: str) -> tuple[int, int]:
        """The size of the picture at an address, which must be sound."""
        async with self.session.get(url) as response:
            assert (response.status, response.content_type) == (200, "image/png")
            assert "max-age=600" in response.headers["cache-control"]
            return decode(await response.read())[:2]


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def visitor(hands: Hands) -> AsyncIterator[Visitor]:
    runner = await simulated.serve("127.0.0.1", 0, PACE_S, clock=Clock(lambda: hands.now_s, hands.wait))
    async with aiohttp.ClientSession() as session:
        yield Visitor(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()


@pytest.fixture
async def gpt(visitor: Visitor) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{visitor.origin}/v1", api_key="any", max_retries=0) as client:
        yield client


async def test_generated_pictures_are_at_their_addresses(gpt: openai.AsyncOpenAI, visitor: Visitor) -> None:
    answer = await gpt.images.generate(model="any", **FOX, n=2, size="512x256")
    first, second = (image.url for image in answer.data)
    assert first != second
    assert first.startswith(f"{visitor.origin}/pictures/")
    assert [await visitor.seen(url) for url in (first, second)] == [(512, 256)] * 2
    assert answer.created > 1_700_000_000


async def test_generated_pictures_can_be_in_the_answer(gpt: openai.AsyncOpenAI) -> None:
    answer = await gpt.images.generate(model="any", **FOX, response_format="b64_json", n=10, size="64x64")
    pictures = [base64.b64decode(image.b64_json, validate=True) for image in answer.data]
    assert len(set(pictures)) == 10
    assert {decode(png)[:2] for png in pictures} == {(64, 64)}
    assert [image.url for image in answer.data] == [None] * 10


async def test_pictures_take_twenty_paces(visitor: Visitor, hands: Hands) -> None:
    status, _ = await visitor.call("POST", "/v1/images/generations", {"model": "any", **FOX})
    assert (status, hands.waited) == (200, [pytest.approx(20 * PACE_S)])


async def test_without_a_pace_nothing_waits(hands: Hands) -> None:
    runner = await simulated.serve("127.0.0.1", 0, 0.0, clock=Clock(lambda: hands.now_s, hands.wait))
    async with aiohttp.ClientSession() as session:
        visitor = Visitor(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
        assert (await visitor.call("POST", "/v1/images/generations", {"model": "any", **FOX}))[0] == 200
        job = await visitor.submitted(FOX)
        assert (await visitor.call("GET", job["status_url"]))[1]["status"] == "COMPLETED"
    await runner.cleanup()
    assert hands.waited == []


@pytest.mark.parametrize("given", [{"images": [{"image_url": "https://a/b.png"}]}, {"image_url": "data:image/png;base64,"}])
async def test_an_edit_needs_an_image_and_says_what_it_is(visitor: Visitor, given: dict[str, object]) -> None:
    asked = {"model": "any", **FOX, "response_format": "b64_json", "size": "1:1"}
    status, edited = await visitor.call("POST", "/v1/images/edits", asked | given)
    assert status == 200
    _, generated = await visitor.call("POST", "/v1/images/generations", asked)
    assert edited["data"][0]["b64_json"] != generated["data"][0]["b64_json"]
    status, refused = await visitor.call("POST", "/v1/images/edits", asked)
    assert (status, refused["error"]["param"]) == (400, "images")


@pytest.mark.parametrize("path", ["generations", "edits"])
async def test_a_prompt_that_says_fail_fails_after_its_time(visitor: Visitor, hands: Hands, path: str) -> None:
    asked = {"model": "any", "prompt": "Now FAIL, please", "image_url": "https://a/b.png"}
    status, said = await visitor.call("POST", f"/v1/images/{path}", asked)
    assert (status, said["error"]["type"], hands.waited) == (500, "server_error", [pytest.approx(20 * PACE_S)])


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("model", {"model": None}),
        ("prompt", {"prompt": None}),
        ("prompt", {"prompt": " "}),
        ("prompt", {"prompt": ["a fox"]}),
        ("prompt", {"prompt": "x" * 32_001}),
        ("n", {"n": 0}),
        ("n", {"n": 11}),
        ("n", {"n": True}),
        ("size", {"size": "large"}),
        ("size", {"size": "0x10"}),
        ("size", {"size": 512}),
        ("response_format", {"response_format": "png"}),
    ],
)
async def test_a_bad_images_request_is_refused_and_named(
    visitor: Visitor, hands: Hands, param: str, body: dict[str, object]
) -> None:
    status, said = await visitor.call("POST", "/v1/images/generations", {"model": "any", **FOX, **body})
    assert (status, said["error"]["param"], said["error"]["type"]) == (400, param, "invalid_request_error")
    assert hands.waited == []


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ("auto", (1024, 1024)),
        ("512x256", (512, 256)),
        ("1536x1024", (1024, 682)),
        ("10x10", (64, 64)),
        ("1:1", (1024, 1024)),
        ("16:9", (1024, 576)),
        ("3:4", (768, 1024)),
        ("99999x1", (1024, 64)),
        ("1:0", None),
        ("-1x5", None),
        ("٣x٣", None),
        (None, None),
    ],
)
def test_a_size_is_understood_and_kept_in_shape(asked: object, size: tuple[int, int] | None) -> None:
    assert orders.size_of(asked) == size


async def test_a_queued_request_waits_is_worked_on_and_completes(visitor: Visitor, hands: Hands) -> None:
    job = await visitor.submitted(FOX | {"num_images": 2, "image_size": "square", "seed": 7, "guidance_scale": 3})
    assert str(uuid.UUID(job["request_id"])) == job["request_id"]
    assert (job["status"], job["queue_position"]) == ("IN_QUEUE", 0)
    url = f"{visitor.origin}{APP}/requests/{job['request_id']}"
    assert (job["response_url"], job["status_url"], job["cancel_url"]) == (url, f"{url}/status", f"{url}/cancel")

    common = {"request_id": job["request_id"], "response_url": url, "logs": None}
    for at, stage, more in (
        (0.0, "IN_QUEUE", {"queue_position": 0}),
        (5.9, "IN_QUEUE", {"queue_position": 0}),
        (6.1, "IN_PROGRESS", {}),
    ):
        hands.now_s = 1000.0 + at * PACE_S
        assert await visitor.call("GET", job["status_url"]) == (202, common | more | {"status": stage})
    hands.now_s = 1000.0 + 19.9 * PACE_S
    assert (await visitor.call("GET", job["status_url"]))[1]["status"] == "IN_PROGRESS"
    assert await visitor.call("GET", url) == (400, {"detail": "Request is still in progress"})

    hands.now_s = 1000.0 + 20.1 * PACE_S
    over = common | {"status": "COMPLETED", "metrics": {"inference_time": 0.7}}
    assert await visitor.call("GET", job["status_url"]) == (200, over)
    status, result = await visitor.call("GET", url)
    assert (status, result["seed"], result["has_nsfw_concepts"], result["timings"]) == (200, 7, [False, False], {})
    assert result["prompt"] == FOX["prompt"]
    for image in result["images"]:
        assert await visitor.seen(image["url"]) == (image["width"], image["height"]) == (512, 512)
        assert image["url"].endswith(f"/{image['file_name']}")
        async with visitor.session.get(image["url"]) as response:
            assert (response.content_type, len(await response.read())) == (image["content_type"], image["file_size"])
    assert await visitor.call("GET", url) == (200, result)
    assert await visitor.call("PUT", job["cancel_url"]) == (400, {"status": "ALREADY_COMPLETED"})


async def test_a_longer_path_is_in_the_queue_of_its_app(visitor: Visitor) -> None:
    job = await visitor.submitted(FOX, f"{APP}/schnell/image-to-image")
    assert job["response_url"] == f"{visitor.origin}{APP}/requests/{job['request_id']}"
    assert (await visitor.call("GET", job["status_url"]))[0] == 202
    assert (await visitor.call("GET", job["status_url"].replace("/flux/", "/other/")))[0] == 404


@pytest.mark.parametrize("paces", [1, 10])
async def test_a_cancelled_request_is_over_and_has_no_pictures(visitor: Visitor, hands: Hands, paces: float) -> None:
    job = await visitor.submitted(FOX)
    hands.now_s += paces * PACE_S
    assert await visitor.call("PUT", job["cancel_url"]) == (202, {"status": "CANCELLATION_REQUESTED"})
    status, said = await visitor.call("GET", job["status_url"])
    assert (status, said["status"], said["error"]) == (200, "COMPLETED", "Request was cancelled")
    assert await visitor.call("GET", job["response_url"]) == (400, {"detail": "Request was cancelled"})
    assert await visitor.call("PUT", job["cancel_url"]) == (400, {"status": "ALREADY_COMPLETED"})


async def test_a_queued_prompt_that_says_fail_fails_at_its_result(visitor: Visitor, hands: Hands) -> None:
    job = await visitor.submitted({"prompt": "Fail"})
    assert (await visitor.call("GET", job["response_url"]))[0] == 400
    hands.now_s += 20.1 * PACE_S
    status, said = await visitor.call("GET", job["status_url"])
    assert (status, said["status"]) == (200, "COMPLETED")
    assert await visitor.call("GET", job["response_url"]) == (500, {"detail": orders.FAILURE})


async def test_what_is_unknown_is_not_found(visitor: Visitor) -> None:
    url = f"{APP}/requests/{uuid.uuid4()}"
    assert await visitor.call("GET", f"{url}/status") == (404, {"detail": "Request not found"})
    assert await visitor.call("GET", url) == (404, {"detail": "Request not found"})
    assert await visitor.call("PUT", f"{url}/cancel") == (404, {"status": "NOT_FOUND"})
    assert await visitor.call("GET", "/queue/nothing") == (404, {"detail": "Not Found"})
    assert await visitor.call("DELETE", url) == (405, {"detail": "Method Not Allowed"})
    assert (await visitor.call("GET", "/pictures/any.png"))[0] == 404


@pytest.mark.parametrize(
    ("param", "kind", "body"),
    [
        ("prompt", "missing", {"prompt": None}),
        ("prompt", "value_error", {"prompt": 1}),
        ("num_images", "value_error", {"num_images": 5}),
        ("num_images", "value_error", {"num_images": "two"}),
        ("image_size", "enum", {"image_size": "huge"}),
        ("image_size", "value_error", {"image_size": {"width": 512}}),
        ("image_size", "value_error", {"image_size": {"width": 512, "height": True}}),
        ("image_size", "value_error", {"image_size": 512}),
        ("aspect_ratio", "value_error", {"aspect_ratio": "wide"}),
        ("seed", "int_type", {"seed": "7"}),
        ("image_url", "string_type", {"image_url": []}),
    ],
)
async def test_a_bad_request_to_the_queue_is_refused_as_fastapi_does(
    visitor: Visitor, param: str, kind: str, body: dict[str, object]
) -> None:
    status, said = await visitor.call("POST", APP, FOX | body)
    (problem,) = said["detail"]
    assert (status, problem["loc"], problem["type"]) == (422, ["body", param], kind)
    assert problem["msg"]


async def test_a_missing_prompt_is_told_in_fastapis_words(visitor: Visitor) -> None:
    said = {"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "missing"}]}
    assert await visitor.call("POST", APP, {}) == (422, said)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}', b"[" * 100_000])
async def test_what_is_no_json_object_is_refused(visitor: Visitor, raw: bytes) -> None:
    for path, expected in ((APP, 422), ("/v1/images/generations", 400), ("/v1/images/edits", 400)):
        async with visitor.session.post(f"{visitor.origin}{path}", data=raw) as response:
            assert response.status == expected


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (1024, 768)),
        ({"image_size": "portrait_16_9"}, (576, 1024)),
        ({"image_size": {"width": 300, "height": 200}}, (300, 200)),
        ({"image_size": {"width": 4096, "height": 2048}}, (1024, 512)),
        ({"aspect_ratio": "16:9"}, (1024, 576)),
        ({"aspect_ratio": "1:2", "image_size": "square"}, (512, 512)),
    ],
)
def test_a_queued_picture_has_the_size_that_was_asked_for(asked: dict[str, object], size: tuple[int, int]) -> None:
    order, seed = fal.read(FOX | asked)
    (sketch,) = order.sketches
    assert ((sketch.width, sketch.height), seed) == (size, None)


async def test_a_picture_and_its_request_are_forgotten_after_ten_minutes(visitor: Visitor, hands: Hands) -> None:
    job = await visitor.submitted(FOX | {"image_size": "square"})
    hands.now_s += 599
    _, result = await visitor.call("GET", job["response_url"])
    (image,) = result["images"]
    assert await visitor.seen(image["url"]) == (512, 512)
    hands.now_s += 1
    assert (await visitor.call("GET", image["url"]))[0] == 404
    assert await visitor.call("GET", job["status_url"]) == (404, {"detail": "Request not found"})


def test_what_is_kept_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    kept: Kept[int] = Kept(most=2, age_s=10)
    for at, name in enumerate("abc"):
        kept.put(name, at, float(at))
    assert [kept.get(name, 3.0) for name in "abc"] == [None, 1, 2]
    kept.put("b", 7, 9.0)  # it takes the old one's place, and its age
    assert [kept.get("b", 10.9), kept.get("b", 11.0), kept.get("c", 11.0)] == [7, None, 2]


def test_an_edit_of_nothing_is_refused() -> None:
    for given in ([], ["https://a/b.png"], [{"image_url": ""}], "https://a/b.png", [{}]):
        with pytest.raises(BadRequest):
            images.read_edit({"model": "any", **FOX, "images": given})
