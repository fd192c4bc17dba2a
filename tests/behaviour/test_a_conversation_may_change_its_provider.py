"""A conversation goes on at a provider of the other dialect: tool calls keep their ids, and unsigned thinking is left out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.behaviour.translation import WHOLE, WHOLE_ANSWERS, ask
from tests.harness import both, whole

CALLING = WHOLE["openai"] | {
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "I run it.",
                "tool_calls": [{"id": "functions.Bash:0", "type": "function", "function": {"name": "Bash", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        }
    ]
}


async def test_a_conversation_may_change_its_provider_between_a_tool_call_and_its_result(tmp_path: Path) -> None:
    async with both(tmp_path, 2, dialect=("openai", "anthropic")) as (running, foreign, native):
        native.plays(whole(b"{}", status="503 Busy"))
        foreign.plays(whole(json.dumps(CALLING).encode()))
        client = await running.client()
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
        ask(client, "anthropic", **thinking)
        called = (await client.answer()).json["content"]
        result = {"type": "tool_result", "tool_use_id": called[-1]["id"], "content": "42"}
        conversation = [
            {"role": "user", "content": "Run it."},
            {"role": "assistant", "content": called},
            {"role": "user", "content": [result]},
        ]
        native.plays(WHOLE_ANSWERS["anthropic"])
        ask(client, "anthropic", messages=conversation, **thinking)
        answer = await client.answer()
        assert answer.headers["x-kyma-dropped"] == "messages[1].content[0], thinking"
        sent = json.loads(native.received[-1].body)
        use = sent["messages"][1]["content"][0]
        assert sent == {"model": "real-1", "max_tokens": 4000, "messages": [
            conversation[0], {"role": "assistant", "content": [use]}, conversation[2],
        ]}  # fmt: skip
        assert use["id"] == sent["messages"][2]["content"][0]["tool_use_id"]
        assert set(use["id"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")

        native.plays(whole(b"{}", status="503 Busy"))  # and the source that called sees its own id again
        foreign.plays(WHOLE_ANSWERS["openai"])
        ask(client, "anthropic", messages=conversation, **thinking)
        await client.answer()
        _, call, result_message = json.loads(foreign.received[-1].body)["messages"]
        assert call["tool_calls"][0]["id"] == result_message["tool_call_id"] == "functions.Bash:0"


THINKING = WHOLE["openai"] | {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "No.", "reasoning_content": "7 times 13."},
            "finish_reason": "stop",
        }
    ]
}


async def test_thinking_that_nobody_has_signed_does_not_keep_a_conversation_from_anthropic(tmp_path: Path) -> None:
    async with both(tmp_path, 2, dialect=("openai", "anthropic")) as (running, foreign, native):
        native.plays(whole(b"{}", status="503 Busy"))
        foreign.plays(whole(json.dumps(THINKING).encode()))
        client = await running.client()
        ask(client, "anthropic")
        first = await client.answer()
        thought, text = first.json["content"]
        assert (thought["type"], text["text"]) == ("thinking", "No.")
        assert thought["signature"]

        native.plays(WHOLE_ANSWERS["anthropic"])
        conversation = [{"role": "user", "content": "Is 91 prime?"}, {"role": "assistant", "content": first.json["content"]}]
        ask(client, "anthropic", messages=conversation)
        answer = await client.answer()
        assert "x-kyma-fallback" not in answer.headers
        assert answer.headers["x-kyma-dropped"] == "messages[1].content[0]"
        assert answer.body == json.dumps(WHOLE["anthropic"]).encode()
        sent = json.loads(native.received[-1].body)
        assert sent == {
            "model": "real-1",
            "max_tokens": 50,
            "messages": [conversation[0], conversation[1] | {"content": [text]}],
        }

        native.plays(whole(b"{}", status="503 Busy"))  # and the source that had the thought gets it back
        foreign.plays(WHOLE_ANSWERS["openai"])
        ask(client, "anthropic", messages=conversation)
        assert "x-kyma-dropped" not in (await client.answer()).headers
        assert json.loads(foreign.received[-1].body)["messages"][1]["reasoning_content"] == "7 times 13."
