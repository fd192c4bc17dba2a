"""A source that speaks the caller's dialect gets a conversation without the tokens that translations left in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from kyma_proxy.dialect.responses.reasoning import Thoughts, pack
from kyma_proxy.dialect.source_state import CallState, source_tag
from kyma_proxy.dialect.token_cleaning import clean_messages, clean_responses, may_hold_tokens
from kyma_proxy.dialect.tool_ids import encode_call

Json = dict[str, Any]
EXTRA = Raw(b'{"google":{"thought_signature":"CiQB"}}')
PACKED = encode_call(CallState("functions.look:0", source_tag("it"), EXTRA))
ASKED = {"role": "user", "content": "Go."}
OWN = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
FOREIGN = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": pack(Thoughts("Hm."))}
CALL = {"type": "function_call", "call_id": PACKED, "name": "look", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": PACKED, "output": "1"}


def body(*items: Json) -> bytes:
    return json.dumps({"model": "m", "input": list(items), "tools": []}).encode()


def test_responses_get_the_sources_own_ids_and_no_thoughts_of_others() -> None:
    written = body(ASKED, FOREIGN, CALL, RESULT, OWN)
    assert may_hold_tokens(written)
    clean, dropped = clean_responses(written)
    call_id = b"functions.look:0".hex()
    named = {"call_id": f"kyma-id-{call_id}"}
    assert json.loads(clean)["input"] == [ASKED, CALL | named, RESULT | named, OWN]
    assert dropped == ("input[1]",)


def test_messages_get_the_sources_own_ids() -> None:
    use = {"type": "tool_use", "id": PACKED, "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": PACKED, "content": "1"}
    turns = [ASKED, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    clean, dropped = clean_messages(json.dumps({"messages": turns}).encode())
    _, called, told = json.loads(clean)["messages"]
    assert called["content"][0]["id"] == told["content"][0]["tool_use_id"]
    assert len(called["content"][0]["id"]) <= 64
    assert dropped == ()


@pytest.mark.parametrize("written", [
    body(ASKED, OWN), body({"role": "user", "content": f"Say {PACKED}"}), b'{"input":"\\"kyma-call-x\\""}', b"[]",
    b'{"input":[', body({"role": "user", "content": "kyma-call-x"}),
    body({"type": "message", "content": pack(Thoughts("Hm."))}),
    body({"type": "reasoning", "encrypted_content": "x kyma-reasoning-1."}),
])  # fmt: skip
def test_whatever_else_a_caller_writes_stays_byte_for_byte(written: bytes) -> None:
    assert clean_responses(written) == (written, ())
    assert clean_messages(written) == (written, ())


def test_a_usual_request_is_not_searched_any_further() -> None:
    assert not may_hold_tokens(body(ASKED, OWN))
