"""The reading of streams and bodies that pass: events, the usage that is withheld, content codings, what an answer says."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import Any

import brotli  # type: ignore[import-untyped]
from backports import zstd

from kyma_proxy.core.http.content_coding import content_decoder
from kyma_proxy.dialect.answers.facts import BadAnswer
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.sse import BOM, COMMENT, SseEvent, SseParser, encode_event
from kyma_proxy.dialect.usage_filter import UsageFilter
from tests.dialect.answers.reading import reader_of
from tests.fuzz.examples import grammar, recorded
from tests.fuzz.mutators import stream_mutator
from tests.fuzz.pieces import alike_however_cut, seed_of, splits
from tests.fuzz.target import Target

_ERROR = re.compile(rb"(?:\A|(?<=[\r\n]))error:[^\r\n]*")
_LINE = re.compile(rb"\r\n|\n|\r")


def events(data: bytes) -> None:
    """Every split has the same events, which a slow reading of the whole agrees with; written again they read the same."""
    for keeps_comments in (False, True):
        found = alike_however_cut(data, lambda pieces, keeps=keeps_comments: _events(pieces, keeps))  # type: ignore[misc]
        expected = _reference(data, keeps_comments)
        assert found == expected, f"found: {found!r}\nexpected: {expected!r}"
    for event in expected:
        if event.name != COMMENT:
            again = _events([encode_event(event.name, event.data)], False)
            assert again == [event], f"written again: {again!r}"


def _events(pieces: list[bytes], keeps_comments: bool) -> list[SseEvent]:
    parser = SseParser(keeps_comments=keeps_comments)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.flush()


def _reference(data: bytes, keeps_comments: bool) -> list[SseEvent]:
    """The events of a whole stream, by the standard's words. (WHATWG HTML §9.2.6)"""
    found: list[SseEvent] = []
    name = b""
    lines: list[bytes] = []
    *complete, rest = _LINE.split(data.removeprefix(BOM))
    for line in (*complete, *((rest,) if rest and not rest.startswith(b":") else ()), b""):
        field, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if lines:
                found.append(SseEvent(name, b"\n".join(lines)))
            name, lines = b"", []
        elif not field and colon:
            if keeps_comments:
                found.append(SseEvent(COMMENT, value))
        elif field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
        elif field == b"error" and colon:
            name = b"error"
            lines.append(value)
    return found


def usage_filter(data: bytes) -> None:
    """The stream passes whole, or without exactly one event, which has a usage and no choice."""
    out = alike_however_cut(data, _filtered)
    if out == data:
        return
    removed_bytes = len(data) - len(out)
    assert removed_bytes > 0, "more comes out than went in"
    places = [at for at in range(_common(data, out) + 1) if data.endswith(out[at:])]
    removed = [data[at : at + removed_bytes] for at in places]
    assert any(_is_usage_only(event) for event in removed), f"removed: {removed!r}"


