"""Lists the simulated models, in the shape of the client's dialect. Pure."""

from __future__ import annotations

from typing import Final

from kyma_proxy.simulated.request_fields import Json

_TEXT_MODEL: Final = "simulated"
_IMAGE_MODEL: Final = "simulated-image"


def list_models(*, anthropic: bool) -> Json:
    """Returns the body of GET /v1/models. Anthropic's list has no image model."""
    if anthropic:
        entry: Json = {
            "type": "model",
            "id": _TEXT_MODEL,
            "display_name": "Simulated",
            "created_at": "2026-01-01T00:00:00Z",
        }
        return {"data": [entry], "first_id": _TEXT_MODEL, "last_id": _TEXT_MODEL, "has_more": False}
    shared = {"object": "model", "created": 1767225600, "owned_by": "simulated"}
    return {"object": "list", "data": [{"id": ident, **shared} for ident in (_TEXT_MODEL, _IMAGE_MODEL)]}
