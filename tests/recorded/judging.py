"""Compares what callers saw and what was logged with the judgement that an item must get."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.recorded.corpus import Expected, Item, Mode, document_of
from tests.recorded.replay import HEALTHY_CHARGE, HEALTHY_TEXT, Seen

_STOP_REASONS = {
    "stop": {"end_turn", "stop_sequence"}, "length": {"max_tokens", "model_context_window_exceeded"},
    "tool_calls": {"tool_use"}, "content_filter": {"refusal"},
}  # fmt: skip
_OVERFLOW = ("prompt is too long: ", "This model's maximum context length is ")
_NUMBERS = re.compile(r"\d+")


class Meaning:
    """The meaning of an answer of a chat in either dialect: its text, its calls of tools, and its end."""

    def __init__(self) -> None:
        self.text = ""
        self.tools: dict[Any, list[str]] = {}
        self.end = ""
        self.error: Any = None
        self.is_ended = False

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """The calls: their names and arguments."""
        return [(name, json.loads(arguments or "{}")) for name, arguments in self.tools.values()]


def meaning_of(endpoint: str, body: bytes, *, stream: bool) -> Meaning:
    """Read an answer as a client of its dialect does."""
    meaning = Meaning()
    if not stream:
        (_read_message if endpoint == "messages" else _read_completion)(json.loads(body), meaning)
        return meaning
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        if event.strip() == b"data: [DONE]":
            meaning.is_ended = True
            continue
        document = document_of(event)
        if document.get("error"):
            meaning.error = document["error"]
        (_read_message_event if endpoint == "messages" else _read_chunk)(document, meaning)
    return meaning


def _read_completion(document: dict[str, Any], meaning: Meaning) -> None:
    for choice in document["choices"][:1]:
        message = choice["message"]
        meaning.text = message.get("content") or ""
        meaning.end = choice["finish_reason"]
        for at, call in enumerate(message.get("tool_calls") or ()):
            meaning.tools[at] = [call["function"]["name"], call["function"]["arguments"]]


def _read_message(document: dict[str, Any], meaning: Meaning) -> None:
    meaning.end = document["stop_reason"]
    for at, block in enumerate(document["content"]):
        if block["type"] == "text":
            meaning.text += block["text"]
        elif block["type"] == "tool_use":
            meaning.tools[at] = [block["name"], json.dumps(block["input"])]


def _read_chunk(document: dict[str, Any], meaning: Meaning) -> None:
    for choice in document.get("choices") or ():
        delta = choice.get("delta") or {}
        meaning.text += delta.get("content") or ""
        meaning.end = choice.get("finish_reason") or meaning.end
        for call in delta.get("tool_calls") or ():
            known = meaning.tools.setdefault(call["index"], ["", ""])
            function = call.get("function") or {}
            known[0] += function.get("name") or ""
            known[1] += function.get("arguments") or ""


def _read_message_event(document: dict[str, Any], meaning: Meaning) -> None:
    kind, block, delta = document.get("type"), document.get("content_block") or {}, document.get("delta") or {}
    if block.get("type") == "tool_use":
        meaning.tools[document["index"]] = [block["name"], ""]
    meaning.text += block.get("text") or delta.get("text") or ""
    if delta.get("partial_json"):
        meaning.tools[document["index"]][1] += delta["partial_json"]
    meaning.end = delta.get("stop_reason") or meaning.end
    meaning.is_ended |= kind == "message_stop"


# ---- the judgements


def judge(item: Item, mode: Mode, seen: Seen) -> None:
    """Assert that an item got its judgement."""
    {"answered": _judge_answer, "broken": _judge_broken, "moved_on": _judge_moved_on, "relayed": _judge_relayed}[
        item.expected.verdict
    ](item, mode, seen)


def _judge_answer(item: Item, mode: Mode, seen: Seen) -> None:
    assert seen.record["attempts"] == [f"{_source(item)}:answered"]
    assert (seen.status, seen.record["ending"], seen.is_whole) == (200, "completed", True)
    assert "x-kyma-fallback" not in seen.headers
    if mode.is_translated:
        judge_meaning(item, seen)
    else:
        assert seen.body == (item.for_metered if mode.is_metered else item.data)
    judge_usage(item.expected, mode, seen)
    assert not seen.record.get("error_code")


def judge_meaning(item: Item, seen: Seen) -> None:
    """Assert that a translated answer means what the item means."""
    expected, other = item.expected, "messages" if item.dialect == "openai" else "chat/completions"
    meaning = meaning_of(other, seen.body, stream=item.stream)
    assert meaning.text == item.text
    assert meaning.calls == [(tool.name, json.loads(tool.arguments)) for tool in expected.tools]
    assert meaning.end in (_STOP_REASONS[expected.finish] if other == "messages" else {expected.finish})
    assert meaning.is_ended == item.stream
    assert meaning.error is None


def _judge_broken(item: Item, mode: Mode, seen: Seen) -> None:
    assert (seen.status, seen.record["ending"]) == (200, "broken")
    assert len(seen.record["attempts"]) == 1
    if mode.is_translated:
        meaning = meaning_of("messages" if item.dialect == "openai" else "chat/completions", seen.body, stream=item.stream)
        assert meaning.text == item.text
        assert meaning.error is not None
        assert not meaning.is_ended
    else:
        assert seen.body == (item.for_metered if mode.is_metered else item.data)
    assert str(seen.record.get("error_code")) == item.expected.error_code
    if mode.is_metered and item.expected.usage is not None:
        judge_usage(item.expected, mode, seen)


def _judge_moved_on(item: Item, mode: Mode, seen: Seen) -> None:
    first, *later = seen.record["attempts"]
    assert later == [f"{_source(item, second=True)}:answered"]
    assert first.startswith(f"{_source(item)}:")
    assert first != f"{_source(item)}:answered"
    if item.status >= 300:
        assert first == f"{_source(item)}:{item.status}"
    judge_second(item, mode, seen)


def judge_second(item: Item, mode: Mode, seen: Seen) -> None:
    """Assert that the second source answered, and that only its answer is charged."""
    assert (seen.status, seen.record["ending"], seen.is_whole) == (200, "completed", True)
    assert seen.headers["x-kyma-fallback-layer"] == "1"
    if item.endpoint != "embeddings":
        assert HEALTHY_TEXT.encode() in seen.body
    if mode.is_metered:
        assert seen.charged == pytest.approx(HEALTHY_CHARGE[item.endpoint != "embeddings"], abs=1e-10)


def judge_exhausted(item: Item, seen: Seen) -> None:
    """Assert that the gateway speaks for itself where no source is left: nothing of the provider's words goes out."""
    assert seen.status in (429, 502, 503, 504, 529)  # the last where all are overloaded, for a caller who knows it
    assert seen.is_whole
    assert seen.document["error"]["message"]
    for words in provider_words(item):
        assert words not in seen.body.decode()
    assert (seen.record["ending"], seen.charged) == ("failed", 0)


