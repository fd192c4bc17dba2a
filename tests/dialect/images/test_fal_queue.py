"""fal.ai's queue: a job is submitted, polled until it is done, and fetched, at paths that the gateway makes itself."""

from __future__ import annotations

import contextlib
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.dialect.images.contract import ImageQueue, ProviderRequest, QueueStage
from kyma_proxy.dialect.images.fal_queue import FAL_QUEUE
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.loading.compiling import load
from tests.dialect.images.material import DATA_URL, OTHER_URL, URL, request, source

HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
NAME = "764cabcf-b745-4b3e-ae38-1200304cf45b"


def queue() -> ImageQueue:
    assert FAL_QUEUE.queue is not None
    return FAL_QUEUE.queue


def asks(wanted: ImageRequest, words: str = "{}") -> ProviderRequest:
    return FAL_QUEUE.submit(wanted, source("fal_queue", words, "fal-ai/flux-pro/v1.1-ultra"))


@pytest.mark.parametrize(
    ("wanted", "words", "body"),
    [
        (request(), "{}", b'{"prompt":"a cat"}'),
        (
            request(2, size="1024x768", response_format="url"), "{}",
            b'{"prompt":"a cat","image_size":{"width":1024,"height":768},"num_images":2}',
        ),
        (request(size="16:9"), "{size: aspect_ratio}", b'{"prompt":"a cat","aspect_ratio":"16:9"}'),
        (
            request(size="1024x1024", extra=(("seed", b"7"),)), "{sizes: {1024x1024: square_hd}}",
            b'{"seed":7,"prompt":"a cat","image_size":"square_hd"}',
        ),
        (request(images=(DATA_URL,)), "{}", b'{"prompt":"a cat","image_url":"data:image/png;base64,iVBORw0KGgo="}'),
        (
            request(images=(URL, OTHER_URL)), "{images: image_urls}",
            b'{"prompt":"a cat","image_urls":["https://a.example/1.png","https://a.example/2.png"]}',
        ),
        (request(images=(URL,)), "{images: images}", b'{"prompt":"a cat","images":[{"image_url":"https://a.example/1.png"}]}'),
    ],
)  # fmt: skip
def test_a_job_is_submitted_at_the_models_path(wanted: ImageRequest, words: str, body: bytes) -> None:
    assert asks(wanted, words) == ProviderRequest("POST", "/fal-ai/flux-pro/v1.1-ultra", body, b"x-fal-store-io: 0")


def test_a_queue_refuses_the_response_format_b64_json() -> None:
    with pytest.raises(GatewayError) as caught:
        asks(request(response_format="b64_json"))
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "response_format")
    why = "none gives the images themselves; leave `response_format` out and fetch their URLs"
    assert caught.value.message == f"No source of the model can make this: {why}."


@pytest.mark.parametrize(
    ("model", "base"),
    [("fal-ai/flux-pro/v1.1-ultra", "/fal-ai/flux-pro"), ("owner/app", "/owner/app"), ("owner/app/a/b/c", "/owner/app")],
)
def test_a_jobs_paths_are_made_of_the_app_and_the_job_id(model: str, base: str) -> None:
    one = source("fal_queue", model=model)
    assert queue().status(one, NAME) == ProviderRequest("GET", f"{base}/requests/{NAME}/status", None)
    assert queue().result(one, NAME) == ProviderRequest("GET", f"{base}/requests/{NAME}", None)
    assert queue().cancel(one, NAME) == ProviderRequest("PUT", f"{base}/requests/{NAME}/cancel", None)


@pytest.mark.parametrize("name", [NAME, "a", "A_b-9", "x" * 128])
def test_the_job_id_is_read_from_the_submission(name: str) -> None:
    body = {"status": "IN_QUEUE", "request_id": name, "status_url": "https://evil.example/"}
    assert queue().job_id(msgspec.json.encode(body)) == name


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", ".", "a?b", "a#b", "a b", "a\n", "a%2fb", "a\\b", "x" * 129, "\u00e9", "a:b", "a;b", "\0"]
)
def test_a_job_id_that_could_change_the_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="without a valid id"):
        queue().job_id(msgspec.json.encode({"request_id": name}))


