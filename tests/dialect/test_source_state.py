"""What a source wants back travels with the caller: whole, bounded, and to this source only."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from kyma_proxy.dialect.reasoning_details import ReasoningDetails
from kyma_proxy.dialect.source_state import (
    CALL_PREFIX,
    MAX_STATE_BYTES,
    CallState,
    pack_call,
    pack_thought,
    source_tag,
    unpack_call,
    unpack_thought,
)
from kyma_proxy.dialect.thinking_signature import UNSIGNED, is_unsigned
from kyma_proxy.dialect.tool_ids import decode_tool_id, encode_call, encode_tool_id

Json = dict[str, Any]
TAG, OTHER = source_tag("google gemini-3"), source_tag("openrouter gemini-3")
EXTRA = Raw(b'{"google":{"thought_signature":"CiQB/+=="}}')
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
DETAILS = st.lists(
    st.one_of(
        st.builds(lambda text, sign: {"type": "reasoning.text", "text": text, "signature": sign, "index": 0}, WORDS, WORDS),
        st.builds(lambda text, at: {"type": "reasoning.summary", "summary": text, "index": at}, WORDS, st.integers(0, 2)),
        st.builds(lambda data: {"type": "reasoning.encrypted", "data": data, "format": "x-v1"}, WORDS),
    ),
    min_size=1,
    max_size=4,
)


def text_of(details: list[Json]) -> str:
    return "".join(str(one.get("text", "")) + str(one.get("summary", "")) for one in details)


@given(IDS)
def test_an_id_with_a_state_is_valid_at_anthropic_and_gives_both_back(own: str) -> None:
    packed = encode_call(CallState(own, TAG, EXTRA))
    assert re.fullmatch("[a-zA-Z0-9_-]+", packed)
    state = unpack_call(packed)
    assert state is not None
    assert (state.id, state.source, bytes(state.extra)) == (own, TAG, bytes(EXTRA))
    assert decode_tool_id(packed) == own


@pytest.mark.parametrize("extra", [Raw(b"null"), Raw(b"{}")])
def test_an_id_without_a_state_stays_as_it_is(extra: Raw) -> None:
    assert encode_call(CallState("call_1", TAG, extra)) == "call_1"


def test_a_state_that_is_too_large_is_left_out() -> None:
    large = Raw(msgspec.json.encode({"google": "x" * MAX_STATE_BYTES}))
    assert pack_call(CallState("call_1", TAG, large)) is None
    assert encode_call(CallState("call_1", TAG, large)) == "call_1"
    assert pack_thought([{"type": "reasoning.encrypted", "data": "x" * MAX_STATE_BYTES}], "", TAG) == UNSIGNED


def test_a_source_may_choose_ids_that_look_like_these() -> None:
    packed = encode_call(CallState("call_1", TAG, EXTRA))
    for own in (packed, CALL_PREFIX, f"{CALL_PREFIX}x"):
        assert decode_tool_id(encode_tool_id(own)) == own
        assert decode_tool_id(encode_call(CallState(own, TAG, EXTRA))) == own


@given(DETAILS, st.booleans())
def test_details_come_back_to_their_source_as_they_were(details: list[Json], shows_all: bool) -> None:
    shown = text_of(details) if shows_all else "else"
    signature = pack_thought(details, shown, TAG)
    assert is_unsigned(signature)
    assert unpack_thought(signature, shown, TAG) == details
    assert unpack_thought(signature, shown, OTHER) == []


def test_a_thought_that_the_caller_has_changed_loses_its_details() -> None:
    details = [{"type": "reasoning.text", "text": "I look.", "signature": "Eq"}]
    signature = pack_thought(details, "I look.", TAG)
    assert b"I look." not in signature.encode()
    assert len(signature) < len(pack_thought(details, "", TAG)) + 40
    assert unpack_thought(signature, "I don't.", TAG) == []
    assert unpack_thought(UNSIGNED, "I look.", TAG) == []


PACKED = encode_call(CallState("call_1", TAG, EXTRA))
SIGNED = pack_thought([{"type": "reasoning.encrypted", "data": "x"}], "", TAG)


@pytest.mark.parametrize("token", [
    PACKED[:-1], PACKED + "A", PACKED.replace("eyJ", "eyI"), PACKED.upper(), CALL_PREFIX, PACKED.replace("-", "_"),
    CALL_PREFIX + "0" * 16 + "-" + "A" * 9, PACKED + "\n", PACKED[:40] + "\u00e9", PACKED + "A" * (3 * MAX_STATE_BYTES),
])  # fmt: skip
def test_a_token_that_is_not_whole_is_an_id_like_any_other(token: str) -> None:
    assert unpack_call(token) is None
    assert decode_tool_id(token) == token


@pytest.mark.parametrize("signature", [SIGNED[:-1], SIGNED + "A", f"{UNSIGNED}.", f"{UNSIGNED}.{PACKED}", "", "Eq"])
def test_a_signature_that_is_not_whole_holds_nothing(signature: str) -> None:
    assert unpack_thought(signature, "", TAG) == []


# ---- what comes in pieces


def collected(*deltas: list[Json]) -> tuple[list[Json], str]:
    collector = ReasoningDetails()
    new = "".join([collector.add(delta) for delta in deltas])
    return collector.take(), new


def test_pieces_of_a_detail_are_joined_until_its_signature_has_come() -> None:
    piece = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    sealed = {"type": "reasoning.encrypted", "data": "gAAA", "index": 1}
    texts = [[piece | {"text": text}] for text in ("I ", "look.", "More.")]
    whole, new = collected(*texts[:2], [piece | {"signature": "Eq"}], texts[2], [sealed])
    assert whole == [piece | {"text": "I look.", "signature": "Eq"}, piece | {"text": "More."}, sealed]
    assert new == "I look.More."


@pytest.mark.parametrize(("one", "other"), [
    ({"type": "reasoning.summary", "summary": "a", "index": 0}, {"type": "reasoning.summary", "summary": "b", "index": 1}),
    ({"type": "reasoning.summary", "summary": "a", "index": 0}, {"type": "reasoning.text", "text": "b", "index": 0}),
    ({"type": "reasoning.text", "text": "a", "id": "x"}, {"type": "reasoning.text", "text": "b", "id": "y"}),
    ({"type": "reasoning.encrypted", "data": "a", "index": 0}, {"type": "reasoning.encrypted", "data": "b", "index": 0}),
    ({"type": "else"}, {"type": "else"}),
])  # fmt: skip
def test_details_that_differ_are_not_joined(one: Json, other: Json) -> None:
    assert collected([one], [other])[0] == collected([one, other])[0] == [one, other]


def test_a_source_that_repeats_what_it_has_written_is_read_once() -> None:
    piece = {"type": "reasoning.text", "format": "MiniMax-response-v1", "index": 0, "id": "r-1"}
    whole, new = collected([piece | {"text": "I"}], [piece | {"text": "I look"}], [piece | {"text": "I look."}])
    assert (whole, new) == ([piece | {"text": "I look."}], "I look.")


@pytest.mark.parametrize("odd", [None, 1, "x", {}, [1, "x", None, []]])
def test_details_of_another_shape_are_passed_over(odd: Any) -> None:
    collector = ReasoningDetails()
    assert (collector.add(odd), collector.take()) == ("", [])


def test_details_are_bounded() -> None:
    large = [{"type": "reasoning.encrypted", "data": "x" * 65536}] * 100
    with pytest.raises(ValueError, match="too long"):
        ReasoningDetails().add(large)