def _common(one: bytes, other: bytes) -> int:
    """The number of bytes with which both begin."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _filtered(pieces: list[bytes]) -> bytes:
    one = UsageFilter()
    return b"".join([one.feed(piece) for piece in pieces]) + one.flush()


def _is_usage_only(text: bytes) -> bool:
    inner = b"\n" + _ERROR.sub(b"", text)  # a byte order mark counts at the beginning of a stream only
    try:
        found = [event.data for event in _reference(inner, False) if event.data.strip()]
        documents = [json.loads(data.decode("utf-8", "surrogateescape")) for data in found]
    except ValueError:
        return False  # the same bytes can be cut out at another place
    return len(documents) == 1 and isinstance(documents[0].get("usage"), dict) and not documents[0].get("choices")


_CODINGS = (b"gzip", b"deflate", b"br", b"zstd", b"br, gzip")


def codings(data: bytes) -> None:
    """What was encoded is decoded however it is cut; what is broken is a ValueError. A bomb may be one in one piece only."""
    coding, plain = _CODINGS[seed_of(data) % len(_CODINGS)], data[1:]
    _decoded_alike(coding, data)
    encoded = _encoded(coding, plain, data[:1])
    assert _decoded_alike(coding, encoded) == (plain, True), "something else comes out"
    _decoded_alike(coding, encoded[: len(encoded) // 2])


def _decoded_alike(coding: bytes, data: bytes) -> Any:
    whole = _decoded(coding, [data])
    for pieces in splits(data):
        cut = _decoded(coding, pieces)
        assert cut == whole or _is_bounded(whole) or _is_bounded(cut), f"whole: {whole!r}\ncut: {cut!r}"
    return whole


def _is_bounded(outcome: Any) -> bool:
    return isinstance(outcome, str) and outcome.startswith("it ")


def _decoded(coding: bytes, pieces: list[bytes]) -> Any:
    decoder = content_decoder(coding)
    assert decoder is not None
    try:
        plain = [decoder.feed(piece) for piece in pieces]
    except ValueError as error:
        return str(error) if str(error).startswith("it ") else ValueError
    return b"".join(plain), decoder.is_whole()


def _encoded(coding: bytes, plain: bytes, choice: bytes) -> bytes:
    if coding == b"gzip":
        return gzip.compress(plain) + (gzip.compress(b"") if choice > b"\x80" else b"")
    if coding == b"deflate":
        raw = zlib.compressobj(wbits=-15)
        return raw.compress(plain) + raw.flush() if choice > b"\x80" else zlib.compress(plain)
    if coding == b"zstd":
        return zstd.compress(plain)
    return gzip.compress(brotli.compress(plain)) if coding == b"br, gzip" else brotli.compress(plain)


_DIALECTS = {"openai": OPENAI, "anthropic": ANTHROPIC}
_SMALL_BYTES = 4096  # more is let go of while it passes, which may depend on the pieces


def answer_reader(data: bytes) -> None:
    """An answer is judged alike however it is cut: the same verdict, usage and error; nothing but BadAnswer is raised."""
    seed = seed_of(data)
    for dialect in (OPENAI, ANTHROPIC):
        for streams, is_certain in ((bool(seed & 1), bool(seed & 2)), (not seed & 1, True)):
            endpoint = dialect.endpoints[(seed >> 2) % len(dialect.endpoints)].name

            def judged(pieces: list[bytes], dialect: Any = dialect, streams: Any = streams, certain: Any = is_certain,
                       endpoint: Any = endpoint) -> Any:  # fmt: skip
                try:
                    reader = reader_of(dialect, pieces, streams=streams, endpoint=endpoint, is_unframed=not certain)
                    reader.finish(is_certain=certain)
                except BadAnswer as bad:
                    return bad.kind, bad.status
                return reader.usage(), reader.error, reader.streams, reader.is_complete, reader.is_between_events

            if len(data) < _SMALL_BYTES:
                alike_however_cut(data, judged)
            else:
                for pieces in ([data], *splits(data)):
                    judged(pieces)


_WORDS = (
    b"data: ", b"event: ", b"error:", b": c", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", BOM, b'"prompt_tokens"', b"[DONE]",
    b"id: ", b'"usage":', b'"choices":[]', b'"usage":null',
)  # fmt: skip
_USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
_STREAM = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n' + _USAGE + b"data: [DONE]\n\n"


def _stream_seeds() -> list[bytes]:
    return [
        _STREAM,
        BOM + b"event: a\r\ndata: 1\r\ndata:2\r\n\r\n: c\r\n\r\ndata",
        b"error: {}\n\n",
        b"data: a\r\rdata\r\r",
        _STREAM[:-2],
    ]


def _filter_seeds() -> list[bytes]:
    return [_STREAM, _STREAM + _STREAM, _STREAM.replace(b"\n", b"\r\n"), _STREAM.replace(b"\n", b"\r"), _USAGE[:-2],
            _STREAM.replace(b"\n\n", b"\n\r\n")]  # fmt: skip


def _answer_seeds() -> list[bytes]:
    return [one for dialect in ("openai", "anthropic") for one in recorded(dialect)]


TARGETS = (
    Target("events", events, _stream_seeds, None, _WORDS, 512),
    Target("usage_filter", usage_filter, _filter_seeds, None, _WORDS, 1024),
    Target("codings", codings, lambda: [b"x" * 9, b"", b"\x00" + _STREAM, gzip.compress(_STREAM), brotli.compress(_STREAM),
                                        zstd.compress(_STREAM), zlib.compress(_STREAM)], None, (), 1024),
    Target("answer_reader", answer_reader, _answer_seeds, stream_mutator(grammar("openai", "anthropic")), _WORDS, 4096),
)  # fmt: skip
