"""This file speaks fal.ai's queue: a job is submitted, looked at until it is completed, and then fetched. (Contract §10.)

What a job is found by is `owner/app` of the model's id and the name that the queue gave it; the addresses that the queue
tells are not followed, as a provider's addresses come from the configuration alone.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from kyma_proxy.config.snapshot import ImageWords, Source
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.dialect.images.contract import ImageDialect, ImageQueue, ProviderRequest, Unsupported, picture, quoted, said

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ACTIVE: Final = frozenset({"IN_QUEUE", "IN_PROGRESS"})


class _Submitted(msgspec.Struct, gc=False):
    request_id: str


class _Status(msgspec.Struct, gc=False):
    status: str


class _Image(msgspec.Struct, gc=False):
    url: str | None = None


class _Result(msgspec.Struct, gc=False):
    images: list[_Image] = []
    image: _Image | None = None


class _Failure(msgspec.Struct, gc=False):
    detail: Any = None
    error: Any = None


_submitted: Final = msgspec.json.Decoder(_Submitted).decode
_status: Final = msgspec.json.Decoder(_Status).decode
_result: Final = msgspec.json.Decoder(_Result).decode
_failure: Final = msgspec.json.Decoder(_Failure).decode
_encode: Final = msgspec.json.encode


def _asks(request: ImageRequest, source: Source) -> ProviderRequest:
    if request.response_format == "b64_json":
        why = "none gives the images themselves; leave `response_format` out and fetch their URLs"
        raise Unsupported(why, "response_format")
    return ProviderRequest("POST", f"/{source.model}", _encode(said(request, source)))


def _name(body: bytes) -> str:
    name = _submitted(body).request_id
    if not _NAME.fullmatch(name):
        raise ValueError("a job without a usable name")
    return name


def _of(source: Source, name: str) -> str:
    return f"/{'/'.join(source.model.split('/')[:2])}/requests/{name}"


def _is_done(body: bytes) -> bool:
    return _status(body).status not in _ACTIVE


def _pictures(body: bytes) -> list[Picture]:
    result = _result(body)
    told = result.images or ([] if result.image is None else [result.image])
    found = (picture(one.url) for one in told)
    return [one for one in found if one is not None]


def _message(body: bytes) -> str | None:
    """`detail` is a text, or a list of what is wrong where; the input that it repeats is not."""
    try:
        failure = _failure(body)
    except (ValueError, RecursionError):
        return None
    detail = failure.detail
    if not isinstance(detail, list):
        return quoted(detail or failure.error)
    rows = [one for one in detail if isinstance(one, dict) and isinstance(one.get("msg"), str)]
    return quoted("; ".join(f"{_place(one.get('loc'))}{one['msg']}" for one in rows))


def _place(loc: object) -> str:
    names = [str(one) for one in loc if isinstance(one, str | int) and one != "body"] if isinstance(loc, list) else []
    return f"{'.'.join(names)}: " if names else ""


def _credential(key: str) -> tuple[str, str]:
    return "authorization", f"Key {key}"


FAL_QUEUE: Final = ImageDialect(
    name="fal_queue",
    credential=_credential,
    usual=ImageWords(size="image_size", size_form="object", sizes={}, count="num_images", most=4, images="image_url"),
    asks=_asks,
    pictures=_pictures,
    message=_message,
    queue=ImageQueue(
        name=_name,
        looks=lambda source, name: ProviderRequest("GET", f"{_of(source, name)}/status"),
        is_done=_is_done,
        fetches=lambda source, name: ProviderRequest("GET", _of(source, name)),
        cancels=lambda source, name: ProviderRequest("PUT", f"{_of(source, name)}/cancel"),
    ),
)
