"""This file makes what is answered without words: embeddings, and the list of models. Pure."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any, Final

from kyma_proxy.simulated.reading import IMAGE_MODEL, MODEL, BadRequest, Json, count_of, model_of

_DIMENSIONS: Final = 256
_MAX_DIMENSIONS: Final = 4096
_MAX_INPUTS: Final = 2048


def embeddings(body: Json) -> Json:
    """A list of unit vectors, each a function of its input alone; raises BadRequest."""
    model, inputs = model_of(body), _inputs(body.get("input"))
    dimensions = count_of(body, "dimensions") or _DIMENSIONS
    if dimensions > _MAX_DIMENSIONS:
        raise BadRequest(f"'dimensions' must be at most {_MAX_DIMENSIONS}.", "dimensions")
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadRequest("'encoding_format' must be float or base64.", "encoding_format")
    data = []
    for at, entry in enumerate(inputs):
        packed = _unit_vector(entry, dimensions)
        vector = base64.b64encode(packed).decode() if encoding == "base64" else struct.unpack(f"<{dimensions}f", packed)
        data.append({"object": "embedding", "index": at, "embedding": vector})
    tokens = sum(len(entry.split()) if isinstance(entry, str) else len(entry) for entry in inputs)
    return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _inputs(asked: object) -> list[str | list[int]]:
    """A text, a list of tokens, or a list of either: always as a list."""
    inputs: list[Any] = asked if isinstance(asked, list) and not _is_tokens(asked) else [asked]
    for entry in inputs:
        if not (_is_tokens(entry) or (isinstance(entry, str) and entry)):
            raise BadRequest("'input' must be a text or a list of tokens, or a list of either, none empty.", "input")
    if not 0 < len(inputs) <= _MAX_INPUTS:
        raise BadRequest(f"'input' must hold 1 to {_MAX_INPUTS} entries.", "input")
    return inputs


def _is_tokens(entry: object) -> bool:
    return isinstance(entry, list) and bool(entry) and all(type(token) is int for token in entry)


def _unit_vector(entry: str | list[int], dimensions: int) -> bytes:
    """Little-endian float32s of length 1 together, drawn from the entry's own hash."""
    drawn = hashlib.shake_256(repr(entry).encode()).digest(2 * dimensions)
    values = [value - 32767.5 for value in struct.unpack(f"<{dimensions}H", drawn)]
    length = math.sqrt(math.fsum(value * value for value in values))
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))


def models(*, anthropic: bool) -> Json:
    """The models that are listed, in the shape of the dialect: Anthropic's has none for pictures."""
    if anthropic:
        entry: Json = {"type": "model", "id": MODEL, "display_name": "Simulated", "created_at": "2026-01-01T00:00:00Z"}
        return {"data": [entry], "first_id": MODEL, "last_id": MODEL, "has_more": False}
    common = {"object": "model", "created": 1767225600, "owned_by": "simulated"}
    return {"object": "list", "data": [{"id": ident, **common} for ident in (MODEL, IMAGE_MODEL)]}
