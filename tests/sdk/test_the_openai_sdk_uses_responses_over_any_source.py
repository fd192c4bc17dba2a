"""The official OpenAI SDK's `responses` work with a model whose provider has no such endpoint, in either dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tests.processes import GatewayProcess
from tests.sdk import chat_completions as chat
from tests.sdk import test_the_openai_sdk_works_over_anthropic as messages
from tests.sdk.scripted import Json, ScriptedProvider

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
TOOL: Any = {
    "type": "function", "name": "get_weather", "description": "Tell the weather.", "parameters": SCHEMA, "strict": True,
}  # fmt: skip
QUESTION = "How is it in Rome and in Oslo?"
TEXT = {"type": "text", "text": "I look."}
KINDS = pytest.mark.parametrize("model", ["gpt", "claude"])
STREAMS = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def client(translating: tuple[GatewayProcess, ScriptedProvider]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{translating[0].base}/v1", api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


def ask(client: openai.OpenAI, streams: bool, **members: Any) -> Response:
    """The response, whole or at the end of a stream."""
    if not streams:
        answer: Response = client.responses.create(**members)
        return answer
    with client.responses.stream(**members) as events:
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(numbers)
        return events.get_final_response()


def two_calls(model: str, streams: bool) -> Any:
    """A text and two calls, as the provider of this model writes them."""
    if model == "gpt":
        calls = [chat.call("call_r", "Rome"), chat.call("call_o", "Oslo")]
        return chat.TWO_CALLS if streams else chat.whole({"content": "I look.", "tool_calls": calls}, "tool_calls")
    write = messages.stream if streams else messages.whole
    return write(messages.LOOK, messages.ROME, messages.OSLO, reason="tool_use")


def said(model: str, streams: bool, text: str) -> Any:
    """A text, as the provider of this model writes it."""
    if model == "gpt":
        return chat.stream({"content": text[:3]}, {"content": text[3:]}) if streams else chat.whole({"content": text})
    return (messages.stream if streams else messages.whole)({"type": "text", "text": text})


@KINDS
@STREAMS
def test_parallel_calls_and_their_results(client: openai.OpenAI, provider: ScriptedProvider, model: str, streams: bool) -> None:
    provider.plays(two_calls(model, streams), said(model, streams, "Fine in Rome."))
    common: Any = {"model": model, "tools": [TOOL], "tool_choice": "required", "instructions": "Be brief."}
    talk: list[Any] = [{"role": "user", "content": QUESTION}]
    first = ask(client, streams, input=talk, **common)
    text, *calls = first.output
    assert (first.status, first.model, first.output_text, text.type) == ("completed", model, "I look.", "message")
    assert [one.type for one in calls] == ["function_call", "function_call"]
    assert [json.loads(one.arguments) for one in calls if one.type == "function_call"] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert first.usage is not None
    assert (first.usage.input_tokens, first.usage.input_tokens_details.cached_tokens, first.usage.total_tokens) == (11, 4, 18)
    assert first.model_extra is not None
    assert first.model_extra["store"] is False

    talk += [one.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for one in first.output]
    talk += [
        {"type": "function_call_output", "call_id": one.call_id, "output": "fine"}
        for one in reversed(calls)
        if one.type == "function_call"
    ]
    again = ask(client, streams, input=talk, **common)
    assert again.output_text == "Fine in Rome."
    history = provider.requests[1]["messages"]
    if model == "gpt":
        assert [one["role"] for one in history] == ["system", "user", "assistant", "tool", "tool"]
        assert history[2]["content"] == "I look."
        assert [one["id"] for one in history[2]["tool_calls"]] == ["call_r", "call_o"]
    else:
        assert history[1] == {"role": "assistant", "content": [messages.LOOK, messages.ROME, messages.OSLO]}
        assert {one["tool_use_id"] for one in history[2]["content"]} == {"toolu_r", "toolu_o"}


@STREAMS
def test_signed_thoughts_come_back_to_the_source_that_signed_them(
    client: openai.OpenAI, provider: ScriptedProvider, streams: bool
) -> None:
    write = messages.stream if streams else messages.whole
    provider.plays(write(messages.THOUGHT, messages.HIDDEN, messages.ROME, reason="tool_use"), said("claude", streams, "Fine."))
    common: Any = {
        "model": "claude", "tools": [TOOL], "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 9000,
        "include": ["reasoning.encrypted_content"],
    }  # fmt: skip
    talk: list[Any] = [{"role": "user", "content": QUESTION}]
    first = ask(client, streams, input=talk, **common)
    thought = first.output[0]
    assert thought.type == "reasoning"
    assert [one.text for one in thought.summary] == ["Rome first."]
    talk += [one.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for one in first.output]
    talk += [{"type": "function_call_output", "call_id": "toolu_r", "output": "fine"}]
    assert ask(client, streams, input=talk, **common).output_text == "Fine."
    assert [one["thinking"] for one in provider.requests] == [{"type": "enabled", "budget_tokens": 2048}] * 2
    assert provider.requests[1]["messages"][1]["content"] == [messages.THOUGHT, messages.HIDDEN, messages.ROME]


class City(BaseModel):
    name: str
    people: int


@KINDS
def test_structured_output(client: openai.OpenAI, provider: ScriptedProvider, model: str) -> None:
    provider.plays(said(model, False, '{"name":"Rome","people":3}'))
    answer = client.responses.parse(model=model, input=QUESTION, text_format=City)
    assert answer.output_parsed == City(name="Rome", people=3)
    request = provider.requests[0]
    form: Json = request["response_format"]["json_schema"] if model == "gpt" else request["output_config"]["format"]
    assert form["schema"]["required"] == ["name", "people"]


@KINDS
@STREAMS
def test_a_custom_tool_is_called_with_free_text(
    client: openai.OpenAI, provider: ScriptedProvider, model: str, streams: bool
) -> None:
    patch, arguments = '*** Begin "Patch"\n+é', json.dumps({"input": '*** Begin "Patch"\n+é'})
    if model == "gpt":
        call = {"id": "call_p", "type": "function", "function": {"name": "apply_patch", "arguments": arguments}}
        written: Any = chat.whole({"tool_calls": [call]}, "tool_calls")
        if streams:
            written = chat.stream({"tool_calls": [{"index": 0} | call]}, finish="tool_calls")
    else:
        block = {"type": "tool_use", "id": "call_p", "name": "apply_patch", "input": {"input": patch}}
        written = (messages.stream if streams else messages.whole)(block, reason="tool_use")
    provider.plays(written, said(model, streams, "Done."))
    tool = {"type": "custom", "name": "apply_patch", "description": "Patch.", "format": {"type": "text"}}
    talk: list[Any] = [{"role": "user", "content": QUESTION}]
    first = ask(client, streams, model=model, input=talk, tools=[tool])
    (call_item,) = first.output
    assert call_item.type == "custom_tool_call"
    assert (call_item.name, call_item.input) == ("apply_patch", patch)
    talk += [call_item.model_dump(exclude_none=True), {"type": "custom_tool_call_output", "call_id": "call_p", "output": "ok"}]
    assert ask(client, streams, model=model, input=talk, tools=[tool]).output_text == "Done."


@KINDS
def test_images_and_files_are_translated(client: openai.OpenAI, provider: ScriptedProvider, model: str) -> None:
    provider.plays(said(model, False, "A dot."))
    parts = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{messages.PIXEL}", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        {"type": "input_text", "text": "What is it?"},
    ]
    asked: Any = [{"role": "user", "content": parts}]
    assert client.responses.create(model=model, input=asked).output_text == "A dot."
    image, file, text = provider.requests[0]["messages"][-1]["content"]
    assert (image["type"], file["type"], text["text"]) == (
        ("image_url", "file", "What is it?") if model == "gpt" else ("image", "document", "What is it?")
    )


@KINDS
@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"store": True}, "store"),
        ({"conversation": "conv_1"}, "conversation"), ({"background": True}, "background"),
    ],
)  # fmt: skip
def test_what_needs_memory_is_refused(
    client: openai.OpenAI, provider: ScriptedProvider, model: str, members: Json, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input="hi", **members)
    assert caught.value.param == param
    assert "store: false" in str(caught.value)
    assert provider.requests == []


@KINDS
@STREAMS
def test_an_answer_that_met_its_limit_is_incomplete(
    client: openai.OpenAI, provider: ScriptedProvider, model: str, streams: bool
) -> None:
    if model == "gpt":
        written: Any = chat.stream({"content": "Fi"}, finish="length") if streams else chat.whole({"content": "Fi"}, "length")
    else:
        written = (messages.stream if streams else messages.whole)({"type": "text", "text": "Fi"}, reason="max_tokens")
    provider.plays(written)
    if streams:
        *_, last = client.responses.create(model=model, input="hi", stream=True)
        assert last.type == "response.incomplete"
        answer = last.response
    else:
        answer = client.responses.create(model=model, input="hi")
    assert (answer.status, answer.output_text) == ("incomplete", "Fi")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_an_error_in_a_stream_is_a_failed_response(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    error = {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}
    provider.plays([chat.chunk({"content": "Fi"}), {"error": error}])
    events: list[Any] = []
    with pytest.raises(openai.APIConnectionError):  # the answer has no end
        events.extend(client.responses.create(model="gpt", input="hi", stream=True))
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error.code == "context_length_exceeded"
    assert last.response.error.message.endswith("too long")
