"""Describes the endpoints of image jobs for the OpenAPI document. (Contract §10.)"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from kyma_proxy.core.jobs.job import STATUSES
from kyma_proxy.core.jobs.request import MAX_IMAGES, MAX_KEY_CHARACTERS, MAX_PROMPT_CHARACTERS
from kyma_proxy.web.openapi.schemas import (
    BOOLEAN,
    COUNT,
    STRING,
    STRING_OR_NULL,
    USD,
    USD_OR_NULL,
    Json,
    Operation,
    exactly,
    header,
    list_of,
    one_of,
    open_object,
    or_null,
    query,
    ref,
)

_IMAGES: Final = exactly(
    created=COUNT,
    data=list_of({"oneOf": [exactly(url={**STRING, "format": "uri"}), exactly(b64_json=STRING)]}),
)
_TIME_OR_NULL: Final[Json] = {"type": ["integer", "null"], "minimum": 0}
_KEY: Final[Json] = {
    **STRING, "minLength": 1, "maxLength": MAX_KEY_CHARACTERS, "pattern": r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
}  # fmt: skip
_ID: Final[Json] = {"name": "id", "in": "path", "required": True, "schema": STRING}
_WAIT: Final = header("Prefer", "`wait=N`: the answer waits up to N seconds for the job's end. (RFC 7240)", STRING)

IMAGE_SCHEMAS: Final = MappingProxyType[str, Json]({
    "Images": _IMAGES,
    "ImageJob": exactly(
        id=STRING, object={"const": "image.job"}, status=one_of(*STATUSES), model=STRING, created_at=COUNT,
        completed_at=_TIME_OR_NULL, output={"oneOf": [{"type": "null"}, ref("Images")]},
        error={"oneOf": [{"type": "null"}, exactly(code=STRING, message=STRING)]},
        estimated_cost=USD, charged_amount=USD_OR_NULL,
    ),
    "ImageJobs": exactly(object={"const": "list"}, data=list_of(ref("ImageJob")), has_more=BOOLEAN, next_before=STRING_OR_NULL),
})  # fmt: skip

_REQUEST: Final = open_object(
    model={**STRING, "minLength": 1, "maxLength": 256, "description": "An image model's id or alias: GET /v1/models."},
    prompt={**STRING, "minLength": 1, "maxLength": MAX_PROMPT_CHARACTERS},
    optional={
        "n": or_null({"type": "integer", "minimum": 1, "maximum": MAX_IMAGES, "default": 1}),
        "size": or_null({**STRING, "description": "One of the model's sizes: GET /v1/capabilities. `auto` is as if absent."}),
        "image_url": or_null({**STRING, "description": "An input picture: a URL, or a data URL in base64."}),
        "image_urls": or_null(list_of(STRING)),
        "idempotency_key": or_null(_KEY),
        "response_format": or_null(one_of("url", "b64_json")),
        "extra": or_null({"type": "object", "description": "Further members that the model takes: GET /v1/capabilities."}),
        "stream": {"enum": [False, None], "description": "Images don't stream."},
        "user": {"description": "Ignored."},
    },
)

IMAGE_OPERATIONS: Final = (
    Operation(
        "post", "/v1/images/generations", "images_generations",
        "Start an image job. With `Prefer: wait=N` the answer is the images themselves, if they are made in time.",
        ref("ImageJob"), 202, body=_REQUEST, errors=(402, 409, 429, 502, 504), tag="images", needs_key=False,
        parameters=(_WAIT, header("Idempotency-Key", "The same key, the same job; as `idempotency_key`.", _KEY)),
        answers=((200, "The job that has this idempotency key; or the images, if the request waited for them.",
                  {"oneOf": [ref("ImageJob"), ref("Images")]}),),
    ),
    Operation(
        "post", "/v1/images/edits", "images_edits",
        "Start a job that edits pictures: a form with `image` (several are `image[]`) and `mask` as files, or JSON.",
        ref("ImageJob"), 202, body=_REQUEST, errors=(402, 409, 415, 429, 502, 504), tag="images", needs_key=False,
        parameters=(_WAIT, header("Idempotency-Key", "The same key, the same job; as `idempotency_key`.", _KEY)),
        answers=((200, "The job that has this idempotency key; or the images, if the request waited for them.",
                  {"oneOf": [ref("ImageJob"), ref("Images")]}),),
        takes_form=True,
    ),
    Operation(
        "get", "/v1/jobs", "jobs", "The caller's jobs of the last 30 days, newest first, without their output.",
        ref("ImageJobs"), tag="images", needs_key=False,
        parameters=(
            query("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
            query("before", "Only those before the job with this id.", {**STRING, "minLength": 1}),
        ),
    ),
    Operation(
        "get", "/v1/jobs/{id}", "job", "One job, with its output once it has succeeded.", ref("ImageJob"),
        parameters=(_ID, _WAIT), tag="images", needs_key=False,
    ),
    Operation(
        "delete", "/v1/jobs/{id}", "cancel_job", "Cancel a job; if no source has begun it, the held credits are given back.",
        ref("ImageJob"), parameters=(_ID,), tag="images", needs_key=False,
        answers=((202, "A source has begun it: it goes on, and what is delivered is charged.", ref("ImageJob")),),
    ),
)  # fmt: skip
