"""This file speaks OpenAI's images API, as Recraft and Together have it too: one call, whose answer has the images. (§10.)

Pictures to begin with go to `/images/edits`, in JSON, where the source takes them under OpenAI's own `images`; where it takes
`image_url` (Together), to `/images/generations` like everything else.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.config.snapshot import ImageWords, Source
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.dialect.images.contract import ImageDialect, ProviderRequest, picture, quoted, said


class _Image(msgspec.Struct, gc=False):
    url: str | None = None
    b64_json: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct, gc=False):
    data: list[_Image]


class _Fault(msgspec.Struct, gc=False):
    message: object = None


class _Failure(msgspec.Struct, gc=False):
    error: _Fault | str | None = None
    message: object = None


_answer: Final = msgspec.json.Decoder(_Answer).decode
_failure: Final = msgspec.json.Decoder(_Failure).decode
_encode: Final = msgspec.json.encode


def _asks(request: ImageRequest, source: Source) -> ProviderRequest:
    members = {"model": source.model} | said(request, source)
    if request.response_format is not None:
        members["response_format"] = request.response_format
    return ProviderRequest("POST", "/images/edits" if "images" in members else "/images/generations", _encode(members))


def _pictures(body: bytes) -> list[Picture]:
    found = (picture(one.url, one.b64_json) for one in _answer(body).data)
    return [one for one in found if one is not None]


def _message(body: bytes) -> str | None:
    try:
        failure = _failure(body)
    except (ValueError, RecursionError):
        return None
    error = failure.error
    return quoted(error.message if isinstance(error, _Fault) else error or failure.message)


def _credential(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


OPENAI_IMAGES: Final = ImageDialect(
    name="openai_images",
    credential=_credential,
    usual=ImageWords(size="size", size_form="text", sizes={}, count="n", most=4, images="images"),
    asks=_asks,
    pictures=_pictures,
    message=_message,
)
