"""Reads requests about a reload, and writes its result, or what it would be, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from kyma_proxy.config.reload_result import Change, ReloadPreview, ReloadResult
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.web.reading import read_body

COMPARE_PATH: Final = "/admin/config/compare"
MAX_FORM_BYTES: Final = 8 * 2**20
"""Of a configuration that is to be compared: a file has as much at most."""
_SECTIONS: Final = ("providers", "models", "aliases", "fallbacks")


def is_dry_run(request: web.Request) -> bool:
    """True if nothing is to be changed. Raises GatewayError for what is not understood: it may be meant so."""
    given = list(request.query.items())
    if not given or given == [("dry_run", "0")]:
        return False
    if given != [("dry_run", "1")]:
        raise GatewayError(Kind.INVALID_REQUEST, "A reload takes the query dry_run=1, which changes nothing, or none.")
    if request.body_exists and request.content_length:
        message = "A dry run is of the gateway's own file; `kyma-proxy check FILE --diff` compares another. Send no body."
        raise GatewayError(Kind.INVALID_REQUEST, message)
    return True


async def read_written_form(request: web.Request) -> dict[str, Any]:
    """The configuration to compare with. Raises GatewayError."""
    try:
        form = orjson.loads(await read_body(request, MAX_FORM_BYTES))
    except orjson.JSONDecodeError:
        raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON.") from None
    if not isinstance(form, dict):
        raise GatewayError(Kind.INVALID_REQUEST, "The body must be an object: the written form of a configuration.")
    return form


def reload_document(outcome: ReloadResult) -> dict[str, object]:
    """The result as JSON; of a dry run also what would change."""
    found = {"problems": outcome.problems, "warnings": outcome.warnings}
    document = msgspec.structs.asdict(outcome) | {name: [one._asdict() for one in ones] for name, ones in found.items()}
    if not isinstance(outcome, ReloadPreview):
        return document
    return {"dry_run": True} | document | changes_document(outcome.changes)


def changes_document(changes: Iterable[Change]) -> dict[str, object]:
    """Changes as JSON: by section, and key by key."""
    changes = [*changes]
    return {
        **{name: _by_kind(name, changes) for name in _SECTIONS},
        "settings": [change.path for change in changes if _section_of(change) not in _SECTIONS],
        "changes": [msgspec.structs.asdict(change) for change in changes],
    }


def _by_kind(section: str, changes: Iterable[Change]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {"added": {}, "removed": {}, "changed": {}}
    for change in changes:
        if change.name is not None and _section_of(change) == section:
            is_whole = change.path == f"{section}[{change.name}]"
            found[change.kind if is_whole else "changed"][change.name] = None
    return {kind: [*names] for kind, names in found.items()}


def _section_of(change: Change) -> str:
    return change.path.partition("[")[0]
