"""Errors of sources say which members they don't support; other errors say nothing of that kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kyma_proxy.dialect.chat_fitting import OPTIONAL as OF_CHAT
from kyma_proxy.dialect.openai_to_anthropic.fitting import EFFORT, FORMAT, OPTIONAL
from kyma_proxy.dialect.refusals import refused_params

OF_MESSAGES = (*OPTIONAL, EFFORT, FORMAT)


def openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def anthropic(message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


@pytest.mark.parametrize(("error", "names"), [
    (openai("Unsupported parameter: 'temperature' is not supported with this model.", "temperature", "unsupported_parameter"),
     ("temperature",)),
    (openai("Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
            "temperature", "unsupported_value"), ("temperature",)),
    (openai("Function tools with reasoning_effort are not supported for gpt-5.4 in /v1/chat/completions. Please use "
            "/v1/responses instead.", "reasoning_effort"), ("reasoning_effort",)),
    (openai("Unrecognized request argument supplied: reasoning_effort"), ("reasoning_effort",)),
    (openai("Unrecognized request arguments supplied: reasoning_effort, verbosity"), ("reasoning_effort", "verbosity")),
    (openai("`reasoning_effort` is not supported with this model"), ("reasoning_effort",)),
    (openai("property 'seed' is unsupported"), ("seed",)),
    (openai("`reasoning_effort` must be one of `none` or `default`"), ("reasoning_effort",)),
    (openai("This model does not support response format `json_schema`. See supported models"), ("response_format",)),
    ({"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs'}]"},
     ("seed",)),
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "prompt_cache_key"], "msg": "Extra inputs are not permitted"}]},
     ("prompt_cache_key",)),
    (openai("Extra inputs are not permitted, field: 'parallel_tool_calls', value: False"), ("parallel_tool_calls",)),
    ([{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "logit_bias": Cannot find field.'}}],
     ("logit_bias",)),
])  # fmt: skip
def test_a_chat_source_names_what_it_does_not_support(error: object, names: tuple[str, ...]) -> None:
    assert refused_params(400, json.dumps(error).encode(), OF_CHAT) == names


@pytest.mark.parametrize(("message", "names"), [
    ("temperature: Extra inputs are not permitted", ("temperature",)),
    ("`temperature` is deprecated for this model.", ("temperature",)),
    ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", ("top_p",)),
    ("output_config.effort: Extra inputs are not permitted", (EFFORT,)),
    ("output_config: Extra inputs are not permitted", (EFFORT, FORMAT)),
    ("thinking: adaptive thinking is not supported on this model", ("thinking",)),
])  # fmt: skip
def test_an_anthropic_source_names_what_it_does_not_support(message: str, names: tuple[str, ...]) -> None:
    assert refused_params(400, json.dumps(anthropic(message)).encode(), OF_MESSAGES) == names


@pytest.mark.parametrize("error", [
    openai("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 5 instead.", "temperature"),
    openai("Invalid schema for response_format 'x': In context=(), 'minimum' is not permitted.", "response_format"),
    openai("Unsupported parameter: 'logprobs' is not supported with this model; it quotes 'seed'.", "logprobs"),
    openai("Invalid 'messages[0].content': the user does not stop there, which is not supported.", "messages"),
    openai("The user said that a stop is not supported"),
    openai("This model's maximum context length is 8192 tokens."),
    anthropic("output_config.format.schema: For 'integer' type, property 'minimum' is not supported"),
    anthropic("messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks"),
    {}, [], "nothing", None,
])  # fmt: skip
def test_other_errors_say_nothing_of_that_kind(error: object) -> None:
    body = json.dumps(error).encode()
    assert (refused_params(400, body, OF_CHAT), refused_params(400, body, OF_MESSAGES)) == ((), ())


@pytest.mark.parametrize("status", [401, 404, 413, 429, 500])
def test_only_an_error_of_the_request_is_read(status: int) -> None:
    body = json.dumps(openai("Unsupported parameter: 'seed'", "seed")).encode()
    assert (refused_params(status, body, OF_CHAT), refused_params(422, body, OF_CHAT)) == ((), ("seed",))
