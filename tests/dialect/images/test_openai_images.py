"""OpenAI's images API: the answer to one request has the images."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.dialect.images.contract import ProviderRequest
from kyma_proxy.dialect.images.openai_images import OPENAI_IMAGES
from tests.dialect.images.material import DATA_URL, OTHER_URL, URL, request, source

HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"


def asks(wanted: ImageRequest, words: str = "{}") -> ProviderRequest:
    return OPENAI_IMAGES.submit(wanted, source("openai_images", words, "recraftv3"))


@pytest.mark.parametrize(
    ("wanted", "words", "path", "body"),
    [
        (request(), "{}", "/images/generations", b'{"model":"recraftv3","prompt":"a cat"}'),
        (
            request(2, size="1024x1024", response_format="b64_json"), "{}", "/images/generations",
            b'{"model":"recraftv3","prompt":"a cat","size":"1024x1024","n":2,"response_format":"b64_json"}',
        ),
        (
            request(extra=(("style", b'"ink"'),), response_format="url"), "{}", "/images/generations",
            b'{"model":"recraftv3","style":"ink","prompt":"a cat","response_format":"url"}',
        ),
        (
            request(images=(URL, DATA_URL)), "{}", "/images/edits",
            b'{"model":"recraftv3","prompt":"a cat","images":[{"image_url":"https://a.example/1.png"},'
            b'{"image_url":"data:image/png;base64,iVBORw0KGgo="}]}',
        ),
        (
            request(images=(URL,)), "{images: image_url, size_form: pair}", "/images/generations",
            b'{"model":"recraftv3","prompt":"a cat","image_url":"https://a.example/1.png"}',
        ),
        (
            request(images=(URL, OTHER_URL)), "{images: image_urls}", "/images/generations",
            b'{"model":"recraftv3","prompt":"a cat","image_urls":["https://a.example/1.png","https://a.example/2.png"]}',
        ),
    ],
)  # fmt: skip
def test_an_openai_image_request_goes_to_generations_or_edits(wanted: ImageRequest, words: str, path: str, body: bytes) -> None:
    assert asks(wanted, words) == ProviderRequest("POST", path, body)


def test_extra_members_never_override_the_sources_model() -> None:
    call = asks(request(extra=(("prompt", b'"other"'),)))
    assert msgspec.json.decode(call.body or b"") == {"model": "recraftv3", "prompt": "a cat"}


def test_openai_images_have_no_queue() -> None:
    assert OPENAI_IMAGES.queue is None


@pytest.mark.parametrize(
    ("data", "pictures"),
    [
        (b"[]", []),
        (b'[{"url":"https://a.example/1.png","revised_prompt":"a fat cat"}]', [Picture(url=URL)]),
        (b'[{"b64_json":"aGk="},{"b64_json":"\\/9j"}]', [Picture(b64_json=b'"aGk="'), Picture(b64_json=b'"\\/9j"')]),
        (b'[{"url":null,"b64_json":"aGk="}]', [Picture(b64_json=b'"aGk="')]),
        (b'[{"url":"https://a.example/1.png","b64_json":null}]', [Picture(url=URL)]),
        (b'[{"url":"cat.png"},{"url":"https://a.example/2.png"},{},{"b64_json":""}]', [Picture(url=OTHER_URL)]),
        (b'[{"url":"ftp://a.example/1.png"},{"url":""},{"b64_json":5},{"b64_json":null}]', []),
    ],
)
def test_an_openai_image_answer_has_its_valid_images_only(data: bytes, pictures: list[Picture]) -> None:
    assert OPENAI_IMAGES.images(b'{"created":1,"data":' + data + b',"usage":{"images":1}}') == pictures


@pytest.mark.parametrize(
    "body",
    [
        b"", HTML, b"null", b"[]", b"{}", b'{"data":null}', b'{"data":{}}', b'{"data":[null]}', b'{"data":["a"]}',
        b'{"data":[{"url":5}]}', b'{"data":[{"url":"https://a.example/1.png"}]', b'{"data":[{"url":"\xff"}]}', b"\xff\xfe",
        b'{"error":{"message":"No cats."}}',
    ],
)  # fmt: skip
def test_a_malformed_openai_image_answer_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        OPENAI_IMAGES.images(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"No cats.","type":"x","param":null,"code":"safety"}}', "No cats."),
        (b'{"error":"No cats."}', "No cats."),
        (b'{"error":null,"message":"No cats."}', "No cats."),
        (b'{"message":"No cats.","code":"x"}', "No cats."),
        (b'{"error":{"message":null}}', None),
        (b'{"error":{"message":["No cats."]}}', None),
        (b'{"error":{}}', None),
        (b'{"error":5}', None),
        (b"{}", None),
        (b"[]", None),
        (b"", None),
        (HTML, None),
        (b'{"error":"\xff"}', None),
        (b'{"error":{"message":' + b"[" * 100_000, None),
    ],
)
def test_the_message_of_an_openai_image_error_is_found_in_every_form(body: bytes, message: str | None) -> None:
    assert OPENAI_IMAGES.message(body) == message


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([URL, "aGk="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "url", "b64_json", "error", "message", "x"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(json_values.map(msgspec.json.encode) | st.binary(max_size=40) | st.just(b'{"data":' + b"[" * 100_000))
@example(b'{"data":[{"url":"https://a.example/1.png"},{"b64_json":"aGk="}]}')  # chance seldom makes a valid one
def test_any_openai_image_answer_is_read_or_raises_value_error(body: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        for one in OPENAI_IMAGES.images(body):
            assert one.size_bytes > 0
            assert (one.url is None) != (one.b64_json is None)
    message = OPENAI_IMAGES.message(body)
    assert message is None or message.strip()
