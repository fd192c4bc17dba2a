"""What lands in these tests is read strictly: the reader knows what the official schemas require, and nothing beside them."""

from __future__ import annotations

import json

import pytest
from anthropic.types import Message, MessageDeltaUsage, TextBlock, ToolUseBlock, Usage
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.responses import Response
from pydantic import BaseModel

from tests.dialect.anthropic_to_openai.material import translation
from tests.strict_reader import check, problems_of, required_members

REQUIRED: list[tuple[type[BaseModel], set[str]]] = [
    (Message, {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "container", "usage"}),
    (Usage, {
        "cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens", "inference_geo", "input_tokens",
        "output_tokens", "output_tokens_details", "server_tool_use", "service_tier",
    }),
    (MessageDeltaUsage, {"input_tokens", "output_tokens", "cache_read_input_tokens", "server_tool_use"}),
    (TextBlock, {"citations", "text", "type"}), (ToolUseBlock, {"caller", "id", "input", "name", "type"}),
    (ChatCompletion, {"id", "choices", "created", "model", "object"}), (ChatCompletionMessage, {"content", "refusal", "role"}),
    (Choice, {"finish_reason", "index", "logprobs", "message"}),
    (Response, {"error", "incomplete_details", "instructions", "metadata", "temperature", "tool_choice", "tools", "top_p"}),
]  # fmt: skip
WHOLE = {"id": "1", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(("kind", "members"), REQUIRED, ids=lambda one: getattr(one, "__name__", ""))
def test_a_member_that_may_be_null_is_required_all_the_same(kind: type[BaseModel], members: set[str]) -> None:
    assert members <= required_members(kind)


def test_a_strict_reader_sees_what_is_missing_what_is_unknown_and_what_has_another_type() -> None:
    message = json.loads(translation().answer(200, json.dumps(WHOLE).encode()).body)
    check(message)
    usage = message["usage"]
    for wrong in (
        {name: value for name, value in message.items() if name != "stop_sequence"},
        message | {"usage": {name: value for name, value in usage.items() if name != "inference_geo"}},
        message | {"mood": "good"},
        message | {"usage": usage | {"output_tokens": "5"}},
        message | {"stop_reason": "tired"},
    ):
        assert problems_of(wrong)
