"""Reads a request for a reload, and writes its result, or what it would be, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from aiohttp import web

from kyma_proxy.config.reload_result import Change, ReloadPreview, ReloadResult
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.web.reading import read_body

RELOAD_PATH: Final = "/admin/reload"
MAX_CONFIGURATION_BYTES: Final = 8 * 2**20
_SECTIONS: Final = ("providers", "models", "aliases", "fallbacks")
_HOW: Final = "A reload takes the query dry_run=1, which changes nothing, or none."


def is_dry_run(request: web.Request) -> bool:
    """True if nothing is to be changed. Raises GatewayError for a query that is not understood: it may be meant so."""
    given = list(request.query.items())
    if not given or given == [("dry_run", "0")]:
        return False
    if given == [("dry_run", "1")]:
        return True
    raise GatewayError(Kind.INVALID_REQUEST, _HOW)


async def sent_configuration(request: web.Request) -> str | None:
    """The configuration in a request's body; None if it has none. Raises GatewayError."""
    try:
        return (await read_body(request, MAX_CONFIGURATION_BYTES)).decode() or None
    except UnicodeDecodeError:
        raise GatewayError(Kind.INVALID_REQUEST, "The configuration is not UTF-8 text.") from None


def reload_document(outcome: ReloadResult) -> dict[str, object]:
    """The result as JSON; of a dry run also what would change, by section and key by key."""
    problems = [{"path": one.path, "line": one.line, "message": one.message} for one in outcome.problems]
    document = msgspec.structs.asdict(outcome) | {"problems": problems}
    if not isinstance(outcome, ReloadPreview):
        return document
    sections: dict[str, object] = {name: _by_kind(name, outcome.changes) for name in _SECTIONS}
    settings = [change.path for change in outcome.changes if _section_of(change) not in _SECTIONS]
    changes = [msgspec.structs.asdict(change) for change in outcome.changes]
    return {"dry_run": True} | document | sections | {"settings": settings, "changes": changes}


def _by_kind(section: str, changes: Iterable[Change]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {"added": {}, "removed": {}, "changed": {}}
    for change in changes:
        if change.name is not None and _section_of(change) == section:
            is_whole = change.path == f"{section}[{change.name}]"
            found[change.kind if is_whole else "changed"][change.name] = None
    return {kind: [*names] for kind, names in found.items()}


def _section_of(change: Change) -> str:
    return change.path.partition("[")[0]
