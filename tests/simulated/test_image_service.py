"""The simulated provider's images over a real socket, in OpenAI's protocol and in fal.ai's queue."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import openai
import pytest

from kyma_proxy.simulated import fal_queue, image_orders, openai_images, server
from kyma_proxy.simulated.image_service import Clock
from kyma_proxy.simulated.request_fields import BadRequest
from tests.simulated.png_decoder import decode

PACE_S = 0.05
PROMPT = "A red fox"
FOX: Mapping[str, object] = {"prompt": PROMPT}
APP = "/queue/fal-ai/flux"


class ManualClock:
    """A clock that a test sets. It records waits, which end at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


class Client:
    """A client of the provider that returns the status and the JSON of each response."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.session = session
        self.origin = origin

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        url = path if path.startswith("http") else f"{self.origin}{path}"
        async with self.session.request(method, url, json=body) as response:
            return response.status, await response.json()

    async def submit(self, body: Mapping[str, object], path: str = APP) -> dict[str, Any]:
        status, job = await self.call("POST", path, body)
        assert status == 200
        assert isinstance(job, dict)
        return job

    async def fetch_size(self, url: str) -> tuple[int, int]:
        """The size of the image at a URL, which must be a valid PNG."""
        async with self.session.get(url) as response:
            assert (response.status, response.content_type) == (200, "image/png")
            assert "max-age=600" in response.headers["cache-control"]
            return decode(await response.read()).size


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def client(clock: ManualClock) -> AsyncIterator[Client]:
    runner = await server.serve("127.0.0.1", 0, PACE_S, clock=Clock(lambda: clock.now_s, clock.wait))
    async with aiohttp.ClientSession() as session:
        yield Client(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()


@pytest.fixture
async def openai_client(client: Client) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{client.origin}/v1", api_key="any", max_retries=0) as sdk:
        yield sdk


async def test_generated_images_can_be_fetched_at_their_urls(openai_client: openai.AsyncOpenAI, client: Client) -> None:
    answer = await openai_client.images.generate(model="any", prompt=PROMPT, n=2, size="512x256")
    assert answer.data is not None
    first, second = (image.url or "" for image in answer.data)
    assert first != second
    assert first.startswith(f"{client.origin}/pictures/")
    assert [await client.fetch_size(url) for url in (first, second)] == [(512, 256)] * 2
    assert answer.created > 1_700_000_000


async def test_generated_images_can_be_in_the_response_in_base64(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.images.generate(model="any", prompt=PROMPT, response_format="b64_json", n=10, size="64x64")
    assert answer.data is not None
    images = [base64.b64decode(image.b64_json or "", validate=True) for image in answer.data]
    assert len(set(images)) == 10
    assert {decode(png).size for png in images} == {(64, 64)}
    assert [image.url for image in answer.data] == [None] * 10


async def test_a_generation_takes_twenty_paces(client: Client, clock: ManualClock) -> None:
    status, _ = await client.call("POST", "/v1/images/generations", {"model": "any", **FOX})
    assert status == 200
    assert clock.waits == pytest.approx([20 * PACE_S])


async def test_without_a_pace_no_request_waits(clock: ManualClock) -> None:
    runner = await server.serve("127.0.0.1", 0, 0.0, clock=Clock(lambda: clock.now_s, clock.wait))
    async with aiohttp.ClientSession() as session:
        client = Client(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
        assert (await client.call("POST", "/v1/images/generations", {"model": "any", **FOX}))[0] == 200
        job = await client.submit(FOX)
        assert (await client.call("GET", job["status_url"]))[1]["status"] == "COMPLETED"
    await runner.cleanup()
    assert clock.waits == []


@pytest.mark.parametrize("image", [{"images": [{"image_url": "https://a/b.png"}]}, {"image_url": "data:image/png;base64,"}])
async def test_an_edit_needs_an_image_and_differs_from_a_generation(client: Client, image: dict[str, object]) -> None:
    request = {"model": "any", **FOX, "response_format": "b64_json", "size": "1:1"}
    status, edited = await client.call("POST", "/v1/images/edits", request | image)
    assert status == 200
    _, generated = await client.call("POST", "/v1/images/generations", request)
    assert edited["data"][0]["b64_json"] != generated["data"][0]["b64_json"]
    status, refused = await client.call("POST", "/v1/images/edits", request)
    assert (status, refused["error"]["param"]) == (400, "images")


@pytest.mark.parametrize("path", ["generations", "edits"])
async def test_a_prompt_with_fail_gets_a_500_after_the_wait(client: Client, clock: ManualClock, path: str) -> None:
    request = {"model": "any", "prompt": "Now FAIL, please", "image_url": "https://a/b.png"}
    status, body = await client.call("POST", f"/v1/images/{path}", request)
    assert (status, body["error"]["type"]) == (500, "server_error")
    assert clock.waits == pytest.approx([20 * PACE_S])


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
async def test_a_bad_images_request_gets_a_400_that_names_the_member(
    client: Client, clock: ManualClock, param: str, body: Mapping[str, object]
) -> None:
    status, refused = await client.call("POST", "/v1/images/generations", {"model": "any", **FOX, **body})
    assert (status, refused["error"]["param"], refused["error"]["type"]) == (400, param, "invalid_request_error")
    assert clock.waits == []


@pytest.mark.parametrize(
    ("value", "size"),
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
def test_a_size_is_parsed_and_scaled_down_in_shape(value: object, size: tuple[int, int] | None) -> None:
    assert image_orders.parse_size(value) == size


async def test_a_queued_request_goes_from_in_queue_to_in_progress_to_completed(client: Client, clock: ManualClock) -> None:
    job = await client.submit({**FOX, "num_images": 2, "image_size": "square", "seed": 7, "guidance_scale": 3})
    assert str(uuid.UUID(job["request_id"])) == job["request_id"]
    assert (job["status"], job["queue_position"]) == ("IN_QUEUE", 0)
    url = f"{client.origin}{APP}/requests/{job['request_id']}"
    assert (job["response_url"], job["status_url"], job["cancel_url"]) == (url, f"{url}/status", f"{url}/cancel")

    common = {"request_id": job["request_id"], "response_url": url, "logs": None}
    for paces, stage, more in (
        (0.0, "IN_QUEUE", {"queue_position": 0}),
        (5.9, "IN_QUEUE", {"queue_position": 0}),
        (6.1, "IN_PROGRESS", {}),
    ):
        clock.now_s = 1000.0 + paces * PACE_S
        assert await client.call("GET", job["status_url"]) == (202, common | more | {"status": stage})
    clock.now_s = 1000.0 + 19.9 * PACE_S
    assert (await client.call("GET", job["status_url"]))[1]["status"] == "IN_PROGRESS"
    assert await client.call("GET", url) == (400, {"detail": "Request is still in progress"})

    clock.now_s = 1000.0 + 20.1 * PACE_S
    completed = common | {"status": "COMPLETED", "metrics": {"inference_time": 0.7}}
    assert await client.call("GET", job["status_url"]) == (200, completed)
    status, result = await client.call("GET", url)
    assert (status, result["seed"], result["has_nsfw_concepts"], result["timings"]) == (200, 7, [False, False], {})
    assert result["prompt"] == PROMPT
    for image in result["images"]:
        assert await client.fetch_size(image["url"]) == (image["width"], image["height"]) == (512, 512)
        assert image["url"].endswith(f"/{image['file_name']}")
        async with client.session.get(image["url"]) as response:
            assert (response.content_type, len(await response.read())) == (image["content_type"], image["file_size"])
    assert await client.call("GET", url) == (200, result)
    assert await client.call("PUT", job["cancel_url"]) == (400, {"status": "ALREADY_COMPLETED"})


async def test_a_longer_path_belongs_to_the_queue_of_its_app(client: Client) -> None:
    job = await client.submit(FOX, f"{APP}/schnell/image-to-image")
    assert job["response_url"] == f"{client.origin}{APP}/requests/{job['request_id']}"
    assert (await client.call("GET", job["status_url"]))[0] == 202
    assert (await client.call("GET", job["status_url"].replace("/flux/", "/other/")))[0] == 404


@pytest.mark.parametrize("paces", [1, 10])
async def test_a_cancelled_request_is_completed_without_images(client: Client, clock: ManualClock, paces: float) -> None:
    job = await client.submit(FOX)
    clock.now_s += paces * PACE_S
    assert await client.call("PUT", job["cancel_url"]) == (202, {"status": "CANCELLATION_REQUESTED"})
    status, body = await client.call("GET", job["status_url"])
    assert (status, body["status"], body["error"]) == (200, "COMPLETED", "Request was cancelled")
    assert await client.call("GET", job["response_url"]) == (400, {"detail": "Request was cancelled"})
    assert await client.call("PUT", job["cancel_url"]) == (400, {"status": "ALREADY_COMPLETED"})


async def test_a_queued_prompt_with_fail_gets_a_500_as_its_result(client: Client, clock: ManualClock) -> None:
    job = await client.submit({"prompt": "Fail"})
    assert (await client.call("GET", job["response_url"]))[0] == 400
    clock.now_s += 20.1 * PACE_S
    status, body = await client.call("GET", job["status_url"])
    assert (status, body["status"]) == (200, "COMPLETED")
    assert await client.call("GET", job["response_url"]) == (500, {"detail": image_orders.FAILURE_MESSAGE})


async def test_unknown_requests_images_and_paths_are_not_found(client: Client) -> None:
    url = f"{APP}/requests/{uuid.uuid4()}"
    assert await client.call("GET", f"{url}/status") == (404, {"detail": "Request not found"})
    assert await client.call("GET", url) == (404, {"detail": "Request not found"})
    assert await client.call("PUT", f"{url}/cancel") == (404, {"status": "NOT_FOUND"})
    assert await client.call("GET", "/queue/nothing") == (404, {"detail": "Not Found"})
    assert await client.call("DELETE", url) == (405, {"detail": "Method Not Allowed"})
    assert (await client.call("GET", "/pictures/any.png"))[0] == 404


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
async def test_a_bad_request_to_the_queue_gets_fastapis_422(
    client: Client, param: str, kind: str, body: Mapping[str, object]
) -> None:
    status, refused = await client.call("POST", APP, {**FOX, **body})
    (problem,) = refused["detail"]
    assert (status, problem["loc"], problem["type"]) == (422, ["body", param], kind)
    assert problem["msg"]


async def test_a_missing_prompt_gets_fastapis_own_message(client: Client) -> None:
    body = {"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "missing"}]}
    assert await client.call("POST", APP, {}) == (422, body)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}', b"[" * 100_000])
async def test_an_images_body_that_is_no_json_object_is_refused(client: Client, raw: bytes) -> None:
    for path, expected in ((APP, 422), ("/v1/images/generations", 400), ("/v1/images/edits", 400)):
        async with client.session.post(f"{client.origin}{path}", data=raw) as response:
            assert response.status == expected


@pytest.mark.parametrize(
    ("members", "size"),
    [
        ({}, (1024, 768)),
        ({"image_size": "portrait_16_9"}, (576, 1024)),
        ({"image_size": {"width": 300, "height": 200}}, (300, 200)),
        ({"image_size": {"width": 4096, "height": 2048}}, (1024, 512)),
        ({"aspect_ratio": "16:9"}, (1024, 576)),
        ({"aspect_ratio": "1:2", "image_size": "square"}, (512, 512)),
    ],
)
def test_a_queued_image_has_the_requested_size(members: dict[str, object], size: tuple[int, int]) -> None:
    order, seed = fal_queue.read_order({**FOX, **members})
    (sketch,) = order.sketches
    assert ((sketch.width, sketch.height), seed) == (size, None)


async def test_an_image_and_its_queued_request_expire_after_ten_minutes(client: Client, clock: ManualClock) -> None:
    job = await client.submit({**FOX, "image_size": "square"})
    clock.now_s += 599
    _, result = await client.call("GET", job["response_url"])
    (image,) = result["images"]
    assert await client.fetch_size(image["url"]) == (512, 512)
    clock.now_s += 1
    assert (await client.call("GET", image["url"]))[0] == 404
    assert await client.call("GET", job["status_url"]) == (404, {"detail": "Request not found"})


def test_an_edit_without_a_usable_image_is_refused() -> None:
    invalid: list[object] = [[], ["https://a/b.png"], [{"image_url": ""}], "https://a/b.png", [{}]]
    for images in invalid:
        with pytest.raises(BadRequest):
            openai_images.read_edit({"model": "any", **FOX, "images": images})
