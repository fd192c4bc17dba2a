"""What a provider compressed is decoded, whatever pieces it comes in; what is cut, unknown or too large is refused."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http.content_coding import MAX_GROWN_BYTES, ContentDecoder, content_decoder

PLAIN = b"".join(b'data: {"at":%d}\n\n' % at for at in range(200))


def raw_deflate(plain: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(plain) + stream.flush()


CODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress), "x-gzip": (b"X-GZIP", gzip.compress), "deflate": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw_deflate), "br": (b"br", brotli.compress), "zstd": (b"zstd", zstd.compress),
    "two": (b"identity, gzip , br", lambda plain: brotli.compress(gzip.compress(plain))),
    "two, the other way": (b"br, gzip", lambda plain: gzip.compress(brotli.compress(plain))),
    "two with zstd": (b"zstd, gzip", lambda plain: gzip.compress(zstd.compress(plain))),
    "two members": (b"gzip", lambda plain: gzip.compress(plain[:99]) + gzip.compress(plain[99:])),
    "two frames": (b"zstd", lambda plain: zstd.compress(plain[:99]) + zstd.compress(plain[99:])),
}  # fmt: skip


def decoder_of(coding: bytes) -> ContentDecoder:
    decoder = content_decoder(coding)
    assert decoder is not None
    return decoder


@pytest.mark.parametrize("name", CODINGS)
@given(st.lists(st.integers(0, 500), max_size=6))
def test_a_body_is_decoded_however_it_is_cut(name: str, cuts: list[int]) -> None:
    coding, encode = CODINGS[name]
    body = encode(PLAIN)
    places = sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    decoder = decoder_of(coding)
    plain = b"".join(decoder.feed(body[at:to]) for at, to in zip(places, places[1:], strict=False))  # noqa: RUF007
    assert plain == PLAIN
    assert decoder.is_whole()


@pytest.mark.parametrize("name", CODINGS)
def test_a_body_that_is_cut_is_not_whole(name: str) -> None:
    coding, encode = CODINGS[name]
    decoder = decoder_of(coding)
    decoder.feed(encode(PLAIN)[:-1])
    assert not decoder.is_whole()


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_piece_that_grows_too_much_is_refused(name: str) -> None:
    coding, encode = CODINGS[name]
    with pytest.raises(ValueError, match="grows"):
        decoder_of(coding).feed(encode(b"\0" * (MAX_GROWN_BYTES + 1)))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_in_one_piece_may_not_grow_too_much_together(name: str) -> None:
    coding, encode = CODINGS[name]
    with pytest.raises(ValueError, match="grows"):
        decoder_of(coding).feed(encode(b"\0" * (MAX_GROWN_BYTES - 1)) * 2)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_without_end_are_refused(name: str) -> None:
    coding, encode = CODINGS[name]
    with pytest.raises(ValueError, match="too many"):
        decoder_of(coding).feed(encode(b"") * 1000)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_garbage_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the libraries' words)
        decoder_of(CODINGS[name][0]).feed(b"this is not compressed at all, whatever its head says")


@pytest.mark.parametrize("body", [
    b"x\x9cnu", b"x\x9c\x03\x00", b"x\x01" + raw_deflate(PLAIN), b"\x1f\x8bnu", zlib.compress(PLAIN)[:2] + b"\xff" * 9,
])  # fmt: skip
def test_a_header_is_believed_however_it_is_cut(body: bytes) -> None:
    def verdict(*pieces: bytes) -> bytes | None:
        decoder = decoder_of(b"deflate")
        try:
            return b"".join([decoder.feed(piece) for piece in pieces])
        except ValueError:
            return None

    whole = verdict(body)
    assert {verdict(body[:at], body[at:]) for at in range(len(body))} == {whole}
    assert verdict(*[body[at : at + 1] for at in range(len(body))]) == whole


@pytest.mark.parametrize("coding", [b"compress", b"gzip, rot13", b"gzip, gzip, gzip, gzip"])
def test_an_unknown_coding_is_refused(coding: bytes) -> None:
    with pytest.raises(ValueError, match="not known"):
        content_decoder(coding)


@pytest.mark.parametrize("coding", [b"", b"identity", b" Identity , "])
def test_identity_needs_no_decoder(coding: bytes) -> None:
    assert content_decoder(coding) is None
