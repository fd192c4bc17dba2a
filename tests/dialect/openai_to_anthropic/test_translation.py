"""A translation aggregates complete streams only, and gives streams and whole answers the same content."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.translation import Translation
from tests.dialect.aggregating import aggregated
from tests.dialect.openai_to_anthropic.material import (
    CREATED,
    FINISHED,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    STREAMED,
    aggregate_chunks,
    aggregate_events,
    block_delta,
    block_start,
    block_stop,
    case_name,
    comparable,
    load_json,
    streams,
    text_delta,
    translate_stream,
    translation,
    translation_of_case,
)


def assert_stream_and_answer_agree(translation: Translation, source: bytes) -> None:
    """To fold and to translate can be done in either order, and a whole answer streamed is the same answer."""
    answer = json.dumps(aggregate_events(source)).encode()
    whole = comparable(json.loads(translation.answer(200, answer).body))
    assert comparable(aggregate_chunks(translate_stream(translation.stream(), source))) == whole
    stream = translation.stream()
    assert comparable(aggregate_chunks(translate_stream(stream, translation.as_stream(answer)))) == whole
    assert stream.is_finished


@pytest.mark.parametrize("case", [case for case in FINISHED if case.name != "every_form_of_an_event"], ids=case_name)
def test_golden_streams_translate_to_the_same_completion_as_their_aggregates(case: Path) -> None:
    request = load_json(case, "request.json") | {"stream_options": {"include_usage": True}}
    translation = OpenAIToAnthropic(
        json.dumps(request).encode(), "claude", public_model="m", default_max_tokens=None, created=CREATED
    )
    assert_stream_and_answer_agree(translation, (case / "stream.sse").read_bytes())


@given(streams(), st.lists(st.integers(0, 4000), max_size=6))
def test_any_anthropic_stream_translates_to_the_same_completion_as_its_aggregate_however_split(
    source: bytes, cuts: list[int]
) -> None:
    once = translation(stream_options={"include_usage": True})
    assert_stream_and_answer_agree(once, source)
    connections = [0, *sorted(min(cut, len(source)) for cut in cuts), len(source)]
    pieces = [source[begin:end] for begin, end in itertools.pairwise(connections)]
    assert translate_stream(once.stream(), *pieces) == translate_stream(once.stream(), source)


def test_blocks_of_unknown_type_are_left_out_of_streams_and_whole_answers() -> None:
    source = b"".join([
        MESSAGE_START, block_start(0, type="hologram", text=""), text_delta("inside"),
        block_delta(0, type="thinking_delta", thinking="inside"), block_delta(0, type="input_json_delta", partial_json="{}"),
        block_stop(0), block_start(1, type="text", text=""), block_delta(1, type="text_delta", text="after"), block_stop(1),
        MESSAGE_DELTA, MESSAGE_STOP,
    ])  # fmt: skip
    told = aggregate_chunks(translate_stream(translation().stream(), source))["choices"][0]["message"]
    answer = {"content": [{"type": "hologram", "text": "inside"}, {"type": "text", "text": "after"}]}
    whole = json.loads(translation().answer(200, json.dumps(answer).encode()).body)["choices"][0]["message"]
    assert told == whole == {"role": "assistant", "content": "after", "refusal": None, "annotations": []}
    again = translate_stream(
        translation().stream(),
        MESSAGE_START,
        block_start(0, type="hologram"),
        block_stop(0),
        text_delta("a"),
        MESSAGE_DELTA,
        MESSAGE_STOP,
    )
    assert aggregate_chunks(again)["choices"][0]["message"]["content"] == "a"  # the number of a block may be used once more


@given(streams(), st.booleans())
def test_an_aggregated_anthropic_stream_equals_the_whole_answer(source: bytes, is_legacy: bool) -> None:
    made = translation(functions=[{"name": "f"}]) if is_legacy else translation()
    folded = aggregated(made, source)
    whole = made.answer(200, json.dumps(aggregate_events(source)).encode())
    assert comparable(json.loads(folded.body)) == comparable(json.loads(whole.body))
    assert folded.status == 200


@pytest.mark.parametrize("case", STREAMED, ids=case_name)
def test_only_a_complete_anthropic_stream_is_aggregated(case: Path) -> None:
    source = (case / "stream.sse").read_bytes()
    if case in FINISHED:
        assert json.loads(aggregated(translation_of_case(case), source).body)["choices"][0]["finish_reason"]
        source = source[: source.index(b'"message_stop"')]
    with pytest.raises(ValueError, match="incomplete"):
        aggregated(translation_of_case(case), source)
