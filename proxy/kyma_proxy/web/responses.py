"""Builds the JSON responses of the control plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What aiohttp calls for a route."""


def json_response(document: object, status: int = 200, *, is_private: bool = True) -> web.Response:
    """A response with a document. A private one must not be stored by caches: it may hold a key."""
    response = web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
    if is_private:
        response.headers["Cache-Control"] = "no-store"
    return response
