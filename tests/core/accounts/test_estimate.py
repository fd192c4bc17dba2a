"""Estimates of a prompt's tokens are what the rule says, and no body makes the estimate slow."""

from __future__ import annotations

import base64
import json
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.estimate import MEDIA_TOKENS, answers_asked, estimated_prompt_tokens, most_output

MEDIA = base64.b64encode(Random(7).randbytes(60_000)).decode()
PNG = f"data:image/png;base64,{MEDIA}"


def chat(*content: object, **how: Any) -> bytes:
    return json.dumps({"model": "small", "messages": [{"role": "user", "content": content}]}, **how).encode()


def as_text(body: bytes) -> int:
    return -(-len(body) // 4)


@given(st.text(max_size=3000), st.booleans())
def test_text_counts_a_token_for_four_bytes(text: str, ascii_only: bool) -> None:
    body = chat({"type": "text", "text": text}, ensure_ascii=ascii_only)
    assert estimated_prompt_tokens(body) == as_text(body)


@pytest.mark.parametrize(("body", "tokens"), [(b"", 0), (b"{}", 1), (b"x" * 4, 1), (b"x" * 5, 2), (b"x" * 10**6, 250_000)])
def test_a_body_of_any_size_has_an_estimate(body: bytes, tokens: int) -> None:
    assert estimated_prompt_tokens(body) == tokens


@pytest.mark.parametrize("compact", [{}, {"separators": (",", ":")}, {"indent": 2}])
@pytest.mark.parametrize("part", [
    {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
    {"type": "input_image", "image_url": PNG},
    {"type": "input_audio", "input_audio": {"data": MEDIA, "format": "wav"}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{MEDIA}"}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": MEDIA}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": MEDIA}},
    {"type": "image_url", "image_url": {"url": f"data:image/svg+xml;charset=utf-8;base64,{MEDIA}"}},
])  # fmt: skip
def test_an_image_a_sound_or_a_document_counts_the_same_at_any_length(part: object, compact: dict[str, Any]) -> None:
    for count in (1, 2, 7):
        body = chat(*[part] * count, {"type": "text", "text": "What is this?"}, **compact)
        rest = len(body) - count * len(MEDIA)
        assert count * MEDIA_TOKENS < estimated_prompt_tokens(body) <= count * MEDIA_TOKENS + rest // 4 + 1


def test_an_image_with_escaped_slashes_counts_like_any_other() -> None:
    body = chat({"type": "image_url", "image_url": {"url": PNG}}).replace(b"/", rb"\/")
    assert estimated_prompt_tokens(body) < MEDIA_TOKENS + 50


@pytest.mark.parametrize("part", [
    {"type": "text", "text": f"What does {PNG} show?"},
    {"type": "text", "text": f"Somebody wrote: {PNG}"},
    {"type": "text", "text": f'The page says <img src="{PNG}">.'},
    {"type": "text", "text": MEDIA},
    {"type": "text", "text": "data:image/png;base64, " + "a long story of which much is text " * 999},
    {"type": "text", "text": "data:image/png;base64," + "很长的故事" * 9999},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A long story. " * 999}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "很长的故事" * 9999}},
    {"type": "tool_use", "input": {"metadata": MEDIA}},
])  # fmt: skip
def test_a_text_that_quotes_media_counts_as_text(part: object) -> None:
    body = chat(part, ensure_ascii=False)
    assert estimated_prompt_tokens(body) == as_text(body)


def test_a_small_image_counts_no_more_than_its_bytes_as_text() -> None:
    body = chat({"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="}})
    assert estimated_prompt_tokens(body) == as_text(body)


def estimated_by_scanning(body: bytes) -> int:
    """The same estimate, made by looking at every string."""
    text, media, start = len(body), 0, 0
    for run in body.split(b'"')[:-1]:
        before, start = body[:start], start + len(run) + 1
        is_url = re.match(rb"data:[^,]{0,256};base64,[\w+/=\\-]{256}", run, re.ASCII) and not before.endswith(b'\\"')
        is_member = re.match(rb"[\w+/=\\-]{256}", run, re.ASCII) and re.search(rb'"(file_)?data"\s{0,8}:\s{0,8}"$', before)
        if len(run) >= 4 * MEDIA_TOKENS and b" " not in run and len(before) > 1 and (is_url or is_member):
            text -= len(run)
            media += 1
    return -(-text // 4) + media * MEDIA_TOKENS


PIECES = (b'"', b'"data":"', b'"data":', b"data:x;base64,", b"A" * 256, b"A" * 3999, b"A" * 4000, b" ", b"\\", b":")


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES)))
def test_searching_in_strides_finds_the_same_media_as_looking_at_every_string(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    assert estimated_prompt_tokens(body) == estimated_by_scanning(body) <= as_text(body)


class Watched(bytes):
    """Bytes that count how often they are searched, and how far."""

    searches = 0
    looked_at = 0

    def find(self, *what: Any) -> int:
        found = super().find(*what)
        self._count(what[1], found if found >= 0 else (what[2] if len(what) > 2 else len(self)))
        return found

    def rfind(self, *what: Any) -> int:
        found = super().rfind(*what)
        self._count(max(found, what[1]), what[2])
        return found

    def _count(self, start: int, end: int) -> None:
        self.searches += 1
        self.looked_at += end - start


@pytest.mark.parametrize("unit", [
    b'"', b'"",', b'"data":"x",', b'"data":"' + b"A" * 4000 + b'",', b'"' + b"A" * 3998, b'""' + b"A" * 3999, b"A", b" ",
    b'"data":"' + b"A" * 5000 + b" " + b'",', b'"data:x;base64,' + b"A" * 4000 + b'",', b'"data:' * 800 + b";base64,", b"\\",
])  # fmt: skip
def test_the_estimate_of_a_hostile_body_takes_time_linear_in_its_length(unit: bytes) -> None:
    for size in (100_000, 800_000):
        body = Watched(b"{" + unit * (size // len(unit)) + b"}")
        estimated_prompt_tokens(body)
        assert body.searches <= 4 + 4 * size / 4000
        assert body.looked_at <= 4 * size + 8000


UNKNOWN = 4096


@pytest.mark.parametrize(("max_tokens", "inserted", "bound", "tokens"), [
    ((), 100, 8192, 100), ((), 4096, 1000, 1000), ((), None, 8192, 8192), ((), None, None, UNKNOWN), ((), 100, None, 100),
    ((b"5",), 4096, 8192, 5), ((b"60000",), 4096, 8192, 8192), ((b"60000",), 4096, None, 60_000),
    ((b"1000000000000000000000",), 100, 8192, 8192), ((b"1000000000000000000000",), 100, None, 10**17),
    ((b"1", b"30000"), 100, None, 30_000),  # which of the two a provider obeys is not known
    ((b"null",), 100, 8192, 8192), ((b"null", b"5"), 100, 8192, 8192), ((b"1e5",), 100, None, UNKNOWN), ((b"-1",), 100, 50, 50),
    ((b"0",), 100, 8192, 8192), ((b'"7"',), 100, 8192, 8192),
])  # fmt: skip
def test_the_most_output_is_what_the_request_and_the_model_allow(
    max_tokens: tuple[bytes, ...], inserted: int | None, bound: int | None, tokens: int
) -> None:
    assert most_output(max_tokens, inserted, bound, UNKNOWN) == tokens


@pytest.mark.parametrize(("copies", "answers"), [
    ((), 1), ((b"3",), 3), ((b"2", b"4"), 4), ((b"null",), 1), ((b"0",), 1), ((b"1000000",), 128),
])  # fmt: skip
def test_every_answer_that_a_request_wants_counts(copies: tuple[bytes, ...], answers: int) -> None:
    assert answers_asked(copies) == answers
