"""Reads the routing fields of a request that is measured by more than tokens, and how much of everything it has."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import msgspec

from kyma_proxy.core.accounts.estimate import estimated_prompt_tokens
from kyma_proxy.core.accounts.extras import Extras
from kyma_proxy.core.accounts.quantities import Quantities, heard, sorted_documents, spoken
from kyma_proxy.core.accounts.sound_length import estimated_milliseconds
from kyma_proxy.core.http.body import MeteredFields, RoutingFields, reading_routing_fields
from kyma_proxy.core.http.endpoints import DOCUMENTS, SOUND_OUT, Endpoint
from kyma_proxy.core.http.form import FormReader
from kyma_proxy.core.http.form_part import bad_form, boundary_of
from kyma_proxy.core.http.inbound import Headers

_FREE_HERE: Final = frozenset({"speed"})
"""Members that cost more in a conversation, and nothing here: how fast a text is spoken."""
_FIELDS: Final = {SOUND_OUT: "input", DOCUMENTS: "documents"}
_SLICE_BYTES: Final = 2**20
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
    unpriced = tuple([one for one in extras.unpriced if one[0] not in _FREE_HERE])
    written.extras = extras._replace(unpriced=unpriced, quantities=_quantities(endpoint.measure, body))
    return fields


def reading_form(headers: Headers, body: bytes) -> Generator[None, None, RoutingFields]:
    """Read the routing fields of a form with a sound, in slices. Raises GatewayError."""
    form = FormReader(boundary_of(content_type_of(headers)))
    view = memoryview(body)
    for start in range(0, len(body), _SLICE_BYTES):
        form.feed(bytes(view[start : start + _SLICE_BYTES]))
        yield
    form.finish()
    return fields_of(form, form.size)


def content_type_of(headers: Headers) -> bytes | None:
    """The type of a body. Raises GatewayError if it is there twice."""
    found = [value for name, value in headers if name.lower() == b"content-type"]
    if len(found) > 1:
        raise bad_form("The request has two headers Content-Type")
    return found[0] if found else None


def fields_of(form: FormReader, size: int) -> RoutingFields:
    """The routing fields of a form whose `model` is known, and which has `size` bytes as a whole."""
    assert form.model is not None  # noqa: S101  (known)
    written = MeteredFields(b"", b"", (), (), Extras(quantities=quantities_of(form, size)))
    return RoutingFields(form.model, form.start, form.end, form.streams, True, written)


def quantities_of(form: FormReader, size: int) -> Quantities:
    """The quantities of a form with a sound, of which the rest up to `size` bytes may be still to come."""
    sound = form.file_bytes + max(0, size - form.size)
    return heard(estimated_milliseconds(form.file_begins, sound), size - sound)


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
