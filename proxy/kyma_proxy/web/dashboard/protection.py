"""Protects the dashboard's pages from other people's: headers, forms that only our own pages may send, the session's cookie."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from kyma_proxy.accounting.sessions import SESSION_S
from kyma_proxy.core.http.endpoints import MAX_FORM_BYTES
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.web.reading import read_body

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self' https://checkout.stripe.com; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""The headers of every page. None is stored: after a sign-out the browser's back button finds nothing."""

_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 20


class SessionCookie:
    """The cookie of a session. A `__Host-` name keeps other hosts of the domain from setting it; it needs https."""

    def __init__(self, public_url: str) -> None:
        self._is_secure = public_url.startswith("https://")
        self._name = "__Host-kyma_session" if self._is_secure else "kyma_session"

    def read(self, request: web.Request) -> str | None:
        """The cookie of a request."""
        return request.cookies.get(self._name)

    def set(self, response: web.Response, cookie: str) -> None:
        """Have the browser send it from now on."""
        response.set_cookie(
            self._name, cookie, max_age=SESSION_S, path="/", secure=self._is_secure, httponly=True, samesite="Lax"
        )

    def clear(self, response: web.Response) -> None:
        """Have the browser forget it."""
        response.del_cookie(self._name, path="/", secure=self._is_secure, httponly=True, samesite="Lax")


def check_own_form(request: web.Request) -> None:
    """Raises GatewayError unless a page of ours has sent this form.

    A browser says so in `Sec-Fetch-Site`; an old one, or one that found us by plain http, names the page's origin.
    """
    site = request.headers.getall("Sec-Fetch-Site", [])
    if site:
        is_own = site == ["same-origin"]
    else:
        origins, hosts = request.headers.getall("Origin", []), request.headers.getall("Host", [])
        is_own = len(origins) == len(hosts) == 1 and _authority(origins[0]) == hosts[0].lower() != ""
    if not is_own:
        raise GatewayError(Kind.FORBIDDEN, "This form was not sent by a page of this gateway, so nothing was done.")


def _authority(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


async def read_own_form(request: web.Request) -> dict[str, str]:
    """The fields of a form of ours. Raises GatewayError."""
    check_own_form(request)
    body = await read_body(request, MAX_FORM_BYTES)
    if request.content_type != _FORM_TYPE:
        raise GatewayError(Kind.INVALID_REQUEST, f"The form must be sent as {_FORM_TYPE}.")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise GatewayError(Kind.INVALID_REQUEST, "The form can't be read.") from None
    if len(dict(fields)) < len(fields):
        raise GatewayError(Kind.INVALID_REQUEST, "The form has the same field twice.")
    return dict(fields)
