"""Translations between two dialects: they refuse as they promise, or write valid JSON and valid streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.dialect.translation import TranslatedAnswer, Translation
from kyma_proxy.errors import GatewayError
from tests.fuzz.examples import documents, golden, grammar, recorded
from tests.fuzz.mutators import JsonGrammar, json_mutator, stream_mutator
from tests.fuzz.pieces import alike_however_cut, seed_of
from tests.fuzz.target import Law, Target

Make = Callable[[bytes, int], Translation]
"""Makes a translation of a request; the number chooses among its options."""
_WORDS = (b"data: ", b"event: ", b"\n\n", b"<think>", b"</think>")
_REQUEST = json.dumps({
    "model": "m", "max_tokens": 9, "stop_sequences": ["END"], "messages": [{"role": "user", "content": "hi"}],
}).encode()  # fmt: skip
_LEGACY = json.dumps({
    "model": "m", "messages": [{"role": "user", "content": "hi"}], "functions": [{"name": "f", "parameters": {}}],
    "stream_options": {"include_usage": True},
}).encode()  # fmt: skip


def _anthropic_callers(body: bytes, seed: int) -> Translation:
    fields = ("reasoning_content", "reasoning", None)
    needs = (None, "reasoning", "thought_signature")
    return AnthropicToOpenAI(
        body, "source-model", public_model="m", max_tokens_field="max_completion_tokens" if seed & 1 else None,
        default_max_tokens=4096 if seed & 2 else None, asks_for_usage=bool(seed & 4), reasoning_field=fields[(seed >> 3) % 3],
        reasoning_parser="think" if seed & 1 else None, calls_need=needs[(seed >> 5) % 3], source="it",
    )  # fmt: skip


def _openai_callers(body: bytes, seed: int) -> Translation:
    models = ("claude-sonnet-4-5", "claude-opus-4-7", "claude-3-haiku", "m")
    default = 4096 if seed & 2 else None
    return OpenAIToAnthropic(body, models[(seed >> 3) % 4], public_model="m", default_max_tokens=default, created=1)


def _request_law(make: Make) -> Law:
    def law(data: bytes) -> None:
        """A request that can be routed is refused with a GatewayError, or becomes a JSON object."""
        try:
            read_routing_fields(data)
            made = make(data, seed_of(data))
        except GatewayError:
            return
        _assert_object(made.request.body)
        assert all(isinstance(path, str) for path in made.request.dropped)

    return law


def _stream_law(make: Make) -> Law:
    translations = [make(_REQUEST, 0), make(_LEGACY if make is _openai_callers else _REQUEST, 5)]

    def law(data: bytes) -> None:
        """A stream is translated alike however it is cut, into valid events; it can be summed up, or is a ValueError."""
        made = translations[seed_of(data) & 1]

        def translated(pieces: list[bytes]) -> tuple[bytes, bool, bool]:
            stream = made.stream()
            out = b"".join([stream.feed(piece) for piece in pieces]) + stream.flush()
            return out, stream.is_finished, stream.has_failed

        out, is_finished, has_failed = alike_however_cut(data, translated)
        _assert_stream(out)
        assert not (is_finished and has_failed)
        _assert_answer(lambda: _aggregated(made, data))

    return law


def _aggregated(made: Translation, stream: bytes) -> TranslatedAnswer:
    aggregation = made.aggregation()
    aggregation.feed(stream)
    return aggregation.finish()


def _answer_law(make: Make) -> Law:
    made = make(_REQUEST, 0)

    def law(data: bytes) -> None:
        """A whole answer becomes a JSON object, or a stream of the same meaning, or is a ValueError."""
        for status in (200, 400, 503):
            _assert_answer(lambda status=status: made.answer(status, data))  # type: ignore[misc]
        try:
            events = made.as_stream(data)
        except ValueError:
            return
        stream = made.stream()
        _assert_stream(stream.feed(events) + stream.flush())
        assert not (stream.is_finished and stream.has_failed)

    return law


def _assert_answer(translate: Callable[[], TranslatedAnswer]) -> None:
    try:
        answer = translate()
    except ValueError:
        return
    _assert_object(answer.body)


def _assert_object(body: bytes) -> None:
    with suppress(RecursionError):  # Python's own reader gives up where a provider's value nests deeply
        assert isinstance(json.loads(body.decode(), parse_int=str), dict), "no object"


def _assert_stream(stream: bytes) -> None:
    assert not stream or stream.endswith(b"\n\n"), "it ends within an event"
    parser = SseParser()
    for event in (*parser.feed(stream), *parser.flush()):
        if event.data != b"[DONE]":
            _assert_object(event.data)


def _targets(direction: str, make: Make, source: str) -> list[Target]:
    requests = golden(direction, "request.json")
    known = JsonGrammar([document for text in requests for document in documents(text)])
    answers = grammar(source)
    whole = [text for text in (*golden(direction, "answer.json"), *recorded(source)) if text.startswith(b"{")]
    streams = [text for text in (*golden(direction, "stream.sse"), *recorded(source)) if not text.startswith(b"{")]
    return [
        Target(f"{direction}_request", _request_law(make), lambda: requests, json_mutator(known)),
        Target(f"{direction}_answer", _answer_law(make), lambda: whole, json_mutator(answers)),
        Target(f"{direction}_stream", _stream_law(make), lambda: streams, stream_mutator(answers), _WORDS),
    ]


TARGETS = (
    *_targets("openai_to_anthropic", _openai_callers, "anthropic"),
    *_targets("anthropic_to_openai", _anthropic_callers, "openai"),
)
