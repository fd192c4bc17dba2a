"""A translation answers whatever a provider sends, or says with a ValueError that it can't: nothing else is ever raised.

Each value of the hand-written answers and streams is replaced by each of HOSTILE, one at a time: numbers that no encoder
takes, halves of characters, deep nesting, wrong types.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.sse import MAX_EVENT_BYTES, SseParser, encode_event
from kyma_proxy.dialect.translation import TranslatedAnswer, Translation
from tests.dialect.aggregating import aggregated

GOLDEN = Path(__file__).parent / "golden"
REQUEST = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()
LEGACY = json.dumps(json.loads(REQUEST) | {"functions": [{"name": "f", "parameters": {}}]}).encode()
PLACE = "<the hostile value>"
HOSTILE = {
    "2^63": b"9223372036854775808",
    "2^64": b"18446744073709551616",
    "-2^64": b"-18446744073709551616",
    "5000 digits": b"1" * 5000,
    "1e400": b"1e400",
    "NaN": b"NaN",
    "-Infinity": b"-Infinity",
    "half a character": b'"\\ud83d"',
    "half a character's bytes": b'"\xf0\x9f"',
    "a control character": b'"\x00"',
    "300 deep": b"[" * 300 + b"]" * 300,
    "990 deep": b"[" * 990 + b"]" * 990,
    "3000 deep": b"[" * 3000 + b"]" * 3000,
    "objects, 300 deep": b'{"a":' * 300 + b"1" + b"}" * 300,
    "a list of a huge number": b"[18446744073709551616]",
    "an object of a huge number": b'{"message":[18446744073709551616],"a":18446744073709551616}',
    "null": b"null",
    "true": b"true",
    "0.5": b"0.5",
    "text": b'"text"',
    "[]": b"[]",
    "{}": b"{}",
}


def anthropic_callers() -> Translation:
    return AnthropicToOpenAI(REQUEST, "s", public_model="m")


def openai_callers() -> Translation:
    return OpenAIToAnthropic(REQUEST, "s", public_model="m", default_max_tokens=None, created=1)


def legacy_callers() -> Translation:
    return OpenAIToAnthropic(LEGACY, "s", public_model="m", default_max_tokens=None, created=1)


DIRECTIONS = [
    pytest.param(anthropic_callers, "anthropic_to_openai", id="anthropic callers"),
    pytest.param(openai_callers, "openai_to_anthropic", id="openai callers"),
    pytest.param(legacy_callers, "openai_to_anthropic", id="legacy callers"),
]
USAGE = {
    "prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}, "prompt_cache_hit_tokens": 1,
    "completion_tokens_details": {"reasoning_tokens": 1}, "input_tokens": 1, "output_tokens": 2,
    "cache_read_input_tokens": 1, "cache_creation_input_tokens": 1, "output_tokens_details": {"thinking_tokens": 1},
}  # fmt: skip
"""Every count of both dialects."""


def hostile_variants(document: Any) -> Iterator[Any]:
    """The document once for each of its values, with PLACE instead of the value."""
    yield PLACE
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            changed = document.copy()
            for value in hostile_variants(document[key]):
                changed[key] = value
                yield changed


def written(document: Any, value: bytes) -> bytes:
    return json.dumps(document).encode().replace(json.dumps(PLACE).encode(), value)


def with_usage(document: Any) -> Any:
    return document | {"usage": USAGE} if "usage" in document else document


def assert_whole(translate: Callable[..., TranslatedAnswer], *answer: int | bytes) -> None:
    try:
        translated = translate(*answer)
    except ValueError:
        return
    assert_object(translated.body)


def assert_object(body: bytes) -> None:
    """What was written is a JSON object; Python can't read it if it holds a value of the provider's that nests too deeply."""
    with suppress(RecursionError):
        assert isinstance(json.loads(body, parse_int=str), dict)


def assert_stream(made: Translation, body: bytes) -> None:
    stream = made.stream()
    out = stream.feed(body) + stream.flush()
    parser = SseParser()
    for event in (*parser.feed(out), *parser.flush()):
        if event.data != b"[DONE]":
            assert_object(event.data)
    assert not (stream.has_failed and stream.is_finished)
    assert_whole(lambda stream: aggregated(made, stream), body)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(("direction", "folder"), DIRECTIONS)
def test_whole_answers_and_errors(direction: Callable[[], Translation], folder: str, value: bytes) -> None:
    made = direction()
    for file in sorted((GOLDEN / folder).glob("*/answer.json")):
        if not file.read_bytes().startswith(b"{"):
            continue
        for document in hostile_variants(with_usage(json.loads(file.read_bytes()))):
            body = written(document, value)
            assert_whole(made.answer, 200, body)
            try:
                events = made.as_stream(body)
            except ValueError:
                continue
            assert_stream(made, events)
    for error in ({"error": {"message": "m", "type": "t", "code": 1}}, {"detail": ["m"]}, ["m"], {"message": {"error": "m"}}):
        for document in hostile_variants(error):
            for status in (400, 500):
                assert_whole(made.answer, status, written(document, value))


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(("direction", "folder"), DIRECTIONS)
def test_streams(direction: Callable[[], Translation], folder: str, value: bytes) -> None:
    made = direction()
    for file in sorted((GOLDEN / folder).glob("*/stream.sse")):
        parser = SseParser()
        events = [*parser.feed(file.read_bytes()), *parser.flush()]
        seen: set[str] = set()
        for index, (name, data) in enumerate(events):
            try:
                original = json.loads(data)
            except ValueError:
                continue
            for document in hostile_variants(with_usage(original)):
                shape = json.dumps(document)
                if shape not in seen:
                    seen.add(shape)
                    changed = [*events[:index], (name, written(document, value)), *events[index + 1 :]]
                    assert_stream(made, b"".join(encode_event(*event) for event in changed))
        error = [*events[:1], (b"error", value), *events[1:]]
        assert_stream(made, b"".join(encode_event(*event) for event in error))


def long_event(folder: str, text: str) -> bytes:
    if folder == "anthropic_to_openai":
        document: Any = {"id": "1", "choices": [{"delta": {"content": text}}]}
    else:
        document = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return b"data: " + json.dumps(document).encode()


@pytest.mark.parametrize(("direction", "folder"), DIRECTIONS)
def test_a_stream_may_end_within_a_long_line(direction: Callable[[], Translation], folder: str) -> None:
    text = "x" * (MAX_EVENT_BYTES * 3 // 4)
    stream = direction().stream()
    out = stream.feed(long_event(folder, text)) + stream.flush()
    assert text.encode() in out
    assert not stream.has_failed
    cut = direction().stream()
    cut.feed(long_event(folder, text)[:-9])
    assert text.encode() not in cut.flush()
    assert not cut.is_finished


@pytest.mark.parametrize(("direction", "folder"), DIRECTIONS)
def test_an_event_that_is_too_long_fails_the_stream(direction: Callable[[], Translation], folder: str) -> None:
    event = long_event(folder, "x" * MAX_EVENT_BYTES)
    for pieces in ([event], [event[at : at + 2**20] for at in range(0, len(event), 2**20)]):
        stream = direction().stream()
        out = b"".join([stream.feed(piece) for piece in pieces]) + stream.flush()
        assert b'"error"' in out
        assert stream.has_failed
        assert not stream.is_finished
