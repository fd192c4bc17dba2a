"""Decodes the content coding of an answer that was compressed although identity was asked for. (RFC 9110 §8.4.1)

What a provider compressed must be read to be judged and metered, and a caller may not be able to decode it. So it is passed on
as plain bytes. What one piece grows to is bounded.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any, Final, Protocol

import brotli  # type: ignore[import-untyped]

from kyma_proxy.core.http.inbound import options

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_GROWN_BYTES: Final = 5 * 1024 * 1024
"""The most that one piece may decode to; more is a decompression bomb, or broken. deflate grows 1032-fold at the most."""
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_HEADER_BYTES: Final = 2
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}  # 8 MiB: RFC 9659 §3
_MAX_CODINGS: Final = 3
_MAX_MEMBERS: Final = 64


class ContentDecoder(Protocol):
    """Decodes one body."""

    def feed(self, piece: bytes) -> bytes:
        """The plain bytes of this piece. Raises ValueError if it can't be decoded, or grows too much."""

    def is_whole(self) -> bool:
        """True if the coded body has come to its own end."""


class _Zlib:
    """gzip and deflate; some send deflate without zlib's header (RFC 9110 §8.4.1.2)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._first = b""  # until it can be told apart
        self._has_begun = False

    def feed(self, piece: bytes) -> bytes:
        if not self._has_begun:
            piece = self._first + piece
            if len(piece) < _HEADER_BYTES:
                self._first = piece
                return b""
            self._has_begun = True
            if not _has_header(piece):
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        plain = self._decompressed(piece)
        for _ in range(_MAX_MEMBERS):
            following = self._stream.unused_data
            if not self._stream.eof or not following:
                return plain
            self._stream = zlib.decompressobj(_ZLIB_OR_GZIP)  # gzip members may follow one another (RFC 1952 §2.2)
            plain += self._decompressed(following)
            if len(plain) > MAX_GROWN_BYTES:
                raise ValueError("it grows too much")
        raise ValueError("it has too many members")

    def _decompressed(self, piece: bytes) -> bytes:
        try:
            plain = self._stream.decompress(piece, MAX_GROWN_BYTES)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if self._stream.unconsumed_tail:
            raise ValueError("it grows too much")
        return plain

    def is_whole(self) -> bool:
        return self._stream.eof


def _has_header(start: bytes) -> bool:
    """True if a body begins as gzip (RFC 1952 §2.3.1) or zlib (RFC 1950 §2.2) does. So no later byte decides, in any piece."""
    return start.startswith(b"\x1f\x8b") or (start[0] & 15 == zlib.DEFLATED and int.from_bytes(start[:2]) % 31 == 0)


class _Brotli:
    def __init__(self) -> None:
        self._stream: Any = brotli.Decompressor()

    def feed(self, piece: bytes) -> bytes:
        try:
            plain: bytes = self._stream.process(piece, output_buffer_limit=MAX_GROWN_BYTES)
        except brotli.error as error:
            raise ValueError(str(error)) from None
        if len(plain) >= MAX_GROWN_BYTES:
            raise ValueError("it grows too much")
        return plain

    def is_whole(self) -> bool:
        return bool(self._stream.is_finished())


class _Zstandard:
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)

    def feed(self, piece: bytes) -> bytes:
        plain = b""
        for _ in range(_MAX_MEMBERS):
            if not piece:
                return plain
            if self._stream.eof:
                self._stream = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)  # frames may follow one another (RFC 8878 §3)
            try:
                plain += self._stream.decompress(piece, MAX_GROWN_BYTES)
            except zstd.ZstdError as error:
                raise ValueError(str(error)) from None
            if len(plain) >= MAX_GROWN_BYTES:
                raise ValueError("it grows too much")
            piece = self._stream.unused_data
        raise ValueError("it has too many members")

    def is_whole(self) -> bool:
        return self._stream.eof


class _Chain:
    """Several codings, of which the last one named was applied last."""

    def __init__(self, decoders: list[ContentDecoder]) -> None:
        self._decoders = decoders

    def feed(self, piece: bytes) -> bytes:
        for decoder in self._decoders:
            piece = decoder.feed(piece)
        return piece

    def is_whole(self) -> bool:
        return all(decoder.is_whole() for decoder in self._decoders)


_DECODERS: Final[dict[bytes, type[_Zlib] | type[_Brotli] | type[_Zstandard]]] = {
    b"gzip": _Zlib, b"x-gzip": _Zlib, b"deflate": _Zlib, b"br": _Brotli, b"zstd": _Zstandard,
}  # fmt: skip


def content_decoder(coding: bytes) -> ContentDecoder | None:
    """A decoder for a `Content-Encoding`; None for identity. Raises ValueError for a coding that is not known."""
    names = [name for name in options(coding.lower()) if name != b"identity"]
    if not names:
        return None
    if len(names) > _MAX_CODINGS or any(name not in _DECODERS for name in names):
        raise ValueError("its content coding is not known")
    decoders: list[ContentDecoder] = [_DECODERS[name]() for name in reversed(names)]
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)