@pytest.mark.parametrize(
    "body", [b"", HTML, b"{}", b"[]", b"null", b'{"request_id":null}', b'{"request_id":5}', b'{"request_id":"\xff"}']
)
def test_a_submission_without_a_job_id_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        queue().job_id(body)


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("IN_QUEUE", QueueStage.WAITS), ("IN_PROGRESS", QueueStage.WORKS), ("COMPLETED", QueueStage.DONE),
        ("FAILED", QueueStage.DONE), ("ERROR", QueueStage.DONE),
    ],
)  # fmt: skip
def test_every_status_but_queued_and_in_progress_is_done(status: str, stage: QueueStage) -> None:
    assert queue().stage(msgspec.json.encode({"status": status, "queue_position": 3, "logs": None})) is stage


@pytest.mark.parametrize(("error", "stage"), [("Request timed out", QueueStage.FAILED), (None, QueueStage.DONE)])
def test_an_error_beside_completed_says_that_the_job_has_failed(error: str | None, stage: QueueStage) -> None:
    assert queue().stage(msgspec.json.encode({"status": "COMPLETED", "error": error})) is stage


@pytest.mark.parametrize(("fields", "document", "is_result"), [
    ({}, {"detail": "Request timed out", "error_type": "request_timeout"}, True),
    ({b"x-fal-error-type": b"runner_disconnected"}, "a page", True),
    ({b"x-fal-retryable": b"false"}, {}, True),
    ({}, {"detail": [{"type": "internal_server_error"}]}, True),
    ({}, {"detail": "Bad gateway"}, False),
    ({}, [1], False),
    ({}, {"error_type": 7}, False),
])  # fmt: skip
def test_a_stored_failure_is_told_from_a_trouble_of_the_queue(
    fields: dict[bytes, bytes], document: object, is_result: bool
) -> None:
    assert queue().is_result(fields, msgspec.json.encode(document)) is is_result


@pytest.mark.parametrize(("fields", "document", "word"), [
    ({b"x-fal-retryable": b"True"}, {"detail": [{"type": "x"}]}, "retryable"),
    ({b"x-fal-retryable": b"false"}, {"detail": [{"type": "content_policy_violation"}]}, None),
    ({}, {"detail": [{"type": "content_policy_violation"}, {"type": "no_media_generated"}]}, "no_media_generated"),
    ({}, {"detail": [{"type": ["no_media_generated"]}, 3]}, None),
    ({}, {"detail": "no_media_generated"}, None),
    ({}, 7, None),
])  # fmt: skip
def test_only_a_failure_that_says_nothing_of_the_request_is_passing(
    fields: dict[bytes, bytes], document: object, word: str | None
) -> None:
    assert FAL_QUEUE.passing_failure(fields, msgspec.json.encode(document)) == word


@pytest.mark.parametrize(("status", "word", "is_withdrawn"), [
    (200, "OK", True), (202, "OK", True), (202, "CANCELLATION_REQUESTED", False), (200, "CANCELLATION_REQUESTED", False),
    (400, "ALREADY_COMPLETED", False), (404, "NOT_FOUND", False), (500, "OK", False), (200, "COMPLETED", False),
])  # fmt: skip
def test_only_ok_says_that_a_job_was_taken_out_of_the_queue(status: int, word: str, is_withdrawn: bool) -> None:
    assert queue().is_withdrawn(status, msgspec.json.encode({"status": word})) is is_withdrawn


@pytest.mark.parametrize(
    "body", [b"", HTML, b"{}", b"[]", b'{"status":null}', b'{"status":5}', b'{"status":"COMPLETED"', b"\xff"]
)
def test_a_malformed_status_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        queue().stage(body)


@pytest.mark.parametrize(
    ("body", "pictures"),
    [
        (b'{"images":[{"url":"https://a.example/1.png","content_type":"image/png","width":512}],"seed":7}', [Picture(url=URL)]),
        (b'{"images":[{"url":"https://a.example/1.png"},{"url":"https://a.example/2.png"}]}', [
            Picture(url=URL), Picture(url=OTHER_URL),
        ]),
        (b'{"image":{"url":"https://a.example/1.png"}}', [Picture(url=URL)]),
        (b'{"images":[],"image":{"url":"https://a.example/1.png"}}', [Picture(url=URL)]),
        (b'{"images":[{"url":"https://a.example/1.png"}],"image":{"url":"https://a.example/2.png"}}', [Picture(url=URL)]),
        (b'{"images":[{"url":"cat.png"},{"url":null},{},{"url":"data:image/png;base64,aGk="}]}', []),
        (b'{"images":[{"url":"file:///etc/passwd"},{"url":"https://a.example/2.png"}]}', [Picture(url=OTHER_URL)]),
        (b"{}", []),
        (b'{"image":null}', []),
        (b'{"detail":"not found"}', []),
    ],
)  # fmt: skip
def test_the_result_of_a_queued_job_has_its_valid_images_only(body: bytes, pictures: list[Picture]) -> None:
    assert FAL_QUEUE.images(body) == pictures


