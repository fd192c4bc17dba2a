"""Serves the pages for everybody: the front page, the models, the tiers, the status, and the files that pages load."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from kyma_proxy.config.snapshot import Model, Snapshot
from kyma_proxy.core.routing.plan import each_key
from kyma_proxy.web.dashboard.protection import HEADERS
from kyma_proxy.web.dashboard.responding import Responding

_MAX_ROWS: Final = 200
_TYPES: Final = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
_MAX_QUERY: Final = 100


class _Row(NamedTuple):
    """A model as the pages show it. `availability` is a share of 1."""

    model: Model
    status: str
    availability: float | None


_SORTS: Final[dict[str, tuple[str, Callable[[_Row], tuple[Any, ...]]]]] = {
    "name": ("Name", lambda row: (row.model.id.lower(),)),
    "input": ("Input", lambda row: (row.model.price.input is None, row.model.price.input, row.model.id)),
    "output": ("Output", lambda row: (row.model.price.output is None, row.model.price.output, row.model.id)),
    "context": ("Context", lambda row: (-(row.model.context_window or 0), row.model.id)),
}


class OpenPages:
    """The pages. `status` returns the document of `/v1/status`, `listed` the models that only patterns know."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        status: Callable[[], bytes],
        listed: Callable[[], tuple[Model, ...]],
        responding: Responding,
    ) -> None:
        self._current = current
        self._status = status
        self._listed = listed
        self._responding = responding
        self._read: tuple[bytes, dict[str, dict[str, Any]]] = b"", {}

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        handler = self._responding.handler
        app.router.add_get("/", handler(self._front))
        app.router.add_get("/models", handler(self._models))
        app.router.add_get("/limits", handler(self._limits))
        app.router.add_get("/status", handler(self._status_page))
        for name in _TYPES:
            app.router.add_get(f"/{name}", self._file(name))

    def _file(self, name: str) -> Any:
        body = self._responding.rendering.files[name]
        headers = {**HEADERS, "Cache-Control": "public, max-age=86400"}

        async def file(request: web.Request) -> web.Response:
            return web.Response(body=body, content_type=_TYPES[name], charset="utf-8", headers=headers)

        return file

    async def _front(self, request: web.Request) -> web.Response:
        snapshot = self._current()
        models = [model for model in snapshot.entries if not _is_pattern(model)]
        first = next(iter(snapshot.aliases), None) or next((one.id for one in models if not one.is_image), "MODEL")
        return await self._responding.page(request, "front.html", {
            "model": first, "models": len(models), "signup": snapshot.accounts.signup,
        })  # fmt: skip

    async def _models(self, request: web.Request) -> web.Response:
        sought = request.query.get("q", "")[:_MAX_QUERY].strip()
        sort = request.query.get("sort", "name")
        sort = sort if sort in _SORTS else "name"
        words = sought.lower().split()
        rows = [row for row in self._rows() if all(word in _text(row.model) for word in words)]
        rows.sort(key=_SORTS[sort][1])
        return await self._responding.page(request, "models.html", {
            "rows": rows[:_MAX_ROWS], "found": len(rows), "sought": sought, "sort": sort,
            "sorts": [(name, label) for name, (label, _) in _SORTS.items()],
            "aliases": sorted(self._current().aliases.items()),
        })  # fmt: skip

    async def _limits(self, request: web.Request) -> web.Response:
        return await self._responding.page(request, "tiers.html", {"tiers": self._current().tiers})

    async def _status_page(self, request: web.Request) -> web.Response:
        rows = sorted(self._rows(), key=operator.attrgetter("model.id"))
        states = {row.status for row in rows} - {"off"}
        overall = states.pop() if len(states) == 1 else "degraded" if states else "off"
        return await self._responding.page(
            request, "status.html", {"rows": rows[:_MAX_ROWS], "found": len(rows), "overall": overall}
        )

    def _rows(self) -> list[_Row]:
        known = self._known()
        models = [model for model in self._current().entries if not _is_pattern(model)]
        return [_row(model, known.get(model.counted_as, {})) for model in (*models, *self._listed())]

    def _known(self) -> dict[str, dict[str, Any]]:
        """The models of the status by their ids. The status is the same bytes for a second."""
        document = self._status()
        if self._read[0] is not document:
            self._read = document, {model["id"]: model for model in orjson.loads(document)["models"]}
        return self._read[1]


def _is_pattern(model: Model) -> bool:
    return model.id.endswith("*")


def _text(model: Model) -> str:
    return f"{model.id} {model.name} {model.owned_by} {' '.join(model.input_modalities)}".lower()


def _row(model: Model, known: dict[str, Any]) -> _Row:
    """A model that nobody could answer because its providers have no keys is off: that is no outage."""
    status = known.get("status", "available")
    sources = each_key((*model.pool, *model.reserve))
    if status == "unavailable" and all(source.provider.off is not None for source in sources):
        status = "off"
    return _Row(model, status, known.get("availability_24h"))
