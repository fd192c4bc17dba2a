"""The simulated provider, spoken to with the official SDKs over a real socket."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
from collections.abc import AsyncIterator

import aiohttp
import anthropic
import openai
import pytest

from kyma_proxy.simulated import server as simulated
from tests.processes import environment

PROMPT = "Tell me of Atlantis"  # 19 characters, 4 words
TALK = [{"role": "user", "content": PROMPT}]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["celsius", "kelvin"]},
        "note": {"type": "string"},
    },
    "required": ["city", "days", "unit"],
}
ARGUMENTS = {"city": "simulated", "days": 1, "unit": "celsius"}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
RESPONSE_TOOL = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}
MESSAGE_TOOL = {"name": "get_weather", "input_schema": SCHEMA}
MENTION = [{"role": "user", "content": "Use get_weather for Atlantis"}]


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    runner = await simulated.serve("127.0.0.1", 0, 0.0)
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def gpt(origin: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{origin}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(origin: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=origin, api_key="any", max_retries=0) as client:
        yield client


def is_labelled(text: str | None) -> bool:
    """It says what it is and how long the prompt was, and repeats none of it."""
    return text is not None and "simulated provider" in text and "19 characters" in text and "Atlantis" not in text


async def test_chat_whole(gpt: openai.AsyncOpenAI) -> None:
    answer = await gpt.chat.completions.create(model="some-model", messages=TALK)
    assert is_labelled(answer.choices[0].message.content)
    assert (answer.model, answer.choices[0].finish_reason) == ("some-model", "stop")
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.completion_tokens == len(answer.choices[0].message.content.split())
    assert answer._request_id.startswith("req_")


async def test_chat_streams_a_word_an_event_and_then_the_usage(gpt: openai.AsyncOpenAI) -> None:
    stream = await gpt.chat.completions.create(model="m", messages=TALK, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    *said, last = chunks
    words = [chunk.choices[0].delta.content for chunk in said if chunk.choices[0].delta.content]
    assert is_labelled("".join(words))
    assert all(len(word.split()) == 1 for word in words)
    assert said[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, len(words))
    assert all(chunk.usage is None for chunk in said)


async def test_chat_stream_has_no_usage_unless_it_was_asked_for(gpt: openai.AsyncOpenAI) -> None:
    chunks = [chunk async for chunk in await gpt.chat.completions.create(model="m", messages=TALK, stream=True)]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
async def test_chat_is_cut_at_the_limit(gpt: openai.AsyncOpenAI, member: str) -> None:
    whole = await gpt.chat.completions.create(model="m", messages=TALK, **{member: 3})
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("This is the", "length")
    stream = await gpt.chat.completions.create(model="m", messages=TALK, stream=True, **{member: 3})
    chunks = [chunk.choices[0] async for chunk in stream]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == "This is the"
    assert chunks[-1].finish_reason == "length"


async def test_chat_calls_the_tool_that_is_mentioned(gpt: openai.AsyncOpenAI) -> None:
    answer = await gpt.chat.completions.create(model="m", messages=MENTION, tools=[CHAT_TOOL])
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", ARGUMENTS)
    assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == ("tool_calls", None)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_chat_streams_the_tool_call_that_is_demanded(gpt: openai.AsyncOpenAI, choice: object) -> None:
    async with gpt.chat.completions.stream(model="m", messages=TALK, tools=[CHAT_TOOL], tool_choice=choice) as stream:
        deltas = [event async for event in stream if event.type == "tool_calls.function.arguments.delta"]
        answer = await stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls
    assert len(deltas) > 2
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", ARGUMENTS)


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_chat_answers_in_words_when_no_tool_is_wanted(gpt: openai.AsyncOpenAI, choice: str) -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": "get_weather says rain"}
    talk = MENTION if choice == "none" else [*MENTION, result]
    answer = await gpt.chat.completions.create(model="m", messages=talk, tools=[CHAT_TOOL], tool_choice=choice)
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"


async def test_completion_whole_and_streamed(gpt: openai.AsyncOpenAI) -> None:
    whole = await gpt.completions.create(model="m", prompt=PROMPT)
    assert is_labelled(whole.choices[0].text)
    stream = await gpt.completions.create(model="m", prompt=PROMPT, stream=True, stream_options={"include_usage": True})
    *said, last = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in said) == whole.choices[0].text
    assert last.usage == whole.usage


async def test_embeddings_are_unit_vectors_and_the_same_each_time(gpt: openai.AsyncOpenAI) -> None:
    floats = await gpt.embeddings.create(model="m", input=["one text", "two"], encoding_format="float")
    packed = await gpt.embeddings.create(model="m", input=["one text", "two"])  # the SDK asks for base64 by itself
    first, second = (entry.embedding for entry in floats.data)
    assert math.isclose(math.hypot(*first), 1.0, rel_tol=1e-6)
    assert first != second
    assert [entry.embedding for entry in packed.data] == [pytest.approx(first), pytest.approx(second)]
    assert floats.usage.prompt_tokens == 3
    tokens = await gpt.embeddings.create(model="m", input=[1, 2, 3], dimensions=8)
    assert (len(tokens.data), len(tokens.data[0].embedding), tokens.usage.prompt_tokens) == (1, 8, 3)


async def test_response_whole(gpt: openai.AsyncOpenAI) -> None:
    answer = await gpt.responses.create(model="m", input=PROMPT)
    assert is_labelled(answer.output_text)
    assert answer.status == "completed"
    assert answer.usage.total_tokens == 4 + len(answer.output_text.split())


async def test_response_streamed(gpt: openai.AsyncOpenAI) -> None:
    events = [event async for event in await gpt.responses.create(model="m", input=TALK, stream=True)]
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert is_labelled(text)
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.output_tokens == kinds.count("response.output_text.delta")
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_response_is_cut_at_the_limit(gpt: openai.AsyncOpenAI) -> None:
    answer = await gpt.responses.create(model="m", input=PROMPT, max_output_tokens=2)
    assert (answer.output_text, answer.status) == ("This is", "incomplete")
    assert answer.incomplete_details.reason == "max_output_tokens"
    events = [event async for event in await gpt.responses.create(model="m", input=PROMPT, max_output_tokens=2, stream=True)]
    assert events[-1].type == "response.incomplete"


async def test_response_streams_a_tool_call(gpt: openai.AsyncOpenAI) -> None:
    async with gpt.responses.stream(model="m", input=PROMPT, tools=[RESPONSE_TOOL], tool_choice="required") as stream:
        answer = await stream.get_final_response()
    (call,) = answer.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", ARGUMENTS)


async def test_message_whole(claude: anthropic.AsyncAnthropic) -> None:
    answer = await claude.messages.create(model="m", max_tokens=100, system="Be brief", messages=TALK)
    assert "simulated provider" in answer.content[0].text
    assert "27 characters" in answer.content[0].text
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (6, len(answer.content[0].text.split()))
    assert answer._request_id.startswith("req_")


async def test_message_streamed(claude: anthropic.AsyncAnthropic) -> None:
    stream = await claude.messages.create(model="m", max_tokens=3, messages=TALK, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds == [
        "message_start", "content_block_start", *["content_block_delta"] * 3,
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    async with claude.messages.stream(model="m", max_tokens=100, messages=TALK) as whole:
        answer = await whole.get_final_message()
    assert is_labelled(answer.content[0].text)
    assert (answer.stop_reason, answer.usage.input_tokens) == ("end_turn", 4)
    assert answer.usage.output_tokens == len(answer.content[0].text.split())


async def test_message_is_cut_at_the_limit(claude: anthropic.AsyncAnthropic) -> None:
    answer = await claude.messages.create(model="m", max_tokens=3, messages=TALK)
    assert (answer.content[0].text, answer.stop_reason) == ("This is the", "max_tokens")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
async def test_message_calls_a_tool(claude: anthropic.AsyncAnthropic, choice: object) -> None:
    asked = {"model": "m", "max_tokens": 100, "messages": TALK, "tools": [MESSAGE_TOOL], "tool_choice": choice}
    whole = await claude.messages.create(**asked)
    assert (whole.content[0].name, whole.content[0].input, whole.stop_reason) == ("get_weather", ARGUMENTS, "tool_use")
    async with claude.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    assert (streamed.content[0].input, streamed.stop_reason) == (ARGUMENTS, "tool_use")


async def test_a_tool_result_is_answered_in_words(claude: anthropic.AsyncAnthropic) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "get_weather says rain"}
    talk = [*MENTION, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    answer = await claude.messages.create(model="m", max_tokens=100, messages=talk, tools=[MESSAGE_TOOL])
    assert answer.content[0].type == "text"


async def test_count_tokens_is_what_the_message_then_reports(claude: anthropic.AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(model="m", system="Be brief", messages=TALK)
    assert counted.input_tokens == 6


async def test_models_in_both_dialects(gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic) -> None:
    assert [model.id async for model in gpt.models.list()] == ["simulated", "simulated-image"]
    assert [model.display_name async for model in claude.models.list()] == ["Simulated"]


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("model", {"model": ""}),
        ("messages", {"messages": []}),
        ("messages.[0]", {"messages": ["hello"]}),
        ("n", {"n": 2}),
        ("max_tokens", {"max_tokens": 0}),
        ("stream", {"extra_body": {"stream": "yes"}}),
        ("tool_choice", {"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}),
    ],
)
async def test_a_bad_chat_request_is_refused_and_named(gpt: openai.AsyncOpenAI, param: str, body: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await gpt.chat.completions.create(**({"model": "m", "messages": TALK} | body))
    assert (refused.value.type, refused.value.param) == ("invalid_request_error", param)


@pytest.mark.parametrize("asked", ["", [], [""], ["text", [True]], [[]]])
async def test_a_bad_embeddings_request_is_refused(gpt: openai.AsyncOpenAI, asked: object) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await gpt.embeddings.create(model="m", input=asked)
    assert refused.value.param == "input"


async def test_a_bad_message_is_refused_in_its_dialect(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        await claude.messages.create(model="m", max_tokens=0, messages=TALK)
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in refused.value.body["error"]["message"]
    with pytest.raises(anthropic.NotFoundError) as lost:
        await claude.beta.files.list()
    assert lost.value.body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"model":"\xff"}', b"[" * 100_000])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings", "messages"])
async def test_what_is_no_json_object_is_refused(origin: str, path: str, raw: bytes) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{origin}/v1/{path}", data=raw) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_paced_stream_ends_with_its_caller() -> None:
    runner = await simulated.serve("127.0.0.1", 0, 3600.0)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
    asked = {"model": "m", "messages": TALK, "stream": True}
    async with aiohttp.ClientSession() as session, session.post(url, json=asked) as response:
        assert (await response.content.readline()).startswith(b"data: {")
    async with asyncio.timeout(5):
        await runner.cleanup()


async def started(*arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "kyma_proxy.simulated.server", "--listen", "127.0.0.1:0", "--pace", "0s", *arguments]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment())


async def test_the_command_says_where_it_listens_and_ends_with_its_standard_input() -> None:
    process = await started("--until-stdin-closes")
    line = (await process.stdout.readline()).decode()
    assert line.startswith("simulated provider on http://127.0.0.1:")
    async with openai.AsyncOpenAI(base_url=line.split()[-1], api_key="any", max_retries=0) as client:
        assert (await client.models.list()).data[0].id == "simulated"
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_ends_on_a_signal(number: signal.Signals) -> None:
    process = await started("--until-stdin-closes")
    await process.stdout.readline()
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), 10) == 0
    process.stdin.close()


@pytest.mark.parametrize("arguments", [["--pace", "50"], ["--listen", "nowhere"], ["--listen", "unix:/tmp/x.sock"]])
def test_a_mistake_on_the_command_line_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        simulated.main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


async def test_a_taken_port_is_one_line_and_exit_code_1(origin: str) -> None:
    port = origin.rpartition(":")[2]
    command = [sys.executable, "-m", "kyma_proxy.simulated.server", "--listen", f"127.0.0.1:{port}"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=environment())
    _, complaint = await process.communicate()
    assert (process.returncode, complaint.count(b"\n")) == (1, 1)
    assert f"127.0.0.1:{port}".encode() in complaint