def provider_words(item: Item) -> list[str]:
    """The messages in an error's body."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(
                one for name, one in value.items() if name in ("message", "detail", "msg") and isinstance(one, str) and one
            )
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(one)

    with_data = item.events if item.is_stream else [item.data]
    for text in with_data:
        try:
            walk(document_of(text) if item.is_stream else json.loads(text))
        except ValueError:
            continue
    return found


def _judge_relayed(item: Item, mode: Mode, seen: Seen) -> None:
    assert seen.record["attempts"] == [f"{_source(item)}:answered"]
    assert (seen.status, seen.record["ending"], seen.charged) == (item.status, "relayed_error", 0)
    if not mode.is_translated:
        assert seen.body == item.data
        return
    message = seen.document["error"]["message"]
    for words in provider_words(item)[:1]:
        assert words in message or is_reworded(item, message)


def is_reworded(item: Item, message: str) -> bool:
    """True if an error is said in the words by which clients know it, with no other numbers than the provider's."""
    return message.startswith(_OVERFLOW) and set(_NUMBERS.findall(message)) <= set(_NUMBERS.findall(item.data.decode()))


def judge_usage(expected: Expected, mode: Mode, seen: Seen) -> None:
    """Assert what was logged and charged."""
    usage, record = expected.usage, seen.record
    assert usage is not None
    if usage.source == "estimated":
        if mode.is_metered:
            assert record["usage_source"] == "estimated"
            judge_estimate(usage.completion_between, seen)
        return
    assert record["usage_source"] == "reported"
    logged = (record["prompt_tokens"], record["completion_tokens"] or 0, record["cached_tokens"] or 0)
    if usage.is_rounded and logged[0] == (usage.prompt or 0) - 1:
        logged = (usage.prompt, *logged[1:])
    assert logged == (usage.prompt, usage.completion, usage.cached)
    nearly = pytest.approx(expected.charge, abs=2e-6 if usage.is_rounded else 2e-9)
    assert record["cost_usd"] == nearly
    if mode.is_metered:
        assert seen.charged == nearly


def judge_estimate(between: tuple[int, int] | None, seen: Seen) -> None:
    """Assert that an estimate is charged, and that its output is between these numbers of tokens."""
    low, high = between or (1, 10**6)
    record = seen.record
    assert record["prompt_tokens"] > 0
    assert low <= record["completion_tokens"] <= high
    cached = record["cached_tokens"] or 0
    charge = (record["prompt_tokens"] - 0.9 * cached + 2 * record["completion_tokens"]) / 1e6
    assert seen.charged == pytest.approx(charge, abs=2e-9)


def _source(item: Item, *, second: bool = False) -> str:
    return f"p{(item.dialect == 'anthropic') + 2 * second}"
