"""Knows which methods are served at which paths, also before a request is complete: who waits for a 100 is told at once."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from aiohttp import web

from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.web.not_offered import why_not_offered

_ADMIN_PATHS: Final = frozenset({"/metrics", "/livez", "/readyz"})


class ServedPaths:
    """The paths of an application, and those of relayed endpoints beside them."""

    def __init__(self, application: web.Application, relayed: Collection[bytes] = ()) -> None:
        """`application` has all its routes."""
        self._relayed = relayed
        self._plain: dict[str, set[str]] = {}
        self._patterns: list[tuple[re.Pattern[str], set[str]]] = []
        for resource in application.router.resources():
            info = resource.get_info()
            methods = {route.method for route in resource}
            if "path" in info:
                self._plain.setdefault(info["path"], set()).update(methods)
            elif "pattern" in info:
                self._patterns.append((info["pattern"], methods))

    def refusal(self, method: bytes, path: bytes) -> GatewayError | None:
        """The error for a request that nobody serves; None if somebody does, or if only the application can tell."""
        if path in self._relayed:
            return None if method in (b"POST", b"OPTIONS") else not_allowed(method.decode(), ["POST", "OPTIONS"])
        if b"%" in path:  # it is decoded before it is compared
            return None
        text = path.decode("latin-1")
        methods = {*self._plain.get(text, ())}
        for pattern, more in self._patterns:
            if pattern.fullmatch(text) is not None:
                methods |= more
        if not methods:
            return nothing_at(text, self._relayed)
        if method.decode() in methods or method == b"OPTIONS" or "*" in methods:
            return None
        return not_allowed(method.decode(), [*sorted(methods), "OPTIONS"])


def not_allowed(method: str, allowed: list[str]) -> GatewayError:
    """The error for a method that is not among those of its path."""
    error = GatewayError(Kind.METHOD_NOT_ALLOWED, f"{method} is not served here; use {allowed[0]}.")
    error.allowed = tuple(allowed)
    return error


def nothing_at(path: str, relayed: Collection[bytes] = ()) -> GatewayError:
    """The error for a path that does not exist, with a hint where it is. The admin listener has no `relayed` paths."""
    why = why_not_offered(path) if relayed else None
    return GatewayError(Kind.NOT_FOUND, why or f"There is nothing at {path}.{_hint(path, relayed)}")


def _hint(path: str, relayed: Collection[bytes]) -> str:
    if not relayed:
        return " This is the admin listener; the models are asked at the public one." if path.startswith("/v1/") else ""
    if f"/v1{path}".encode() in relayed or path == "/models":
        return f" Did you mean /v1{path}? The base URL for OpenAI clients ends with /v1."
    if path.startswith("/v1/v1/"):
        return " The path has /v1 twice; the base URL for Anthropic clients ends without it."
    if path in _ADMIN_PATHS or path.startswith("/admin/"):
        return " It is on the admin listener, 127.0.0.1:9090 if the configuration says nothing else."
    if path in ("/health", "/healthz"):
        return " GET /v1/health says if this gateway takes requests."
    if path in ("/", "/v1", "/v1/"):
        return " GET /v1/models lists the models, and /status shows their state."
    return ""
