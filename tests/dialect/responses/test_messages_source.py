"""A Responses request reaches Messages by way of a chat request, and nothing that both sides can say is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kyma_proxy.dialect.responses import to_messages
from kyma_proxy.errors import GatewayError
from tests.dialect.responses.material import Json, last_response, order, play

FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1}}
INCLUDED = {"include": ["reasoning.encrypted_content"]}


def message(*content: Json, reason: str = "end_turn") -> bytes:
    usage = {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 7}
    return json.dumps({"id": "msg_1", "type": "message", "content": content, "stop_reason": reason, "usage": usage}).encode()


def sent(request: Json, **members: Any) -> Json:
    body: Json = json.loads(to_messages(order(request, **members)).request.body)
    return body


@pytest.mark.parametrize(("most", "limit"), [(32768, 32768), (None, 4096)])
def test_a_limit_of_tokens_is_the_most_that_the_model_writes(most: int | None, limit: int) -> None:
    assert sent({}, model_max_tokens=most)["max_tokens"] == limit
    assert sent({"max_output_tokens": 9}, model_max_tokens=most)["max_tokens"] == 9


def test_an_image_in_a_result_stays_in_the_result() -> None:
    items = [
        {"role": "user", "content": "hi"}, {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "https://e/x"}]},
    ]  # fmt: skip
    (result,) = sent({"input": items, "tools": [FUNCTION]})["messages"][2]["content"]
    assert result["content"] == [{"type": "image", "source": {"type": "url", "url": "https://e/x"}}]


def test_a_whole_answer_says_what_its_stream_says() -> None:
    made = to_messages(order(INCLUDED | {"tools": [FUNCTION]}))
    body = message(THOUGHT, {"type": "text", "text": "I look."}, USE, reason="tool_use")
    whole = json.loads(made.answer(200, body).body)
    streamed = last_response(play(made.stream(), made.as_stream(body)))
    aggregation = made.aggregation()
    aggregation.feed(made.as_stream(body))
    assert whole == streamed == json.loads(aggregation.finish().body)
    assert [one["type"] for one in whole["output"]] == ["reasoning", "message", "function_call"]


def test_every_split_of_a_stream_gives_the_same() -> None:
    made = to_messages(order(INCLUDED | {"tools": [FUNCTION]}))
    stream = made.as_stream(message(THOUGHT, {"type": "text", "text": "é"}, USE, reason="tool_use"))
    expected = play(made.stream(), stream)
    for cut in range(1, len(stream)):
        assert play(made.stream(), stream[:cut], stream[cut:]) == expected


def test_a_signed_thought_comes_back_as_it_was_written() -> None:
    made = to_messages(order(INCLUDED | {"tools": [FUNCTION]}))
    output = json.loads(made.answer(200, message(THOUGHT, USE, reason="tool_use")).body)["output"]
    items = [{"role": "user", "content": "hi"}, *output, {"type": "function_call_output", "call_id": "toolu_1", "output": "x"}]
    assert sent({"input": items, "tools": [FUNCTION]})["messages"][1]["content"] == [THOUGHT, USE]


def test_what_is_refused_or_dropped_has_the_callers_names() -> None:
    with pytest.raises(GatewayError) as caught:
        sent({"text": {"format": {"type": "json_schema"}}})
    assert (caught.value.param, "`text.format`" in caught.value.message) == ("text.format", True)
    assert to_messages(order({"temperature": 2})).request.dropped == ("temperature",)


def test_an_overloaded_source_is_a_503() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    answer = to_messages(order({})).answer(529, json.dumps(error).encode())
    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (503, "busy")
