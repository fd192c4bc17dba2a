"""Checks that a whole request is UTF-8. The JSON reader looks only into the values that it decodes, not into those kept raw."""

from __future__ import annotations

import codecs
from typing import Final

from kyma_proxy.errors import GatewayError, Kind

_SLICE_BYTES: Final = 64 * 1024
_decoder: Final = codecs.getincrementaldecoder("utf-8")


def check_utf_8(body: bytes) -> None:
    """Raise GatewayError if a body is not UTF-8. It is decoded in slices: as a whole it may take four times its size."""
    if body.isascii():
        return
    decoder = _decoder()
    at = begun = 0
    try:
        for at in range(0, len(body), _SLICE_BYTES):
            begun = len(decoder.getstate()[0])  # bytes of a character that the slice before has begun
            decoder.decode(body[at : at + _SLICE_BYTES])
        at, begun = len(body), len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise GatewayError(
            Kind.INVALID_JSON, f"The body is not valid JSON: byte {at - begun + error.start} of it is not UTF-8."
        ) from None
