"""A translation aggregates complete streams only, and gives streams and whole answers the same content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given

from kyma_proxy.dialect.translation import StreamTranslation, Translation
from tests.dialect.aggregating import aggregated
from tests.dialect.anthropic_to_openai.material import (
    aggregate_chunks,
    aggregate_events,
    case_options,
    chunk,
    comparable,
    events_of,
    golden_cases,
    plain,
    streams,
    translate_stream,
    translation,
)


def test_a_legacy_function_call_becomes_a_tool_use() -> None:
    call = {"name": "look", "arguments": '{"at":1}'}
    answer = {"id": "1", "choices": [{"message": {"content": None, "function_call": call}, "finish_reason": "function_call"}]}
    whole = json.loads(translation().answer(200, json.dumps(answer).encode()).body)
    whole["content"] = [plain(block) for block in whole["content"]]
    assert whole["content"] == [{"type": "tool_use", "id": "toolu_1_0", "name": "look", "input": {"at": 1}}]
    assert whole["stop_reason"] == "tool_use"
    out, stream = translate_stream(
        chunk({"function_call": {"name": "look", "arguments": ""}}, id="1"),
        chunk({"function_call": {"arguments": '{"at":'}}), chunk({"function_call": {"arguments": "1}"}}, "function_call"),
    )  # fmt: skip
    message = aggregate_events(out)
    assert (message["content"], message["stop_reason"]) == (whole["content"], "tool_use")
    assert stream.is_finished


def test_anthropic_errors_carry_the_request_id() -> None:
    made = translation(request_id="abc")
    assert json.loads(made.answer(500, b"{}").body)["request_id"] == "abc"
    for broken in (b'data: {"error":{"message":"no"}}\n\n', b"data: {\n\n", b"event: error\ndata: {}\n\n"):
        (error,) = events_of(made.stream().feed(broken))
        assert (error["type"], error["request_id"]) == ("error", "abc")


@given(streams())
def test_an_aggregated_openai_stream_equals_the_whole_answer(source: bytes) -> None:
    made = translation()
    folded, whole = aggregated(made, source), made.answer(200, aggregate_chunks(source))
    assert comparable(json.loads(folded.body)) == comparable(json.loads(whole.body))
    assert folded.status == 200


@golden_cases("stream.sse")
def test_only_a_complete_openai_stream_is_aggregated(case: Path) -> None:
    source = (case / "stream.sse").read_bytes()
    if case_options(case).get("finished", True):
        assert comparable(json.loads(aggregated(translation(), source).body)) == comparable(
            aggregate_events((case / "expected.sse").read_bytes())
        )
    else:
        with pytest.raises(ValueError, match="incomplete"):
            aggregated(translation(), source)


def test_the_openai_translation_satisfies_the_translation_protocol() -> None:
    whole: Translation = translation()
    stream: StreamTranslation = whole.stream()
    assert not stream.is_finished
