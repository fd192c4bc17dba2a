"""Estimates of a prompt's tokens are what the rule says, and no body makes the estimate slow."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.estimate import answers_asked, estimated_prompt_tokens, most_output, prompts_asked
from kyma_proxy.core.accounts.media import MEDIA_TOKENS

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


def test_an_image_with_escaped_plus_signs_counts_like_any_other() -> None:
    """As .NET writes them."""
    body = chat({"type": "image_url", "image_url": {"url": PNG}}).replace(b"+", rb"\u002B")
    assert estimated_prompt_tokens(body) < MEDIA_TOKENS + 50


def test_a_beginning_that_looks_like_a_cut_image_frees_no_text() -> None:
    """The mark of a string that is cut out can't be written by a caller."""
    forged = {"type": "image_url", "image_url": {"url": PNG[:320] + "\xff0"}}
    body = chat({"type": "tool_use", "input": {"data": MEDIA}}, forged, ensure_ascii=False)
    assert estimated_prompt_tokens(body) == as_text(body)
    raw = chat({"type": "tool_use", "input": {"data": MEDIA}}, forged).replace(rb"\u00ff", b"\xff")
    assert estimated_prompt_tokens(raw) == as_text(raw)


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


BASE64_OF_TEXT = base64.b64encode(b"A long story, which somebody wrote. " * 999).decode()


@pytest.mark.parametrize("part", [
    {"type": "tool_use", "input": {"data": MEDIA}},
    {"type": "tool_use", "input": {"type": "image_url", "image_url": {"url": PNG}}},
    {"type": "tool_result", "content": [{"type": "text", "text": PNG}]},
    {"type": "text", "text": PNG, "data": MEDIA},
    {"type": "text", "data": MEDIA},
    {"data": MEDIA},
    {"type": "image", "source": {"type": "text", "media_type": "image/png", "data": MEDIA}},
    {"type": "image", "source": {"type": "base64", "media_type": "application/pdf", "data": MEDIA}},
    {"type": "document", "source": {"type": "base64", "media_type": "text/plain", "data": MEDIA}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BASE64_OF_TEXT}},
    {"type": "image_url", "image_url": {"url": f"data:text/plain;base64,{MEDIA}"}},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64_OF_TEXT}"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 300 + " and a story" * 999}},
    {"type": "image_url", "image_url": {"url": f"data:image/png,{MEDIA}"}},
    {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/csv;base64,{MEDIA}"},
    {"type": "input_file", "filename": "a.txt", "file_data": MEDIA},
    {"type": "input_audio", "input_audio": {"data": MEDIA}},
    {"type": "input_audio", "input_audio": {"data": BASE64_OF_TEXT, "format": "wav"}},
    {"type": "my_own", "image_url": {"url": PNG}},
])  # fmt: skip
def test_text_in_the_wrapping_of_media_counts_as_text(part: object) -> None:
    body = chat(part)
    assert estimated_prompt_tokens(body) == as_text(body)


@pytest.mark.parametrize("document", [
    {"tools": [{"function": {"parameters": {"default": {"type": "image_url", "image_url": {"url": PNG}}}}}]},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"data": MEDIA}}}]}]},
    {"prompt": PNG}, {"prompt": {"data": MEDIA}}, {"input": PNG}, {"input": {"data": MEDIA}}, {"data": MEDIA},
    {"messages": {"content": [{"type": "image_url", "image_url": {"url": PNG}}]}},
    {"metadata": [{"content": [{"type": "image_url", "image_url": {"url": PNG}}]}]},
    {"messages": [{"content": PNG}]},
])  # fmt: skip
def test_media_counts_as_such_only_in_a_message(document: dict[str, object]) -> None:
    body = json.dumps({"model": "small"} | document).encode()
    assert estimated_prompt_tokens(body) == as_text(body)


