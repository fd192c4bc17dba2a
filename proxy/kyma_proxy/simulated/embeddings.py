"""Makes simulated embeddings: unit vectors that depend on nothing but the input. Pure."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any, Final

from kyma_proxy.simulated.request_fields import BadRequest, Json, positive_int, required_model

_DIMENSIONS: Final = 256
_MAX_DIMENSIONS: Final = 4096
_MAX_INPUTS: Final = 2048


def embed(body: Json) -> Json:
    """Returns the body of POST /v1/embeddings; raises BadRequest."""
    model, inputs = required_model(body), _as_list(body.get("input"))
    dimensions = positive_int(body, "dimensions") or _DIMENSIONS
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


def _as_list(value: object) -> list[str | list[int]]:
    """Returns the entries of a text, of a list of tokens, or of a list of either."""
    inputs: list[Any] = value if isinstance(value, list) and not _is_tokens(value) else [value]
    for entry in inputs:
        if not (_is_tokens(entry) or (isinstance(entry, str) and entry)):
            raise BadRequest("'input' must be a text or a list of tokens, or a list of either, none empty.", "input")
    if not 0 < len(inputs) <= _MAX_INPUTS:
        raise BadRequest(f"'input' must hold 1 to {_MAX_INPUTS} entries.", "input")
    return inputs


def _is_tokens(entry: object) -> bool:
    return isinstance(entry, list) and bool(entry) and all(type(token) is int for token in entry)


def _unit_vector(entry: str | list[int], dimensions: int) -> bytes:
    """Returns a vector of length 1 as little-endian float32s, derived from the entry's hash."""
    digest = hashlib.shake_256(repr(entry).encode()).digest(2 * dimensions)
    values = [value - 32767.5 for value in struct.unpack(f"<{dimensions}H", digest)]
    length = math.sqrt(math.fsum(value * value for value in values))
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))
