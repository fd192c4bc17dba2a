"""Reads the routing fields of a request that is measured by more than tokens, and how much of everything it has."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import msgspec

from kyma_proxy.core.accounts.estimate import estimated_prompt_tokens
from kyma_proxy.core.accounts.extras import Extras
from kyma_proxy.core.accounts.quantities import Quantities, sorted_documents, spoken
from kyma_proxy.core.http.body import RoutingFields, reading_routing_fields
from kyma_proxy.core.http.endpoints import DOCUMENTS, SOUND_OUT, Endpoint

_FIELDS: Final = {SOUND_OUT: "input", DOCUMENTS: "documents"}
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode
_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def reading_measured(endpoint: Endpoint, body: bytes) -> Generator[None, None, RoutingFields]:
    """Read the routing fields of a JSON body, in slices. Raises GatewayError as `read_routing_fields` does."""
    fields = yield from reading_routing_fields(body, is_metered=True)
    yield
    written = fields.written
    assert written is not None  # noqa: S101  (metered)
    extras = Extras() if written.extras is None else written.extras
    written.extras = extras._replace(quantities=_quantities(endpoint.measure, body))
    return fields


def _quantities(measure: str, body: bytes) -> Quantities:
    """The quantities of a body that was read before. What is no text or no list is the provider's to refuse."""
    prompt = estimated_prompt_tokens(body)
    name = _FIELDS.get(measure)
    value = None if name is None else _members(body).get(name)
    try:
        if measure == SOUND_OUT:
            return spoken(0 if value is None else len(_text(value)), prompt)
        if measure == DOCUMENTS:
            return sorted_documents(0 if value is None else len(_items(value)), prompt)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return spoken(0, prompt) if measure == SOUND_OUT else sorted_documents(0, prompt)
    return Quantities(prompt)
