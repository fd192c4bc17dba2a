"""Unsigned thinking blocks are removed from requests to Anthropic, and nothing else is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.source_state import pack_thought
from kyma_proxy.dialect.thinking_signature import UNSIGNED, without_unsigned
from kyma_proxy.dialect.token_cleaning import may_hold_tokens

Json = dict[str, Any]
FOREIGN = {"type": "thinking", "thinking": "7 times 13.", "signature": UNSIGNED}
SIGNED = {"type": "thinking", "thinking": "7 times 13.", "signature": "EqQBCgIYAhIM"}
TEXT = {"type": "text", "text": "No."}
USE = {"type": "tool_use", "id": "t", "name": "n", "input": {"type": "thinking", "signature": UNSIGNED}}
BLOCKS = st.sampled_from([FOREIGN, SIGNED, TEXT, USE, {"type": "redacted_thinking", "data": UNSIGNED}])
CONTENTS = st.lists(BLOCKS, max_size=4) | st.sampled_from(["", "No.", UNSIGNED])
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": CONTENTS}), max_size=5)


def body(*contents: Any, indent: int | None = None) -> bytes:
    messages = [{"role": "assistant", "content": content} for content in contents]
    return json.dumps({"model": "m", "messages": messages, "max_tokens": 5}, indent=indent).encode()


def test_only_the_unsigned_block_is_removed_byte_for_byte() -> None:
    thought = '{"type":"thinking","thinking":"7 times 13.","signature":"kyma-unsigned"}'
    written = '{"model": "m",  "messages": [{"content":[%s{"type":"text", "text":"\\u004eo."}],"n":1.0 }] ,"max_tokens":5e0}'
    assert without_unsigned((written % f"{thought},").encode()) == ((written % "").encode(), ("messages[0].content[0]",))


@given(MESSAGES, st.sampled_from([None, 1]))
def test_the_cleaned_request_is_the_conversation_without_unsigned_blocks(messages: list[Json], indent: int | None) -> None:
    document = {"model": "m", "metadata": {"user_id": UNSIGNED}, "messages": messages, "system": [TEXT]}
    made, dropped = without_unsigned(json.dumps(document, indent=indent).encode())
    left = []
    for message in messages:
        content = message["content"]
        kept = content if isinstance(content, str) else [block for block in content if block != FOREIGN]
        if kept or not content:
            left.append(message | {"content": kept})
    assert json.loads(made) == document | {"messages": left}
    assert len(dropped) == sum(
        message["content"].count(FOREIGN) for message in messages if isinstance(message["content"], list)
    )


def test_a_thought_whose_signature_holds_another_sources_details_is_removed_too() -> None:
    details = [{"type": "reasoning.text", "text": "7 times 13.", "signature": "Eq"}]
    packed = FOREIGN | {"signature": pack_thought(details, "7 times 13.", "it")}
    written = body([packed, TEXT])
    assert may_hold_tokens(written)
    made, dropped = without_unsigned(written)
    assert json.loads(made)["messages"][0]["content"] == [TEXT]
    assert dropped == ("messages[0].content[0]",)


def test_a_message_that_becomes_empty_is_removed() -> None:
    made, dropped = without_unsigned(body([FOREIGN], [FOREIGN, TEXT], "word"))
    assert [message["content"] for message in json.loads(made)["messages"]] == [[TEXT], "word"]
    assert dropped == ("messages[0].content[0]", "messages[1].content[0]")


def test_signed_blocks_and_the_mark_elsewhere_stay_byte_for_byte() -> None:
    written = body([SIGNED, USE], UNSIGNED, [{"type": "text", "text": f'say "{UNSIGNED}"'}], indent=1)
    assert without_unsigned(written) == (written, ())


RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "7"}]}
CALL = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
CLEARS = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}


@pytest.mark.parametrize(("turns", "thinking", "goes"), [
    ([[FOREIGN, CALL]], "enabled", True), ([[FOREIGN, TEXT, CALL]], "enabled", True), ([[FOREIGN, CALL]], "adaptive", False),
    ([[FOREIGN, CALL]], "disabled", False), ([[SIGNED, FOREIGN, CALL]], "enabled", False),
    ([[FOREIGN, TEXT]], "enabled", False),
    ([[FOREIGN, CALL], [SIGNED, CALL]], "enabled", False), ([[SIGNED, CALL], [FOREIGN, CALL]], "enabled", True),
    ([[FOREIGN, CALL], [TEXT, CALL]], "enabled", False), ([[FOREIGN, CALL], [FOREIGN]], "enabled", True),
])  # fmt: skip
def test_thinking_is_dropped_if_a_tool_turn_lost_its_thinking_block(turns: list[list[Json]], thinking: str, goes: bool) -> None:
    messages = [one for turn in turns for one in ({"role": "assistant", "content": turn}, RESULT)]
    document = {
        "model": "m", "thinking": {"type": thinking, "budget_tokens": 2000}, "max_tokens": 5, "messages": messages,
        "temperature": 1.0,
    }  # fmt: skip
    made, dropped = without_unsigned(json.dumps(document).encode())
    found = json.loads(made)
    assert ("thinking" in found, "thinking" in dropped) == (not goes, goes)
    assert {name: found[name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "m", "max_tokens": 5, "temperature": 1.0,
    }  # fmt: skip
    assert b'"temperature":1.0' in made.replace(b" ", b"")


def test_clear_thinking_edits_are_dropped_with_thinking() -> None:
    messages = [{"role": "assistant", "content": [FOREIGN, CALL]}, RESULT]
    document = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "context_management": CLEARS, "messages": messages}
    made, dropped = without_unsigned(json.dumps(document).encode())
    assert dropped == ("messages[0].content[0]", "thinking", "context_management")
    assert json.loads(made) == {"messages": [{"role": "assistant", "content": [CALL]}, RESULT]}


def test_context_management_stays_if_thinking_is_not_enabled() -> None:
    document = {"messages": [{"role": "assistant", "content": [FOREIGN, CALL]}, RESULT], "context_management": CLEARS}
    made, dropped = without_unsigned(json.dumps(document).encode())
    assert dropped == ("messages[0].content[0]",)
    assert json.loads(made)["context_management"] == CLEARS


NONE = [
    b"[]", b"{", b"\xff", b"[" * 9999, b'{"messages":1}', b'{"messages":["kyma-unsigned"]}',
    b'{"messages":[{"content":["kyma-unsigned"]}]}', b'{"messages":[{"role":"kyma-unsigned"}]}',
]  # fmt: skip


@pytest.mark.parametrize("written", NONE)
def test_a_malformed_request_is_returned_unchanged(written: bytes) -> None:
    assert without_unsigned(written) == (written, ())


def test_unsigned_blocks_are_found_in_a_request_with_white_space() -> None:
    assert may_hold_tokens(body([FOREIGN], indent=2))
    assert not may_hold_tokens(body([SIGNED, TEXT]))
