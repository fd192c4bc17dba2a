"""Describes OpenAI's images API, which Recraft and Together have too: the answer to one request has the images. (Contract §10.)

If the source takes input images under OpenAI's own `images`, they go to `/images/edits` in JSON; if it takes `image_url`
(Together), to `/images/generations` like all other requests.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.config.image_rules import ImageMembers
from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.dialect.images.contract import ImageDialect, ProviderRequest, common_members, read_image, truncated


class _Image(msgspec.Struct, gc=False):
    url: str | None = None
    b64_json: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct, gc=False):
    data: list[_Image]


class _ErrorObject(msgspec.Struct, gc=False):
    message: object = None


class _Failure(msgspec.Struct, gc=False):
    error: _ErrorObject | str | None = None
    message: object = None


_answer: Final = msgspec.json.Decoder(_Answer).decode
_failure: Final = msgspec.json.Decoder(_Failure).decode
_encode: Final = msgspec.json.encode


def _submit(request: ImageRequest, source: Source) -> ProviderRequest:
    members = {"model": source.model} | common_members(request, source)
    if request.response_format is not None:
        members["response_format"] = request.response_format
    return ProviderRequest("POST", "/images/edits" if "images" in members else "/images/generations", _encode(members))


def _images(body: bytes) -> list[Picture]:
    images = (read_image(entry.url, entry.b64_json) for entry in _answer(body).data)
    return [image for image in images if image is not None]


def _message(body: bytes) -> str | None:
    try:
        failure = _failure(body)
    except (ValueError, RecursionError):
        return None
    error = failure.error
    return truncated(error.message if isinstance(error, _ErrorObject) else error or failure.message)


def _credential(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


OPENAI_IMAGES: Final = ImageDialect(
    name="openai_images",
    credential=_credential,
    members=ImageMembers(size="size", size_form="text", sizes={}, count="n", most=4, images="images"),
    model_mistake=lambda model: None,
    submit=_submit,
    images=_images,
    message=_message,
)
