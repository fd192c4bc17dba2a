"""Renders the page at `/status`: the document of `/v1/status` as HTML. (Contract §2.)"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final

import msgspec
from aiohttp import web

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10">
<title>Status: {status}</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
  body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
  section {{ border-top: 1px solid #8884; padding: .75rem 0; }}
  h2 {{ font-size: 1.05rem; margin: 0; display: flex; gap: .75rem; align-items: baseline; }}
  h2 small {{ font-weight: normal; opacity: .75; margin-left: auto; }}
  table {{ width: 100%; border-collapse: collapse; font-size: .9rem; }}
  th {{ text-align: left; font-weight: normal; opacity: .75; }}
  td, th {{ padding: .15rem .75rem .15rem 0; }}
  .status {{ border-radius: .25rem; padding: 0 .5rem; color: #fff; background: #767676; }}
  .available {{ background: #1a7f37; }}
  .unavailable {{ background: #cf222e; }}
  .degraded, .half-open {{ background: #9a6700; }}
</style>
</head>
<body>
<h1>Models <span class="status {status}">{status}</span></h1>
"""
_MODEL: Final = """<section>
<h2>{id} <span class="status {status}">{status}</span> <small>{requests}{availability}</small></h2>
{table}</section>
"""
_TABLE: Final = """<table>
<tr><th>provider</th><th>its model</th><th>part</th><th>now</th><th>breaker</th><th>attempts in 24 h</th><th>first byte</th>
<th></th></tr>
{sources}</table>
"""
_SOURCE: Final = (
    '<tr><td>{provider}</td><td>{model}</td><td>{part}</td><td><span class="status {status} {breaker}">{status}</span></td>'
    "<td>{breaker}</td><td>{attempts}{availability}</td><td>{first_byte}</td><td>{reason}</td></tr>\n"
)
_FOOT: Final = (
    '<p><small>Counted from real traffic; as JSON at <a href="/v1/status">/v1/status</a>.</small></p>\n</body>\n</html>\n'
)


_NO_STORE: Final = {"Cache-Control": "no-store"}
_PAGE_HEADERS: Final = {**_NO_STORE, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


class _Endpoint(msgspec.Struct):
    endpoint: str
    status: str
    reason: str | None


class _Source(msgspec.Struct):
    provider: str
    model: str
    part: str
    key: int | None
    status: str
    breaker: str | None
    reason: str | None
    retry_in_s: int | None
    first_byte_ms: float | None
    attempts_24h: int
    availability_24h: float | None
    endpoints: list[_Endpoint]


class _Model(msgspec.Struct):
    id: str
    status: str
    availability_24h: float | None
    requests_24h: int | None = None
    sources: list[_Source] | None = None
    """None in the document for callers with accounts."""


class _Status(msgspec.Struct):
    status: str
    models: list[_Model]


_decode: Final = msgspec.json.Decoder(_Status).decode


def add_status_routes(app: web.Application, read: Callable[[], bytes], *, has_page: bool = True) -> None:
    """Serve a document of the status, and its page unless another is served in its place."""

    async def status_json(request: web.Request) -> web.Response:
        return web.Response(body=read(), content_type="application/json", headers=_NO_STORE)

    async def status_html(request: web.Request) -> web.Response:
        return web.Response(body=status_page(read()), content_type="text/html", charset="utf-8", headers=_PAGE_HEADERS)

    app.router.add_get("/v1/status", status_json)
    if has_page:
        app.router.add_get("/status", status_html)


def status_page(document: bytes) -> bytes:
    """The page for a document of `/v1/status`. It loads nothing else, and reloads itself every 10 s."""
    status = _decode(document)
    models = "".join(_model(model) for model in status.models)
    return (_HEAD.format(status=escape(status.status)) + models + _FOOT).encode()


def _model(model: _Model) -> str:
    return _MODEL.format(
        id=escape(model.id),
        status=escape(model.status),
        requests="in 24 h" if model.requests_24h is None else f"{model.requests_24h} requests in 24 h",
        availability=_percent(model.availability_24h),
        table="" if model.sources is None else _TABLE.format(sources="".join(map(_source, model.sources))),
    )


def _source(source: _Source) -> str:
    retry = f" (retry in {source.retry_in_s} s)" if source.retry_in_s else ""
    notes = [escape(source.reason or "") + retry]
    notes += [
        f"{escape(one.endpoint)} is missing: {escape(one.reason or '')}" for one in source.endpoints if one.status == "missing"
    ]
    return _SOURCE.format(
        provider=escape(source.provider) + (f", key {source.key}" if source.key else ""),
        model=escape(source.model),
        part=escape(source.part),
        status=escape(source.status),
        breaker=escape((source.breaker or "").replace("_", "-")),
        attempts=source.attempts_24h,
        availability=_percent(source.availability_24h),
        first_byte=f"{source.first_byte_ms:g} ms" if source.first_byte_ms is not None else "",
        reason="; ".join(filter(None, notes)),
    )


def _percent(share: float | None) -> str:
    """A share in per cent, rounded down, so that nothing that has failed shows 100 %."""
    return "" if share is None else f", {int(share * 1e4) / 100:g} %"
