"""Compresses and decompresses as providers and clients do: the codings of RFC 9110 §8.4.1, Brotli and Zstandard.

The last two are there if the modules are with which aiohttp reads them.
"""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_ANY_WINDOW_BITS = 47
_MODULES = {"br": "brotli", "zstd": "backports.zstd"}
CODINGS = [*_WINDOW_BITS, *(coding for coding, module in _MODULES.items() if importlib.util.find_spec(module.split(".")[0]))]
"""The codings that can be tried here."""


def compressed(coding: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress the pieces of a body, so that a receiver can read each as soon as it comes."""
    compress, end = _compressor(coding)
    for piece in pieces:
        yield compress(piece)
    yield end()


def decompressed(coding: str, body: bytes) -> bytes:
    """The plain bytes, as far as they came."""
    if not body or not coding:
        return body
    if coding in _WINDOW_BITS:
        return zlib.decompressobj(wbits=_ANY_WINDOW_BITS).decompress(body)
    module = importlib.import_module(_MODULES[coding])
    plain: bytes = module.Decompressor().process(body) if coding == "br" else module.ZstdDecompressor().decompress(body)
    return plain


def _compressor(coding: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """Two functions: one compresses a piece to its end, one ends the body."""
    if coding in _WINDOW_BITS:
        plain = zlib.compressobj(wbits=_WINDOW_BITS[coding])
        return lambda piece: plain.compress(piece) + plain.flush(zlib.Z_SYNC_FLUSH), plain.flush
    module: Any = importlib.import_module(_MODULES[coding])
    if coding == "br":
        brotli = module.Compressor()
        return lambda piece: brotli.process(piece) + brotli.flush(), brotli.finish
    zstd = module.ZstdCompressor()
    return lambda piece: zstd.compress(piece, mode=zstd.FLUSH_BLOCK), zstd.flush
