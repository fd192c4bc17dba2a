"""Reads JSON requests, and builds JSON responses and errors in the dialect of the request."""

from __future__ import annotations

import secrets

import aiohttp
import msgspec
from aiohttp import web

from kyma_proxy.simulated.request_fields import BadRequest, Json


async def read_json_object(request: web.Request) -> Json:
    """Returns the body, a JSON object; raises BadRequest."""
    try:
        body = msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body of the request is not valid JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body of the request must be a JSON object.")
    return body


async def read_form(request: web.Request) -> tuple[dict[str, str], bytes]:
    """Returns the fields of a form, and the content of its file; raises BadRequest."""
    if request.content_type != "multipart/form-data":
        raise BadRequest("The body of the request must be multipart/form-data.")
    fields: dict[str, str] = {}
    file = b""
    try:
        async for part in await request.multipart():
            if not isinstance(part, aiohttp.BodyPartReader):
                raise BadRequest("A part of the form is multipart itself.")
            content = bytes(await part.read())
            if part.filename is not None:
                file = content
            elif part.name is not None:
                fields[part.name] = content.decode()
    except (ValueError, UnicodeDecodeError):
        raise BadRequest("The body of the request is no valid form.") from None
    return fields, file


def json_response(status: int, body: Json, request: web.Request) -> web.Response:
    """Returns a JSON response with a request id."""
    content = msgspec.json.encode(body)
    return web.Response(status=status, body=content, content_type="application/json", headers=request_id_header(request))


def bad_request_response(request: web.Request, error: BadRequest) -> web.Response:
    """Returns the response to a bad request: a 400, or in fal.ai's queue a 422 as FastAPI words it."""
    if _is_fal(request):
        location = ["body", error.param] if error.param else ["body"]
        return json_response(422, {"detail": [{"loc": location, "msg": error.message, "type": error.kind}]}, request)
    return _error_response(request, 400, error.message, error.param)


def http_error_response(request: web.Request, error: web.HTTPException) -> web.Response:
    """Returns the response to a request that no endpoint accepts because of its path, its method or its size."""
    if _is_fal(request):
        return json_response(error.status, {"detail": error.reason}, request)
    return _error_response(request, error.status, f"{error.reason}: {request.method} {request.path}", None)


def request_id_header(request: web.Request) -> dict[str, str]:
    """Returns a new request id, in the header that the dialect has for it."""
    return {"request-id" if _is_anthropic(request) else "x-request-id": f"req_{secrets.token_hex(12)}"}


def _error_response(request: web.Request, status: int, message: str, param: str | None) -> web.Response:
    if not _is_anthropic(request):
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
        return json_response(status, {"error": error}, request)
    kind = {404: "not_found_error", 413: "request_too_large"}.get(status, "invalid_request_error")
    return json_response(status, {"type": "error", "error": {"type": kind, "message": message}}, request)


def _is_anthropic(request: web.Request) -> bool:
    return request.path.startswith("/v1/messages") or "anthropic-version" in request.headers


def _is_fal(request: web.Request) -> bool:
    return request.path.startswith("/queue/")
