"""A chat request that can't be translated is refused with the path of the member; other losses are reported."""

from __future__ import annotations

from typing import Any

import pytest

from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.errors import GatewayError, Kind
from tests.dialect.openai_to_anthropic.material import (
    Json,
    dropped_members,
    translation,
    user,
)


def refusal(**request: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        translation(**request)
    assert caught.value.kind is Kind.INVALID_REQUEST
    return caught.value


@pytest.mark.parametrize(("request_", "param"), [
    ({"n": 2}, "n"), ({"logprobs": True}, "logprobs"), ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "modalities"), ({"web_search_options": {}}, "web_search_options"),
    ({"moderation": {"model": "m"}}, "moderation"), ({"response_format": {"type": "yaml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format"), ({"stop": ["x", "\n"]}, "stop"), ({"stop": ""}, "stop"),
    ({"reasoning_effort": "lots"}, "reasoning_effort"), ({"output_config": 3}, "output_config"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
    ({"tools": [{"function": {"name": "x", "parameters": [1]}}]}, "tools"),
    ({"tools": [{"function": {"name": "x"}}], "tool_choice": "x"}, "tool_choice"),
    ({"tools": [{"function": {"name": "x"}}], "tool_choice": {"type": "custom", "custom": {}}}, "tool_choice"),
    ({"messages": []}, "messages"), ({"messages": [{"role": "user", "content": " "}]}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}]}, "messages[0].tool_calls[0]"),
    ({"messages": user({"type": "input_audio", "input_audio": {"data": ""}})}, "messages[0].content[0]"),
    ({"messages": user({"type": "text", "text": "x"}, {"type": "video_url"})}, "messages[0].content[1]"),
    ({"messages": user({"type": "file", "file": {"file_id": "file-1"}})}, "messages[0].content[0].file"),
    ({"messages": user({"type": "file", "file": {"file_data": "data:image/tiff;base64,AA"}})}, "messages[0].content[0].file"),
    ({"messages": user({"type": "file", "file": {"file_data": "data:text/plain;base64,//8="}})}, "messages[0].content[0].file"),
    ({"messages": user({"type": "file"})}, "messages[0].content[0].file"),
    ({"messages": user({"type": "image_url", "image_url": {"url": "data:image/png,AA"}})}, "messages[0].content[0].image_url"),
    ({"messages": user({"type": "image_url", "image_url": "data:image/bmp;base64,AA"})}, "messages[0].content[0].image_url"),
    ({"messages": user({"type": "image_url", "image_url": "ftp://x"})}, "messages[0].content[0].image_url"),
    ({"messages": user({"type": "image_url"})}, "messages[0].content[0].image_url"),
    ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ({"messages": "hi"}, None), ({"messages": [{"content": "hi"}]}, None), ({"messages": [3]}, None),
    ({"messages": [{"role": "user", "content": {"a": 1}}]}, None), ({"temperature": "hot"}, None), ({"stop": 3}, None),
])  # fmt: skip
def test_unsupported_members_are_refused_with_their_path(request_: Json, param: str | None) -> None:
    error = refusal(**request_)
    assert error.param == param
    assert len(error.message) < 300


def test_errors_and_dropped_paths_never_quote_a_prompt() -> None:
    secret = "my secret prompt"
    for error in (
        refusal(messages=user({"type": secret})), refusal(messages=[{"role": secret}]), refusal(tool_choice=secret, tools=[
            {"function": {"name": "f"}}]), refusal(messages=user({"type": "image_url", "image_url": secret})),
        refusal(reasoning_effort=secret), refusal(messages=secret),
    ):  # fmt: skip
        assert "secret" not in error.message
        assert "secret" not in (error.param or "")
    unnamed: Json = {secret: 1}
    assert dropped_members(**unnamed) == ("(unnamed)",)


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b'{"messages":[]', b'{"messages":[{"role":"user","content":"\xff"}]}', b"[" * 99_999,
    b'{"messages":[{"role":"user","content":"\\ud83d"}]}', b'{"messages":null}', b"{}",
    b'{"messages":[{"role":"user"}],"x":' + b"[" * 99_999,
])  # fmt: skip
def test_a_malformed_chat_request_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        OpenAIToAnthropic(body, "c", public_model="m", default_max_tokens=9, created=0)
    assert caught.value.kind in (Kind.INVALID_REQUEST, Kind.INVALID_JSON)


def test_untranslated_members_are_reported_unless_they_have_no_effect() -> None:
    lost = ("seed", "prediction", "store", "logit_bias", "prompt_cache_key", "top_logprobs", "provider")
    values = (0, {"type": "content", "content": "x"}, True, {"50256": -100}, "k", 3, {"order": ["x"]})
    untranslated: Json = dict(zip(lost, values, strict=True))
    assert dropped_members(**untranslated) == lost
    nothing: Json = {
        "store": False,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "seed": None,
        "metadata": {},
    }
    assert (
        dropped_members(**nothing, n=1, logprobs=False, modalities=["text"], top_p=None, response_format={"type": "text"}) == ()
    )
    tools = [{"function": {"name": "f", "x": 1}, "y": 2}]
    assert dropped_members(service_tier="flex", functions=[{"name": "g"}], tools=tools) == (
        "functions", "service_tier", "tools[0].function.x", "tools[0].y",
    )  # fmt: skip


def test_the_number_of_reported_members_is_bounded() -> None:
    many: Json = {f"x{at}": 1 for at in range(500)}
    assert len(dropped_members(**many)) == 100
    assert len(dropped_members(messages=[{"role": "user", "content": "x", "name": "n"}] * 500)) == 100
