"""Describes fal.ai's queue: a job is submitted, polled until it is completed, and its result fetched. (Contract §10.)

The URL of a job is made of `owner/app` of the model's id and of the id that the queue returned. The URLs that the queue returns
are not followed, as a provider's addresses come from the configuration only.

A cancellation is confirmed by the status OK alone: the job was still in the queue, and is removed. A 202,
CANCELLATION_REQUESTED, only passes the wish on, and the job may be made all the same; a 400 is ALREADY_COMPLETED, a 404
NOT_FOUND. The job's own result tells then: images, or an error such as `client_cancelled`.
Source: https://fal.ai/docs/inference-api/queue/cancel, https://fal.ai/docs/documentation/model-apis/request-errors

A failure is stored as the job's result, with the status that it would have had: one of the platform has an `error_type` in the
body and in X-Fal-Error-Type, one of the model has a list of faults in `detail`, and X-Fal-Retryable. fal has tried again by
itself up to ten times before, so such a result stays as it is. A status may tell of it before, as `error` beside COMPLETED.
Source: https://fal.ai/docs/documentation/model-apis/errors, https://fal.ai/docs/documentation/serverless/reliability/retries
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from kyma_proxy.config.image_rules import ImageMembers
from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.dialect.images.contract import (
    Fields,
    ImageDialect,
    ImageQueue,
    ProviderRequest,
    QueueStage,
    Unsupported,
    common_members,
    read_image,
    truncated,
)

_MODEL: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_STAGES: Final = {"IN_QUEUE": QueueStage.WAITS, "IN_PROGRESS": QueueStage.WORKS}
_PASSING: Final = frozenset({
    "downstream_service_error", "downstream_service_unavailable", "generation_timeout", "internal_server_error",
    "no_media_generated",
})  # fmt: skip
"""The model's faults that say nothing of the request, whatever their status: 400 and 422 are among them."""
_KEEPS_NOTHING: Final = b"x-fal-store-io: 0"
"""fal keeps the inputs and outputs of requests for its history, unless a request says otherwise; media files it keeps still.
Source: https://fal.ai/docs/model-apis/data-retention"""
_PLATFORMS_FIELD: Final = b"x-fal-error-type"
_RETRYABLE_FIELD: Final = b"x-fal-retryable"


class _Submitted(msgspec.Struct, gc=False):
    request_id: str


class _Status(msgspec.Struct, gc=False):
    status: str
    error: Any = None


class _Image(msgspec.Struct, gc=False):
    url: str | None = None


class _Result(msgspec.Struct, gc=False):
    images: list[_Image] = []
    image: _Image | None = None


class _Failure(msgspec.Struct, gc=False):
    detail: Any = None
    error: Any = None
    error_type: Any = None


_submitted: Final = msgspec.json.Decoder(_Submitted).decode
_status: Final = msgspec.json.Decoder(_Status).decode
_result: Final = msgspec.json.Decoder(_Result).decode
_failure: Final = msgspec.json.Decoder(_Failure).decode
_encode: Final = msgspec.json.encode


def _submit(request: ImageRequest, source: Source) -> ProviderRequest:
    if request.response_format == "b64_json":
        why = "none gives the images themselves; leave `response_format` out and fetch their URLs"
        raise Unsupported(why, "response_format")
    return ProviderRequest("POST", f"/{source.model}", _encode(common_members(request, source)), _KEEPS_NOTHING)


def _job_id(body: bytes) -> str:
    job_id = _submitted(body).request_id
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("a job without a valid id")
    return job_id


def _job_path(source: Source, job_id: str) -> str:
    return f"/{'/'.join(source.model.split('/')[:2])}/requests/{job_id}"


def _stage(body: bytes) -> QueueStage:
    read = _status(body)
    return _STAGES.get(read.status) or (QueueStage.FAILED if read.error else QueueStage.DONE)


def _is_result(fields: Fields, body: bytes) -> bool:
    if _PLATFORMS_FIELD in fields or _RETRYABLE_FIELD in fields:
        return True
    try:
        failure = _failure(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(failure.error_type, str) or isinstance(failure.detail, list)


def _passing_failure(fields: Fields, body: bytes) -> str | None:
    try:
        faults = _failure(body).detail
    except (ValueError, RecursionError):
        faults = None
    types = [one.get("type") for one in faults if isinstance(one, dict)] if isinstance(faults, list) else []
    word = next((one for one in types if isinstance(one, str) and one in _PASSING), None)
    return "retryable" if word is None and fields.get(_RETRYABLE_FIELD, b"").lower() == b"true" else word


def _is_withdrawn(status: int, body: bytes) -> bool:
    return 200 <= status < 300 and _status(body).status == "OK"


def _images(body: bytes) -> list[Picture]:
    result = _result(body)
    entries = result.images or ([] if result.image is None else [result.image])
    images = (read_image(entry.url) for entry in entries)
    return [image for image in images if image is not None]


def _message(body: bytes) -> str | None:
    """Return the message of an error. `detail` is a text or a list of faults; the input that a fault repeats is left out."""
    try:
        failure = _failure(body)
    except (ValueError, RecursionError):
        return None
    detail = failure.detail
    if not isinstance(detail, list):
        return truncated(detail or failure.error)
    faults = [one for one in detail if isinstance(one, dict) and isinstance(one.get("msg"), str)]
    return truncated("; ".join(f"{_location(fault.get('loc'))}{fault['msg']}" for fault in faults))


def _location(loc: object) -> str:
    names = [str(one) for one in loc if isinstance(one, str | int) and one != "body"] if isinstance(loc, list) else []
    return f"{'.'.join(names)}: " if names else ""


def _credential(key: str) -> tuple[str, str]:
    return "authorization", f"Key {key}"


def _model_mistake(model: str) -> str | None:
    if _MODEL.fullmatch(model):
        return None
    return "must be a path for a fal_queue provider: owner/app, such as fal-ai/flux-pro/v1.1-ultra"


FAL_QUEUE: Final = ImageDialect(
    name="fal_queue",
    credential=_credential,
    members=ImageMembers(size="image_size", size_form="object", sizes={}, count="num_images", most=4, images="image_url"),
    model_mistake=_model_mistake,
    submit=_submit,
    images=_images,
    message=_message,
    passing_failure=_passing_failure,
    queue=ImageQueue(
        job_id=_job_id,
        status=lambda source, job_id: ProviderRequest("GET", f"{_job_path(source, job_id)}/status"),
        stage=_stage,
        result=lambda source, job_id: ProviderRequest("GET", _job_path(source, job_id)),
        is_result=_is_result,
        cancel=lambda source, job_id: ProviderRequest("PUT", f"{_job_path(source, job_id)}/cancel"),
        is_withdrawn=_is_withdrawn,
    ),
)
