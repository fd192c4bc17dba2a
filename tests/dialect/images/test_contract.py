"""An image request is written under each source's member names or refused; images and messages of answers are checked."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import msgspec
import pytest

from kyma_proxy.config.snapshot import Model
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.dialect.images.contract import common_members, read_image, truncated
from kyma_proxy.dialect.images.fal_queue import FAL_QUEUE
from kyma_proxy.dialect.images.openai_images import OPENAI_IMAGES
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.loading.compiling import load
from tests.dialect.images.material import DATA_URL, OTHER_URL, URL, request, source
from tests.factories import source as text_source

PAIR = "{size_form: pair}"
OBJECT = "{size_form: object}"
MAPPED = '{size: aspect_ratio, sizes: {1024x1024: "1:1", "1536x1024": landscape}}'


def told(words: str, wanted: ImageRequest, dialect: str = "openai_images") -> bytes:
    return msgspec.json.encode(common_members(wanted, source(dialect, words)))


def unsupported(words: str, wanted: ImageRequest, dialect: str = "openai_images") -> tuple[str, str | None]:
    with pytest.raises(GatewayError) as caught:
        told(words, wanted, dialect)
    assert caught.value.kind is Kind.INVALID_REQUEST
    return caught.value.message, caught.value.param


@pytest.mark.parametrize(
    ("words", "size", "body"),
    [
        ("{}", None, b'{"prompt":"a cat"}'),
        ("{}", "1024x768", b'{"prompt":"a cat","size":"1024x768"}'),
        ("{}", "16:9", b'{"prompt":"a cat","size":"16:9"}'),
        (OBJECT, "1024x768", b'{"prompt":"a cat","size":{"width":1024,"height":768}}'),
        (PAIR, "1024x768", b'{"prompt":"a cat","width":1024,"height":768}'),
        (MAPPED, "1024x1024", b'{"prompt":"a cat","aspect_ratio":"1:1"}'),
        (MAPPED, "1536x1024", b'{"prompt":"a cat","aspect_ratio":"landscape"}'),
        (MAPPED, "3x2", b'{"prompt":"a cat","aspect_ratio":"3x2"}'),
        ("{size_form: object, sizes: {512x512: square}}", "512x512", b'{"prompt":"a cat","size":"square"}'),
        ("{size_form: object, sizes: {512x512: square}}", "512x513", b'{"prompt":"a cat","size":{"width":512,"height":513}}'),
    ],
)
def test_a_size_is_written_in_the_form_of_the_source(words: str, size: str | None, body: bytes) -> None:
    assert told(words, request(size=size)) == body


@pytest.mark.parametrize("words", [OBJECT, PAIR])
@pytest.mark.parametrize("size", ["16:9", "square", "0x10", "10x", "1024X1024", "100000x1", "1x1x1", "-1x1", "\uff11x1"])
def test_a_size_without_width_and_height_is_refused_by_sources_that_need_them(words: str, size: str) -> None:
    message = f"No source of the model can make this: it has no size {size}."
    assert unsupported(words, request(size=size)) == (message, "size")


@pytest.mark.parametrize(
    ("words", "n", "body"),
    [
        ("{}", 1, b'{"prompt":"a cat"}'),
        ("{}", 3, b'{"prompt":"a cat","n":3}'),
        ("{count: samples}", 4, b'{"prompt":"a cat","samples":4}'),
        ("{count: null}", 1, b'{"prompt":"a cat"}'),
    ],
)
def test_the_number_of_images_is_written_if_it_is_not_one(words: str, n: int, body: bytes) -> None:
    assert told(words, request(n)) == body


@pytest.mark.parametrize(
    ("words", "images", "body"),
    [
        ("{images: image_url}", (URL,), b'"image_url":"https://a.example/1.png"}'),
        ("{images: image_urls}", (URL,), b'"image_urls":["https://a.example/1.png"]}'),
        ("{images: image_urls}", (URL, OTHER_URL), b'"image_urls":["https://a.example/1.png","https://a.example/2.png"]}'),
        ("{images: images}", (URL, DATA_URL), b'"images":[{"image_url":"%s"},{"image_url":"%s"}]}' % (
            URL.encode(), DATA_URL.encode(),
        )),
        ("{images: images}", (), b'{"prompt":"a cat"}'),
    ],
)  # fmt: skip
def test_input_images_are_written_under_the_sources_member(words: str, images: tuple[str, ...], body: bytes) -> None:
    assert told(words, request(images=images)).endswith(body)


def test_two_input_images_are_refused_by_a_source_that_takes_one() -> None:
    message = "No source of the model can make this: it takes one input image."
    assert unsupported("{images: image_url}", request(images=(URL, OTHER_URL))) == (message, "image_urls")


def test_extra_members_are_passed_through_byte_for_byte() -> None:
    extra = (("seed", b"1e3"), ("style", b'{"a" : [1.50,\t"\\u00e9"]}'))
    assert told("{}", request(extra=extra)) == b'{"seed":1e3,"style":{"a" : [1.50,\t"\\u00e9"]},"prompt":"a cat"}'


@pytest.mark.parametrize("name", ["prompt", "size", "n", "images"])
def test_extra_members_never_override_the_gateways_own(name: str) -> None:
    """The configuration refuses such names; that it does is not relied on."""
    wanted = request(2, size="1x1", images=(URL,), extra=((name, b'"slipped in"'),))
    assert b"slipped in" not in told("{}", wanted)


def test_a_source_without_images_refuses_every_image_request() -> None:
    with pytest.raises(GatewayError, match="No source of the model can make this: it makes no images") as caught:
        common_members(request(), text_source("small"))
    assert caught.value.param is None


@pytest.mark.parametrize(
    ("url", "b64_json", "found"),
    [
        (URL, b"", Picture(url=URL)),
        (URL, b'"aGk="', Picture(url=URL)),
        (None, b'"aGk="', Picture(b64_json=b'"aGk="')),
        (None, b'"\\/9j\\u002f"', Picture(b64_json=b'"\\/9j\\u002f"')),
        ("not a url", b'"aGk="', Picture(b64_json=b'"aGk="')),
        ("javascript:alert(1)", b"", None),
        (DATA_URL, b"", None),
        (None, b"", None),
        (None, b'""', None),
        (None, b"null", None),
        (None, b"12345", None),
        (None, b'["aGk="]', None),
        (None, '"é"'.encode(), None),
        (None, b'"\xff\xfe"', None),
    ],
)
def test_an_image_is_a_web_url_or_base64_text(url: str | None, b64_json: bytes, found: Picture | None) -> None:
    assert read_image(url, msgspec.Raw(b64_json)) == found


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("No cats.", "No cats."),
        ("  No\n\tcats  ", "No cats"),
        ("", None),
        (" \n", None),
        (None, None),
        (5, None),
        (["No cats"], None),
        ({"msg": "No cats"}, None),
        ("x" * 301, "x" * 300),
    ],
)
def test_a_providers_message_is_put_on_one_line_and_truncated(message: object, shown: str | None) -> None:
    assert truncated(message) == shown


def shipped() -> list[Model]:
    text = (Path(__file__).parents[3] / "config" / "kyma.yaml").read_text(encoding="utf-8")
    keys = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "secret-of-sixteen-letters")
    return [model for model in load(text, keys).models.values() if model.is_image]


@pytest.mark.parametrize("model", shipped(), ids=lambda model: model.id)
def test_every_offer_of_the_shipped_catalogue_is_supported_by_some_source(model: Model) -> None:
    dialects = {"openai_images": OPENAI_IMAGES, "fal_queue": FAL_QUEUE}
    images = (URL,) * model.image.most_input_images if model.image.needs_image else ()
    assert model.image.needs_image is (model.id == "flux-kontext-pro")
    for size in (None, *(model.image.sizes or ())):
        for n in range(1, model.image.most + 1):
            told = []
            for one in (*model.pool, *model.reserve):
                with contextlib.suppress(GatewayError):
                    told.append(dialects[one.provider.dialect].submit(request(n, size=size, images=images), one))
            assert told, (size, n)
            assert n > 1 or len(told) == len(model.pool) + len(model.reserve)