@pytest.mark.parametrize(
    "body",
    [
        b"", HTML, b"null", b"[]", b'{"images":null}', b'{"images":{}}', b'{"images":[null]}', b'{"images":["a"]}',
        b'{"images":[{"url":5}]}', b'{"image":"a"}', b'{"images":[{"url":"https://a.example/1.png"}]',
        b'{"image":{"url":"\xff"}}',
    ],
)  # fmt: skip
def test_a_malformed_result_of_the_queue_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        FAL_QUEUE.images(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": "No cats."}, "No cats."),
        ({"error": "No cats.", "error_type": "x"}, "No cats."),
        ({"detail": None, "error": "No cats."}, "No cats."),
        ({"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "x"}]}, "prompt: too long"),
        (
            {
                "detail": [
                    {"loc": ["body", "image_size", "width"], "msg": "too wide"},
                    {"loc": ["body", "seed", 0], "msg": "odd"},
                ]
            },
            "image_size.width: too wide; seed.0: odd",
        ),
        ({"detail": [{"loc": ["body"], "msg": "odd"}, {"msg": "strange"}]}, "odd; strange"),
        ({"detail": [{"loc": ["body", "prompt"]}, {"loc": "x", "msg": {"input": "SECRET"}}, "text", None]}, None),
        ({"detail": [{"loc": ["body", {"input": "SECRET"}], "msg": "odd"}]}, "odd"),
        ({"detail": []}, None),
        ({"detail": {"msg": "odd"}}, None),
        ({"detail": 5}, None),
        ({}, None),
        ([], None),
        ("No cats.", None),
    ],
)
def test_the_message_of_a_fal_error_is_found_in_every_form(body: object, message: str | None) -> None:
    assert FAL_QUEUE.message(msgspec.json.encode(body)) == message


@pytest.mark.parametrize("body", [b"", HTML, b'{"detail":"\xff"}', b'{"detail":' + b"[" * 100_000])
def test_a_malformed_fal_error_has_no_message(body: bytes) -> None:
    assert FAL_QUEUE.message(body) is None


def test_the_message_of_a_fal_error_never_repeats_the_input() -> None:
    row = {"loc": ["body", "prompt"], "msg": "too long", "input": "SECRET", "ctx": {"value": "SECRET"}, "url": "SECRET"}
    message = FAL_QUEUE.message(msgspec.json.encode({"detail": [row] * 3, "input": "SECRET"}))
    assert message == "prompt: too long; prompt: too long; prompt: too long"


def test_the_message_of_many_faults_is_truncated() -> None:
    body = msgspec.json.encode({"detail": [{"loc": ["body", "x" * 50], "msg": "odd"}] * 1000})
    assert len(FAL_QUEUE.message(body) or "") == 300


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([URL, "COMPLETED", NAME]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["images", "image", "url", "detail", "error", "loc", "msg", "status", "request_id", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=200)
@given(json_values.map(msgspec.json.encode) | st.binary(max_size=40) | st.just(b'{"images":' + b"[" * 100_000))
def test_any_answer_of_the_queue_is_read_or_raises_value_error(body: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        assert all(one.url is not None for one in FAL_QUEUE.images(body))
    with contextlib.suppress(ValueError, RecursionError):
        assert queue().job_id(body)
    with contextlib.suppress(ValueError, RecursionError):
        assert isinstance(queue().stage(body), QueueStage)
    assert isinstance(queue().is_result({}, body), bool)
    FAL_QUEUE.passing_failure({}, body)
    message = FAL_QUEUE.message(body)
    assert message is None or message.strip()


@pytest.mark.parametrize(("headers", "sent"), [("{}", b"x-fal-store-io: 0"), ("{X-Fal-Store-IO: 1}", b"x-fal-store-io: 1")])
def test_fal_keeps_nothing_of_a_request_unless_the_operator_says_so(headers: str, sent: bytes) -> None:
    text = (
        f"providers: [{{name: art, base_url: https://art.example, dialect: fal_queue, headers: {headers}}}]\n"
        "models: [{id: m, output_modalities: [image], pool: [{provider: art, model: owner/app}]}]\n"
    )
    one = load(text, MappingProxyType({})).models["m"].pool[0]
    lines = bytes(FAL_QUEUE.submit(request(), one).request(one.provider)[0]).split(b"\r\n")
    assert [line for line in lines if line.lower().startswith(b"x-fal-store-io")] == [sent]