@pytest.mark.parametrize("document", [
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]},
    {"input": [{"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]},
    {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": PNG}]}]},
    {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": PNG}}]},
    {"messages": [{"content": [{"type": "tool_result", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": MEDIA}}]}]}]},
    {"messages": [{"content": [{"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{MEDIA}"}}]}]},
    {"messages": [{"content": [{"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{MEDIA}"}}]}]},
])  # fmt: skip
def test_media_is_found_wherever_messages_may_hold_it(document: dict[str, object]) -> None:
    body = json.dumps({"model": "small"} | document).encode()
    assert estimated_prompt_tokens(body) == -(-(len(body) - len(MEDIA)) // 4) + MEDIA_TOKENS


def test_long_documents_and_sounds_count_more_than_pictures() -> None:
    long = base64.b64encode(Random(8).randbytes(600_000)).decode()
    tokens = [
        estimated_prompt_tokens(chat(part))
        for part in (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{long}"}},
            {"type": "input_audio", "input_audio": {"data": long, "format": "mp3"}},
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{long}"}},
        )
    ]
    assert tokens[0] < tokens[1] < tokens[2] < len(long) // 64


def test_an_escaped_slash_frees_no_text() -> None:
    """Only the slashes that are escaped make the image's string longer."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "/" * 40_000}}
    text = {"type": "text", "text": "word " * 10_000}
    plain = chat(part, text)
    assert estimated_prompt_tokens(plain.replace(b"word word", b"word\\/word", 1)) >= estimated_prompt_tokens(plain)


TEXTS = st.sampled_from(["", "a", "x" * 4100, "word " * 900, MEDIA, PNG, '"' * 5000])
PARTS = st.one_of(
    st.tuples(st.just(0), st.builds(lambda text: {"type": "text", "text": text}, TEXTS)),
    st.tuples(st.just(0), st.builds(lambda text: {"type": "tool_use", "input": {"data": text, "url": text}}, TEXTS)),
    st.tuples(st.just(1), st.just({"type": "image_url", "image_url": {"url": PNG}})),
)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=12))
def test_every_image_is_found_among_any_texts(parts: list[tuple[int, object]]) -> None:
    body, images = chat(*(part for _, part in parts)), sum(count for count, _ in parts)
    assert estimated_prompt_tokens(body) == -(-(len(body) - images * len(MEDIA)) // 4) + images * MEDIA_TOKENS <= as_text(body)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["image_url", "file", "base64", PNG, MEDIA]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["type", "content", "image_url", "url", "source", "data", "media_type", "file", "file_data"]), inner
    ),
    max_leaves=20,
))  # fmt: skip
@settings(deadline=None)
def test_no_odd_shape_of_a_message_breaks_the_estimate(messages: object) -> None:
    body = json.dumps({"messages": messages, "input": messages, "x": {"data": MEDIA}}).encode()
    assert 0 < estimated_prompt_tokens(body) <= as_text(body)


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


def test_a_body_of_very_many_values_counts_as_text() -> None:
    body = json.dumps({"messages": [*[{}] * 600_000, {"content": [{"type": "image_url", "image_url": {"url": PNG}}]}]}).encode()
    assert estimated_prompt_tokens(body) == as_text(body)


UNKNOWN = 4096


@pytest.mark.parametrize(("max_tokens", "inserted", "bound", "tokens"), [
    ((), 100, 8192, 100), ((), 4096, 1000, 1000), ((), None, 8192, 8192), ((), None, None, UNKNOWN), ((), 100, None, 100),
    ((b"5",), 4096, 8192, 5), ((b"60000",), 4096, 8192, 8192), ((b"60000",), 4096, None, 60_000),
    ((b"1000000000000000000000",), 100, 8192, 8192), ((b"1000000000000000000000",), 100, None, 10**17),
    ((b"1", b"30000"), 100, None, 30_000),  # which of the two a provider obeys is not known
    ((b"null",), 100, 8192, 8192), ((b"null", b"5"), 100, 8192, 8192), ((b"-1",), 100, 50, 50),
    ((b"0",), 100, 8192, 8192), ((b'"7"',), 100, 8192, 8192),
    # some providers take these for numbers
    ((b"1e5",), 100, None, 100_000), ((b"60000.0",), 100, None, 60_000), ((b'"60000"',), 100, None, 60_000),
    ((b"5.0",), 100, None, UNKNOWN), ((b'"many"',), 100, None, UNKNOWN), ((b"1e999",), 100, None, UNKNOWN),
])  # fmt: skip
def test_the_most_output_is_what_the_request_and_the_model_allow(
    max_tokens: tuple[bytes, ...], inserted: int | None, bound: int | None, tokens: int
) -> None:
    assert most_output(max_tokens, inserted, bound, UNKNOWN) == tokens


@pytest.mark.parametrize(("copies", "answers"), [
    ((), 1), ((b"3",), 3), ((b"2", b"4"), 4), ((b"null",), 1), ((b"0",), 1), ((b"1000000",), 1_000_000),
    ((b'"5"',), 5), ((b"5.0",), 5), ((b"4.5",), 5), ((b"5e0",), 5), ((b"-3",), 1), ((b"true",), 128), ((b"[5]",), 128),
    ((b'"nan"',), 128), ((b'"inf"',), 128), ((b"1e999",), 128),
    ((b"0." + b"0" * 20 + b"1e23",), 128),
])  # fmt: skip
def test_every_answer_that_a_request_wants_counts(copies: tuple[bytes, ...], answers: int) -> None:
    assert answers_asked(copies) == answers


@pytest.mark.parametrize(("prompt", "prompts"), [
    (b'"one"', 1), (b"[]", 1), (b'["one"]', 1), (b'["one", "two, too"]', 2), (b'[ "a",[1,2]]', 2), (b"[[1,2],[3]]", 2),
    (b"[1,2,3]", 1), (b" [1]", 1), (b"[ 1,2]", 1), (b"null", 1), (b'[""' + b',""' * 99 + b"]", 100),
    (b"[" + b'"",' * 20_000 + b'""]', 20_001), (b"[" + b"[1]," * 20_000 + b"[1]]", 20_001),
])  # fmt: skip
def test_each_prompt_of_a_list_is_answered(prompt: bytes, prompts: int) -> None:
    assert prompts_asked(prompt) == prompts
