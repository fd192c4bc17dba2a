"""This file reads a request's JSON, and gives answers and refusals the shape of the dialect that was spoken."""

from __future__ import annotations

import secrets

import msgspec
from aiohttp import web

from kyma_proxy.simulated.reading import BadRequest, Json


async def read_object(request: web.Request) -> Json:
    """The body, a JSON object; raises BadRequest."""
    try:
        body = msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body of the request is not valid JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body of the request must be a JSON object.")
    return body


def answered(status: int, body: Json, request: web.Request) -> web.Response:
    """The answer as JSON, with the provider's name for the request."""
    content = msgspec.json.encode(body)
    return web.Response(status=status, body=content, content_type="application/json", headers=request_id(request))


def refused(request: web.Request, error: BadRequest) -> web.Response:
    """What a bad request is told; in fal.ai's queue as FastAPI says it."""
    if _is_fal(request):
        place = ["body", error.param] if error.param else ["body"]
        return answered(422, {"detail": [{"loc": place, "msg": error.message, "type": error.kind}]}, request)
    return _refusal(request, 400, error.message, error.param)


def unserved(request: web.Request, error: web.HTTPException) -> web.Response:
    """What a request is told that no endpoint takes: a path, a method or a size that isn't served."""
    if _is_fal(request):
        return answered(error.status, {"detail": error.reason}, request)
    return _refusal(request, error.status, f"{error.reason}: {request.method} {request.path}", None)


def request_id(request: web.Request) -> dict[str, str]:
    """A provider's own name for the request, under the header's name in its dialect."""
    return {"request-id" if _is_anthropic(request) else "x-request-id": f"req_{secrets.token_hex(12)}"}


def _refusal(request: web.Request, status: int, message: str, param: str | None) -> web.Response:
    if not _is_anthropic(request):
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
        return answered(status, {"error": error}, request)
    kind = {404: "not_found_error", 413: "request_too_large"}.get(status, "invalid_request_error")
    return answered(status, {"type": "error", "error": {"type": kind, "message": message}}, request)


def _is_anthropic(request: web.Request) -> bool:
    return request.path.startswith("/v1/messages") or "anthropic-version" in request.headers


def _is_fal(request: web.Request) -> bool:
    return request.path.startswith("/queue/")
