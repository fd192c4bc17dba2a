"""A caller who speaks OpenAI is understood by a source that speaks Anthropic, and understands its answer: nothing is lost that
both can say, what is lost is named, and no answer is called whole that is not.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.translation import StreamTranslation, Translation
from kyma_proxy.errors import GatewayError, Kind

CASES = sorted((Path(__file__).parent / "golden" / "openai_to_anthropic").iterdir())
ANSWERED = [case for case in CASES if (case / "answer.json").exists()]
STREAMED = [case for case in CASES if (case / "stream.sse").exists()]
FINISHED = [case for case in STREAMED if b"[DONE]" in (case / "told.sse").read_bytes()]
CREATED = 1_700_000_000
Json = dict[str, Any]


def name(case: Path) -> str:
    return case.name


def load(case: Path, file: str) -> Json:
    document: Json = json.loads((case / file).read_bytes())
    return document


def of_case(case: Path) -> OpenAIToAnthropic:
    body = (case / "request.json").read_bytes()
    model = load(case, "asked.json")["body"]["model"]
    shown = json.loads(body)["model"]
    return OpenAIToAnthropic(body, model, public_model=shown, default_max_tokens=None, created=CREATED)


def translation(model: str = "claude-sonnet-4-5", default: int | None = None, **request: Any) -> OpenAIToAnthropic:
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **request}
    return OpenAIToAnthropic(json.dumps(request).encode(), model, public_model="m", default_max_tokens=default, created=CREATED)


def asked(model: str = "claude-sonnet-4-5", default: int | None = None, **request: Any) -> Json:
    document: Json = json.loads(translation(model, default, **request).request.body)
    return document


def dropped(model: str = "claude-sonnet-4-5", **request: Any) -> tuple[str, ...]:
    return translation(model, **request).request.dropped


def refusal(**request: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        translation(**request)
    assert caught.value.kind is Kind.INVALID_REQUEST
    return caught.value


def user(*parts: Json) -> list[Json]:
    return [{"role": "user", "content": [*parts]}]


def event(document: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (document["type"].encode(), json.dumps(document).encode())


def through(stream: StreamTranslation, *pieces: bytes) -> bytes:
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.flush()


BEGIN = event({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}}})
END = event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}})
STOP = event({"type": "message_stop"})


def start(index: int, **block: Any) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def delta(index: int, **delta: Any) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": delta})


def stop(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def text(words: str) -> bytes:
    return delta(0, type="text_delta", text=words)


# ---- by example


@pytest.mark.parametrize("case", CASES, ids=name)
def test_a_request_is_asked_as_the_example_says(case: Path) -> None:
    expected, found = load(case, "asked.json"), of_case(case).request
    assert json.loads(found.body) == expected["body"]
    assert list(found.dropped) == expected["dropped"]
    assert (found.endpoint.name, found.endpoint.dialect) == ("messages", "anthropic")


@pytest.mark.parametrize("case", ANSWERED, ids=name)
def test_a_whole_answer_is_told_as_the_example_says(case: Path) -> None:
    body = (case / "answer.json").read_bytes()
    whole = of_case(case).answer(200, body)
    assert whole.status == 200
    assert json.loads(whole.body) == load(case, "told.json")
    assert whole.usage == ANTHROPIC.read_usage(body, body)


@pytest.mark.parametrize("case", STREAMED, ids=name)
def test_a_stream_is_told_as_the_example_says_however_it_is_split(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "told.sse").read_bytes()
    translation = of_case(case)
    assert through(translation.stream(), source).decode() == expected.decode()
    assert through(translation.stream(), *(source[at : at + 1] for at in range(len(source)))) == expected
    for cut in range(len(source)):
        assert through(translation.stream(), source[:cut], source[cut:]) == expected


@pytest.mark.parametrize("case", STREAMED, ids=name)
def test_only_a_stream_with_its_end_is_finished_and_its_usage_is_the_sources(case: Path) -> None:
    source = (case / "stream.sse").read_bytes()
    stream = of_case(case).stream()
    told = through(stream, source)
    assert stream.is_finished == (case in FINISHED)
    assert OPENAI.is_finished(told, True) == stream.is_finished
    if stream.is_finished and b"\r" not in source:
        assert stream.usage == ANTHROPIC.read_usage(source, source)


@pytest.mark.parametrize("case", FINISHED, ids=name)
def test_a_stream_that_is_cut_anywhere_is_not_finished_and_gets_no_end(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "told.sse").read_bytes()
    translation = of_case(case)
    for cut in range(source.index(b'"message_stop"}')):
        stream = translation.stream()
        told = through(stream, source[:cut])
        assert not stream.is_finished
        assert expected.startswith(told)
        assert b"[DONE]" not in told


# ---- the commuting square


def folded_source(source: bytes) -> Json:
    """Anthropic's events as the message that they build."""
    message: Json = {}
    blocks: dict[int, Json] = {}
    pieces: dict[int, str] = {}
    for document in documents(source):
        if document["type"] == "message_start":
            message = {**document["message"], "type": "message"}
        elif document["type"] == "content_block_start":
            blocks[document["index"]] = document["content_block"]
        elif document["type"] == "content_block_delta":
            block, change = blocks[document["index"]], document["delta"]
            if change["type"] == "input_json_delta":
                pieces[document["index"]] = pieces.get(document["index"], "") + change["partial_json"]
            for member in ("text", "thinking", "signature"):
                if change["type"] == f"{member}_delta":
                    block[member] += change[member]
        elif document["type"] == "message_delta":
            message |= {key: value for key, value in document["delta"].items() if value is not None}
            message["usage"] = message["usage"] | document["usage"]
    for index, written in pieces.items():
        blocks[index]["input"] = json.loads(written or "{}")
    return message | {"content": [blocks[index] for index in sorted(blocks)]}


def folded_told(told: bytes) -> Json:
    """OpenAI's chunks as the completion that they build."""
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    calls: dict[int, Json] = {}
    answer: Json = {}
    for chunk in documents(told):
        answer |= {key: chunk[key] for key in ("id", "created", "model")} | {"object": "chat.completion"}
        if chunk.get("usage"):
            answer["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            change = choice["delta"]
            for member in ("content", "reasoning_content", "refusal"):
                if change.get(member):
                    message[member] = (message.get(member) or "") + change[member]
            for block in change.get("thinking_blocks", []):
                assert block.pop("index") == len(message.setdefault("thinking_blocks", []))
                message["thinking_blocks"].append(block)
            for call in change.get("tool_calls", []):
                known = calls.setdefault(call["index"], {"function": {"arguments": ""}})
                known |= {key: call[key] for key in ("id", "type") if key in call}
                known["function"]["name"] = call["function"].get("name", known["function"].get("name"))
                known["function"]["arguments"] += call["function"]["arguments"]
            if "function_call" in change:
                known = message.setdefault("function_call", {"arguments": ""})
                known["name"] = change["function_call"].get("name", known.get("name"))
                known["arguments"] += change["function_call"]["arguments"]
            if choice["finish_reason"] is not None:
                answer["choices"] = [{"index": 0, "logprobs": None, "finish_reason": choice["finish_reason"]}]
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    answer["choices"][0]["message"] = message
    return answer


def documents(stream: bytes) -> Iterator[Json]:
    for line in stream.split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def plain(answer: Json) -> Json:
    """An answer whose arguments are compared for what they say, not for their white space."""
    message = answer["choices"][0]["message"]
    for function in [call["function"] for call in message.get("tool_calls", [])] + [message.get("function_call") or {}]:
        if function:
            function["arguments"] = json.loads(function["arguments"])
    return answer


def assert_square(translation: Translation, source: bytes) -> None:
    """To fold and to translate can be done in either order, and a whole answer streamed is the same answer."""
    answer = json.dumps(folded_source(source)).encode()
    whole = plain(json.loads(translation.answer(200, answer).body))
    assert plain(folded_told(through(translation.stream(), source))) == whole
    stream = translation.stream()
    assert plain(folded_told(through(stream, translation.as_stream(answer)))) == whole
    assert stream.is_finished


@pytest.mark.parametrize("case", [case for case in FINISHED if case.name != "every_form_of_an_event"], ids=name)
def test_a_stream_builds_the_answer_that_would_have_come_whole(case: Path) -> None:
    request = load(case, "request.json") | {"stream_options": {"include_usage": True}}
    translation = OpenAIToAnthropic(
        json.dumps(request).encode(), "claude", public_model="m", default_max_tokens=None, created=CREATED
    )
    assert_square(translation, (case / "stream.sse").read_bytes())


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SAID = WORDS.filter(lambda words: bool(words.strip()))
TOKENS = st.integers(0, 10**6)
ARGUMENTS = st.dictionaries(WORDS, st.integers() | WORDS | st.booleans() | st.none() | st.lists(WORDS, max_size=2), max_size=3)
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
STOP_REASONS = ["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream as Anthropic makes them, of any blocks in any order, the pieces of calls interleaved."""
    out, late = [BEGIN], []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use"]))
        pieces = draw(st.lists(WORDS, max_size=3))
        if kind == "text":
            out += [start(index, type=kind, text=""), *(delta(index, type="text_delta", text=piece) for piece in pieces)]
        elif kind == "thinking":
            out += [start(index, type=kind, thinking="", signature="")]
            out += [delta(index, type="thinking_delta", thinking=piece) for piece in pieces]
            out += [delta(index, type="signature_delta", signature=draw(SAID))] * draw(st.integers(0, 1))
        elif kind == "redacted_thinking":
            out += [start(index, type=kind, data=draw(SAID))]
        else:
            written = json.dumps(draw(ARGUMENTS))
            cut = draw(st.integers(0, len(written)))
            out += [start(index, type=kind, id=f"toolu_{index}", name=draw(SAID), input={})]
            out += [delta(index, type="input_json_delta", partial_json=written[:cut])]
            late += [delta(index, type="input_json_delta", partial_json=written[cut:])]
            if draw(st.booleans()):
                late += [stop(index)]
            continue
        out += [event({"type": "ping"}), stop(index)]
    usage = {"output_tokens": draw(TOKENS), **draw(st.just({}) | st.just({"output_tokens_details": {"thinking_tokens": 2}}))}
    reason = {"stop_reason": draw(st.sampled_from(STOP_REASONS)), "stop_sequence": None}
    return b"".join([*out, *late, event({"type": "message_delta", "delta": reason, "usage": usage}), STOP])


@settings(deadline=None)
@given(streams(), st.lists(st.integers(0, 4000), max_size=6))
def test_whatever_comes_the_square_commutes_and_no_split_matters(source: bytes, cuts: list[int]) -> None:
    once = translation(stream_options={"include_usage": True})
    assert_square(once, source)
    connections = [0, *sorted(min(cut, len(source)) for cut in cuts), len(source)]
    pieces = [source[begin:end] for begin, end in itertools.pairwise(connections)]
    assert through(once.stream(), *pieces) == through(once.stream(), source)


# ---- what both sides can say is not lost


@st.composite
def turns(draw: st.DrawFn) -> list[Json]:
    """A conversation that OpenAI would take."""
    messages: list[Json] = []
    for number in range(draw(st.integers(1, 4))):
        messages.append({"role": draw(st.sampled_from(["user", "system", "developer"])), "content": draw(SAID)})
        calls = [f"c{number}_{at}" for at in range(draw(st.integers(0, 2)))]
        message: Json = {"role": "assistant", "content": draw(SAID | st.none()) if calls else draw(SAID)}
        if calls:
            message["tool_calls"] = [
                {"id": one, "type": "function", "function": {"name": draw(IDS), "arguments": json.dumps(draw(ARGUMENTS))}}
                for one in calls
            ]
        if draw(st.booleans()):
            message["thinking_blocks"] = [{"type": "thinking", "thinking": draw(WORDS), "signature": draw(SAID)}]
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": one, "content": draw(WORDS)} for one in calls]
    return [*messages, {"role": "user", "content": draw(SAID)}]


@settings(deadline=None)
@given(turns())
def test_a_conversation_loses_nothing_and_keeps_its_order(messages: list[Json]) -> None:
    told = asked(messages=messages)
    assert dropped(messages=messages) == ()
    system = [one["content"] for one in messages if one["role"] in ("system", "developer")]
    assert [block["text"] for block in told.get("system", [])] == system
    expected: list[tuple[object, ...]] = []
    for message in messages:
        expected += [("thinking", one["thinking"], one["signature"]) for one in message.get("thinking_blocks", [])]
        if message["role"] == "tool":
            expected.append(("tool_result", message["tool_call_id"], message["content"]))
        elif message["role"] in ("user", "assistant") and message["content"]:
            expected.append(("text", message["content"]))
        for call in message.get("tool_calls", []):
            function = call["function"]
            expected += [("tool_use", call["id"], function["name"], json.loads(function["arguments"]))]
    found = [
        tuple(value for member, value in block.items() if member in MEMBERS[block["type"]])
        for turn in told["messages"]
        for block in turn["content"]
    ]
    assert found == expected
    roles = [turn["role"] for turn in told["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))


MEMBERS = {
    "text": ("type", "text"), "thinking": ("type", "thinking", "signature"),
    "tool_use": ("type", "id", "name", "input"), "tool_result": ("type", "tool_use_id", "content"),
}  # fmt: skip


@settings(deadline=None)
@given(streams())
def test_an_answer_that_is_sent_back_says_again_what_it_said(source: bytes) -> None:
    message = folded_source(source)
    told = json.loads(translation().answer(200, json.dumps(message).encode()).body)["choices"][0]["message"]
    back = asked(messages=[{"role": "user", "content": "hi"}, told, {"role": "user", "content": "go on"}])["messages"]
    blocks = [block for turn in back if turn["role"] == "assistant" for block in turn["content"]]

    def of(kind: str, blocks: list[Json]) -> list[Json]:
        return [block for block in blocks if block["type"] == kind]

    came = message["content"]
    assert of("tool_use", blocks) == [
        {**block, "name": block["name"], "input": block["input"]} for block in of("tool_use", came)
    ]
    assert of("thinking", blocks) == [block for block in of("thinking", came) if block["signature"]]
    assert of("redacted_thinking", blocks) == of("redacted_thinking", came)
    words = "".join(block["text"] for block in of("text", came))
    assert "".join(block["text"] for block in of("text", blocks)) == (words if words.strip() else "")


@pytest.mark.parametrize("written", ["4096", "1e3", "100000000000000000000", "0", "-1", '"many"', "7.50"])
def test_max_tokens_is_asked_for_exactly_as_it_is_written(written: str) -> None:
    for member in ("max_tokens", "max_completion_tokens"):
        body = f'{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"{member}":{written}}}'.encode()
        found = OpenAIToAnthropic(body, "c", public_model="m", default_max_tokens=9, created=0).request.body
        assert f'"max_tokens":{written},'.encode() in found


def test_where_the_caller_names_no_number_the_default_is_asked_for() -> None:
    assert asked(default=77)["max_tokens"] == 77
    assert asked(default=77, max_tokens=None)["max_tokens"] == 77
    assert asked()["max_tokens"] == 4096
    both = translation(max_tokens=1, max_completion_tokens=2).request
    assert json.loads(both.body)["max_tokens"] == 2
    assert both.dropped == ("max_tokens",)


@pytest.mark.parametrize(("choice", "expected"), [
    ({"tool_choice": "auto"}, {"type": "auto"}), ({"tool_choice": "none"}, {"type": "none"}), ({}, None),
    ({"tool_choice": "required"}, {"type": "any"}), ({"parallel_tool_calls": True}, None),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
    ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
    ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
        {"type": "function", "function": {"name": "g"}}]}}}, {"type": "any"}),
])  # fmt: skip
def test_the_choice_of_tools_is_kept(choice: Json, expected: Json | None) -> None:
    tools = [{"type": "function", "function": {"name": one}} for one in ("f", "g")]
    found = asked(tools=tools, **choice)
    assert found.get("tool_choice") == expected
    assert [one["name"] for one in found["tools"]] == (["g"] if "allowed" in str(choice) else ["f", "g"])


def test_a_choice_without_tools_asks_for_nothing() -> None:
    assert {"tools", "tool_choice"}.isdisjoint(asked(tool_choice="auto", parallel_tool_calls=False, tools=[]))


def test_a_schema_is_carried_as_it_is_written() -> None:
    schema = '{"type": "object", "x": 1.50, "y": 100000000000000000000000, "b": "\\u00e9"}'
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"function":{"name":"f","parameters":%b}}]}'
    found = OpenAIToAnthropic(body % schema.encode(), "c", public_model="m", default_max_tokens=9, created=0).request.body
    assert b'"input_schema":%b' % schema.encode() in found


@pytest.mark.parametrize(("written", "expected"), [
    ("", {}), (" ", {}), ("null", {}), ("{}", {}), ('{"a": 1.50}', {"a": 1.5}), (None, {}), ({"a": 1}, {"a": 1}),
    ('{"a"', {"arguments": '{"a"'}), ("[1]", {"arguments": "[1]"}), ('"x"', {"arguments": '"x"'}),
    ('{"a": "\\ud83d"}', {"arguments": '{"a": "\\ud83d"}'}), ("[" * 9999, {"arguments": "[" * 9999}),
])  # fmt: skip
def test_arguments_of_the_history_never_fail(written: object, expected: Json) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": written}}
    told = asked(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert told["messages"][0]["content"][0]["input"] == expected


def test_ids_are_made_fit_and_stay_apart_and_results_find_their_calls() -> None:
    said = ["a.b", "a:b", "a_b", "a.b", "", "é"]
    messages: list[Json] = []
    for one in said:
        messages.append({"role": "assistant", "tool_calls": [{"id": one, "function": {"name": "f", "arguments": "{}"}}]})
        messages.append({"role": "tool", "tool_call_id": one, "content": one})
    blocks = [turn["content"][0] for turn in asked(messages=messages)["messages"]]
    calls, results = blocks[::2], blocks[1::2]
    assert [one["id"] for one in calls] == ["a_b", "a_b_2", "a_b_3", "a_b_4", "call", "_"]
    assert [one["tool_use_id"] for one in results] == [one["id"] for one in calls]


def test_results_come_first_in_their_turn_and_in_order() -> None:
    messages = [
        {"role": "assistant", "tool_calls": [{"id": one, "function": {"name": "f", "arguments": "{}"}} for one in "ab"]},
        {"role": "user", "content": "wait"},
        {"role": "tool", "tool_call_id": "a", "content": "1", "is_error": True, "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": "and"},
        {"role": "tool", "tool_call_id": "b"},
    ]
    assert asked(messages=messages)["messages"][1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True, "cache_control": {"type": "ephemeral"}},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "text", "text": "wait"},
        {"type": "text", "text": "and"},
    ]


def test_instructions_alone_are_asked_as_the_users() -> None:
    told = asked(messages=[{"role": "system", "content": "Say hi."}, {"role": "user", "content": ""}])
    assert told["messages"] == user({"type": "text", "text": "Say hi."})
    assert "system" not in told


def test_what_only_anthropic_can_say_is_carried() -> None:
    said = {
        "thinking": {"type": "enabled", "budget_tokens": 2000}, "top_k": 5, "cache_control": {"type": "ephemeral"},
        "output_config": {"effort": "low"}, "inference_geo": "eu", "speed": "fast",
    }  # fmt: skip
    found = translation(**said, reasoning_effort="low", temperature=0.3).request
    assert {key: json.loads(found.body)[key] for key in said} == said
    assert json.loads(found.body)["temperature"] == 0.3
    assert found.dropped == ("reasoning_effort",)


# ---- how the model goes about it


@pytest.mark.parametrize(("model", "effort", "max_tokens", "thinking"), [
    ("claude-sonnet-4-5", "low", 10_000, {"type": "enabled", "budget_tokens": 2048}),
    ("claude-sonnet-4-5", "medium", 10_000, {"type": "enabled", "budget_tokens": 5000}),
    ("claude-3-7-sonnet-20250219", "max", 10**6, {"type": "enabled", "budget_tokens": 65_536}),
    ("us.anthropic.claude-opus-4-20250514-v1:0", "minimal", 4096, {"type": "enabled", "budget_tokens": 1024}),
    ("claude-haiku-4-5", "high", 2047, None), ("glm-5", "high", 8000, {"type": "enabled", "budget_tokens": 4000}),
    ("glm-5", "none", 8000, {"type": "disabled"}), ("claude-opus-5-5", "none", 8000, {"type": "disabled"}),
    ("claude-opus-4-6", "high", 10, {"type": "adaptive"}), ("anthropic/claude-4.6-sonnet", "high", 10, {"type": "adaptive"}),
    ("claude-mythos-preview", "max", 10, {"type": "adaptive"}), ("claude-fable-5-2", "none", 10, {"type": "adaptive"}),
])  # fmt: skip
def test_an_effort_becomes_thinking_as_the_model_takes_it(
    model: str, effort: str, max_tokens: int, thinking: Json | None
) -> None:
    found = translation(model, reasoning_effort=effort, max_tokens=max_tokens).request
    told = json.loads(found.body)
    assert told.get("thinking") == thinking
    if thinking is not None and "budget_tokens" in thinking:
        assert 1024 <= thinking["budget_tokens"] < max_tokens
    if thinking == {"type": "adaptive"}:
        assert told["output_config"] == {"effort": {"none": "low"}.get(effort, effort)}
    assert ("reasoning_effort" in found.dropped) == (thinking is None or (effort, "fable" in model) == ("none", True))


@pytest.mark.parametrize(("model", "thinks"), [
    ("claude-haiku-4-5", False), ("claude-opus-4-7", False), ("claude-opus-4-8", True), ("glm-5", False),
])  # fmt: skip
def test_where_a_tool_is_forced_the_model_thinks_only_if_it_can(model: str, thinks: bool) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    found = translation(model, reasoning_effort="low", max_tokens=9999, tools=tools, tool_choice="required").request
    assert ("thinking" in json.loads(found.body)) == thinks
    assert found.dropped == (() if thinks else ("reasoning_effort",))


def test_a_turn_that_began_without_thinking_goes_on_without() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    signed = {**call, "thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}
    result = {"role": "tool", "tool_call_id": "c", "content": "1"}
    for first, thinks in ((call, False), (signed, True)):
        found = translation(reasoning_effort="low", messages=[first, result], max_tokens=9000).request
        assert ("thinking" in json.loads(found.body)) == thinks
        assert found.dropped == (() if thinks else ("reasoning_effort",))
    assert dropped(reasoning_effort="low", max_tokens="many") == ("reasoning_effort",)
    begun = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "The answer is "}]
    assert dropped(reasoning_effort="low", messages=begun, max_tokens=9000) == ("reasoning_effort",)
    assert asked("claude-opus-4-6", reasoning_effort="low", messages=[call, result])["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize(("signature", "thinking", "goes"), [
    (UNSIGNED, {"type": "enabled", "budget_tokens": 2000}, True), ("EqQBCg", {"type": "enabled", "budget_tokens": 2000}, False),
    (UNSIGNED, {"type": "adaptive"}, False), (UNSIGNED, "odd", False), (UNSIGNED, None, False),
])  # fmt: skip
def test_a_tools_turn_that_lost_its_thought_goes_on_without_thinking(signature: str, thinking: Any, goes: bool) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": signature}
    turn = {"role": "assistant", "tool_calls": [call], "thinking_blocks": [thought]}
    messages = [{"role": "user", "content": "Run it."}, turn, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    found = translation(messages=messages, thinking=thinking).request
    assert json.loads(found.body).get("thinking") == (None if goes else thinking)
    assert ("thinking" in found.dropped) == goes
    again = translation(messages=[*messages, {"role": "assistant", "content": "1"}, messages[0]], thinking=thinking).request
    assert json.loads(again.body).get("thinking") == thinking


def test_a_thought_that_nobody_has_signed_is_not_taken_back() -> None:
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": one} for one in (UNSIGNED, "EqQBCg", "")]
    turn = {"role": "assistant", "content": "No.", "thinking_blocks": thoughts}
    found = translation(messages=[{"role": "user", "content": "Is it?"}, turn, {"role": "user", "content": "Why?"}]).request
    assert json.loads(found.body)["messages"][1]["content"] == [thoughts[1], {"type": "text", "text": "No."}]
    assert found.dropped == ("messages[1].thinking_blocks[0]", "messages[1].thinking_blocks[2]")


@pytest.mark.parametrize(("model", "said", "kept", "lost"), [
    ("claude-3-haiku", {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, ()),
    ("claude-3-haiku", {"temperature": 1.5}, {"temperature": 1}, ("temperature",)),
    ("claude-sonnet-4-5", {"temperature": 0, "top_p": 0.9}, {"temperature": 0}, ("top_p",)),
    ("claude-sonnet-4-5", {"top_p": 0.9}, {"top_p": 0.9}, ()),
    ("claude-opus-4-6", {"temperature": 0.3, "top_p": 1.0}, {"temperature": 0.3}, ()),
    ("claude-opus-4-7", {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, {}, ("temperature", "top_p", "top_k")),
    ("claude-sonnet-5", {"temperature": 1, "top_p": 1}, {}, ()),
    ("kimi-k3", {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, ()),
])  # fmt: skip
def test_sampling_is_said_as_far_as_the_model_takes_it(model: str, said: Json, kept: Json, lost: tuple[str, ...]) -> None:
    found = translation(model, **said).request
    told = json.loads(found.body)
    assert {key: told[key] for key in ("temperature", "top_p", "top_k") if key in told} == kept
    assert found.dropped == lost


# ---- what can't be said


@pytest.mark.parametrize(("request_", "param"), [
    ({"n": 2}, "n"), ({"logprobs": True}, "logprobs"), ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "modalities"), ({"web_search_options": {}}, "web_search_options"),
    ({"moderation": {"model": "m"}}, "moderation"), ({"response_format": {"type": "json_object"}}, "response_format"),
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
def test_what_cant_be_said_is_refused_and_the_member_named(request_: Json, param: str | None) -> None:
    error = refusal(**request_)
    assert error.param == param
    assert len(error.message) < 300


def test_an_error_or_a_name_never_quotes_what_could_be_a_prompt() -> None:
    secret = "my secret prompt"
    for error in (
        refusal(messages=user({"type": secret})), refusal(messages=[{"role": secret}]), refusal(tool_choice=secret, tools=[
            {"function": {"name": "f"}}]), refusal(messages=user({"type": "image_url", "image_url": secret})),
        refusal(reasoning_effort=secret), refusal(messages=secret),
    ):  # fmt: skip
        assert "secret" not in error.message
        assert "secret" not in (error.param or "")
    assert dropped(**{secret: 1}) == ("(unnamed)",)


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b'{"messages":[]', b'{"messages":[{"role":"user","content":"\xff"}]}', b"[" * 99_999,
    b'{"messages":[{"role":"user","content":"\\ud83d"}]}', b'{"messages":null}', b"{}",
    b'{"messages":[{"role":"user"}],"x":' + b"[" * 99_999,
])  # fmt: skip
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        OpenAIToAnthropic(body, "c", public_model="m", default_max_tokens=9, created=0)
    assert caught.value.kind in (Kind.INVALID_REQUEST, Kind.INVALID_JSON)


def test_whatever_is_dropped_is_named_but_what_asks_for_nothing_is_not() -> None:
    lost = ("seed", "prediction", "store", "logit_bias", "prompt_cache_key", "top_logprobs", "provider")
    values = (0, {"type": "content", "content": "x"}, True, {"50256": -100}, "k", 3, {"order": ["x"]})
    assert dropped(**dict(zip(lost, values, strict=True))) == lost
    nothing = {"store": False, "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "seed": None, "metadata": {}}
    assert dropped(**nothing, n=1, logprobs=False, modalities=["text"], top_p=None, response_format={"type": "text"}) == ()
    assert dropped(service_tier="flex", functions=[{"name": "g"}], tools=[{"function": {"name": "f", "x": 1}, "y": 2}]) == (
        "functions", "service_tier", "tools[0].function.x", "tools[0].y",
    )  # fmt: skip


def test_the_names_of_what_is_dropped_are_bounded() -> None:
    assert len(dropped(**{f"x{at}": 1 for at in range(500)})) == 100
    assert len(dropped(messages=[{"role": "user", "content": "x", "name": "n"}] * 500)) == 100


# ---- errors


@pytest.mark.parametrize(("status", "kind", "told", "words"), [
    (400, "invalid_request_error", 400, ("invalid_request_error", "invalid_request")),
    (401, "authentication_error", 401, ("invalid_request_error", "invalid_api_key")),
    (402, "billing_error", 402, ("insufficient_quota", "insufficient_credits")),
    (403, "permission_error", 403, ("invalid_request_error", "forbidden")),
    (404, "not_found_error", 404, ("invalid_request_error", "not_found")),
    (413, "request_too_large", 413, ("invalid_request_error", "request_too_large")),
    (429, "rate_limit_error", 429, ("rate_limit_error", "provider_rate_limited")),
    (500, "api_error", 500, ("server_error", "provider_error")),
    (504, "timeout_error", 504, ("server_error", "provider_timeout")),
    (529, "overloaded_error", 503, ("server_error", "overloaded")),
    (429, "something_new", 429, ("rate_limit_error", "provider_rate_limited")),
    (418, "something_new", 418, ("invalid_request_error", "invalid_request")),
    (599, "something_new", 599, ("server_error", "provider_error")),
])  # fmt: skip
def test_an_error_is_told_in_the_callers_words(status: int, kind: str, told: int, words: tuple[str, str]) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "Why."}, "request_id": "req_1"}
    whole = translation().answer(status, json.dumps(body).encode())
    assert whole.status == told
    assert json.loads(whole.body) == {"error": {"message": "Why.", "type": words[0], "param": None, "code": words[1]}}
    assert whole.usage == NO_USAGE


@pytest.mark.parametrize(("body", "message"), [
    (b"<html>Bad gateway</html>", None), (b"", None), (b"\xff\xfe", None), (b"[1]", None), (b'{"error":3}', None),
    (b'{"error":{"message":null}}', None), (b'{"error":{"message":5}}', None), (b"[" * 99_999, None),
    (b'{"error":"Why."}', "Why."), (b'{"message":"Why."}', "Why."), (b'{"error":{"message":"Why."}}', "Why."),
    (b'{"detail":"Why."}', "Why."), (b'{"detail":[{"loc":["body"],"msg":"Why."}]}', '[{"loc":["body"],"msg":"Why."}]'),
    (b'[{"error":{"message":"Why."}}]', "Why."), (b"no healthy upstream\nsecret", "no healthy upstream"),
    (b'{"error":{"message":"Why.","type":5,"code":["x"]}}', "Why."), (b'{"error":{"message":{"detail":"Why."}}}', "Why."),
    (b'{"error":{"message":"%b"}}' % (b"x" * 9999), "x" * 300), (b"x" * 9999, "x" * 300),
])  # fmt: skip
def test_an_error_that_cant_be_read_is_told_all_the_same(body: bytes, message: str | None) -> None:
    whole = translation().answer(502, body)
    error = json.loads(whole.body)["error"]
    assert (error["type"], error["code"]) == ("server_error", "provider_error")
    assert error["message"] == message or (message is None and "answered 502" in error["message"])


@pytest.mark.parametrize("body", [
    b"", b"<html>", b"{}", b'{"type":"message"}', b'{"content":"x"}', b'{"content":[{"type":"text","text":5}]}',
    b'{"type":"error","content":[],"error":{"type":"api_error","message":"x"}}', b'{"content":[{"type":"text","text":"\xff"}]}',
    b'{"content":[{"type":"tool_use","input":{"a":"\xff"}}]}', b'{"content":[3]}', b'{"x":' + b"[" * 99_999,
])  # fmt: skip
def test_what_is_no_message_is_not_passed_off_as_one(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the relay tells no kinds of it apart)
        translation().answer(200, body)


def test_counts_that_cant_be_trusted_are_no_usage() -> None:
    for usage in ({"input_tokens": -1}, {"input_tokens": "3"}, {"output_tokens": 2**41}, {}, None, 3):
        whole = translation().answer(200, json.dumps({"content": [], "usage": usage}).encode())
        assert whole.usage == NO_USAGE
        assert "usage" not in json.loads(whole.body)


# ---- streams that are not as they should be


def test_an_event_that_cant_be_read_ends_the_stream_with_an_error_and_unfinished() -> None:
    for broken in (
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x}\n\n', b"data: {\n\n", b"data: 3\n\n",
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"\xff"}}\n\n',
        b"data: " + b"[" * 99_999 + b"\n\n",
        delta(0, type="text_delta", text=5), event({"type": "message_start", "message": 3}), start(0, type="text", text=5),
        event({"type": "error", "error": "x"}),
    ):  # fmt: skip
        stream = translation().stream()
        told = through(stream, BEGIN + text("a"), broken, text("b") + END + STOP)
        last = told.split(b"\n\n")[-2]
        assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "server_error"
        assert told.count(b'"content":"a"') == 1
        assert not stream.is_finished
        assert b"[DONE]" not in told
        assert b'"b"' not in told


def test_what_has_no_place_in_a_stream_is_skipped() -> None:
    for odd in (
        b": a comment\n\n", b"data: [DONE]\n\n", b"data:\n\n", b"event: x\n\n", b"data: {}\n\n",
        event({"type": "new", "delta": 3, "index": None}), delta(0, type="new_delta", text=[]), delta(0),
        event({"type": "content_block_delta", "index": 0}), start(7, type="new", text=[]), stop(99), BEGIN,
        delta(42, type="input_json_delta", partial_json="{"), delta(42, type="signature_delta", signature="x"),
        event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": -1}}), text(""),
    ):  # fmt: skip
        stream = translation().stream()
        plain = through(translation().stream(), BEGIN, text("a"), END, STOP)
        assert through(stream, BEGIN, odd, text("a"), END, STOP) == plain
        assert stream.is_finished
        assert stream.usage == Usage(3, 5, None, "reported")


@pytest.mark.parametrize("written", [
    b'data: {"error":{"message":"Why."}}', b'event: error\ndata: {"message":"Why."}', b'event: error\ndata: {"detail":"Why."}',
    b'data: {"type":"error","error":{"type":7,"message":"Why."}}', b'data: {"type":"error","error":"Why."}',
])  # fmt: skip
def test_an_error_that_is_not_called_one_or_says_it_otherwise_is_one(written: bytes) -> None:
    stream = translation().stream()
    told = through(stream, BEGIN, written + b"\n\n", END + STOP)
    assert b'"message":"Why."' in told
    assert not stream.is_finished


def test_an_error_that_says_nothing_is_one() -> None:
    for written in (b"event: error\ndata: {}\n\n", b"event: error\ndata: {\n\n"):
        stream = translation().stream()
        told = json.loads(through(stream, written).removeprefix(b"data: "))
        assert told["error"]["type"] == "server_error"
        assert stream.has_failed


def test_an_error_in_a_stream_quotes_no_more_than_its_first_characters() -> None:
    long = event({"type": "error", "error": {"type": "api_error", "message": "x" * 9999}})
    assert json.loads(through(translation().stream(), long).removeprefix(b"data: "))["error"]["message"] == "x" * 300


def test_what_is_within_a_block_of_unknown_type_is_left_out_of_streams_and_whole_answers_alike() -> None:
    source = b"".join([
        BEGIN, start(0, type="hologram", text=""), text("inside"), delta(0, type="thinking_delta", thinking="inside"),
        delta(0, type="input_json_delta", partial_json="{}"), stop(0), start(1, type="text", text=""),
        delta(1, type="text_delta", text="after"), stop(1), END, STOP,
    ])  # fmt: skip
    told = folded_told(through(translation().stream(), source))["choices"][0]["message"]
    answer = {"content": [{"type": "hologram", "text": "inside"}, {"type": "text", "text": "after"}]}
    whole = json.loads(translation().answer(200, json.dumps(answer).encode()).body)["choices"][0]["message"]
    assert told == whole == {"role": "assistant", "content": "after", "refusal": None}
    again = through(translation().stream(), BEGIN, start(0, type="hologram"), stop(0), text("a"), END, STOP)
    assert folded_told(again)["choices"][0]["message"]["content"] == "a"  # the number of a block may be used once more


def test_what_an_answer_loses_is_named() -> None:
    content = [
        {"type": "text", "text": "a", "citations": [{"cited_text": "q"}]}, {"type": "text", "text": "b", "citations": None},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "my secret prompt"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "tool_use", "id": "u", "name": "g", "input": {}},
    ]  # fmt: skip
    body = json.dumps({"content": content}).encode()
    lost = ("answer.content[0].citations", "answer.content[2].server_tool_use", "answer.content[3].unknown")
    assert translation().answer(200, body).dropped == lost
    assert translation(functions=[{"name": "f"}]).answer(200, body).dropped == (*lost, "answer.content[5].tool_use")


def test_an_answer_that_does_not_say_that_it_begins_has_an_id_and_a_role_all_the_same() -> None:
    block = start(0, type="text", text="")
    told = list(documents(through(translation().stream(), event({"type": "ping"}), block + text("a") + stop(0), END, STOP)))
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {one["id"] for one in told} == {f"msg_{CREATED}"}
    for opening in ({"id": "", "usage": {"input_tokens": 3}}, {}):
        stream = translation().stream()
        begin = event({"type": "message_start", "message": opening})
        late = list(documents(through(stream, block, begin, text("a"), END, STOP)))
        assert [one["choices"][0]["delta"].get("role") for one in late].count("assistant") == 1
        assert stream.usage.prompt == (3 if opening else None)
    assert json.loads(translation().answer(200, b'{"content":[]}').body)["id"] == f"msg_{CREATED}"


@settings(deadline=None)
@given(streams(), st.booleans())
def test_a_stream_for_who_wants_a_whole_answer_is_the_same_answer(source: bytes, is_legacy: bool) -> None:
    made = translation(functions=[{"name": "f"}]) if is_legacy else translation()
    folded = made.aggregate(source)
    whole = made.answer(200, json.dumps(folded_source(source)).encode())
    assert plain(json.loads(folded.body)) == plain(json.loads(whole.body))
    assert (folded.status, folded.usage) == (200, whole.usage)


@pytest.mark.parametrize("case", STREAMED, ids=name)
def test_only_a_whole_stream_is_folded(case: Path) -> None:
    source = (case / "stream.sse").read_bytes()
    if case in FINISHED:
        assert json.loads(of_case(case).aggregate(source).body)["choices"][0]["finish_reason"]
        source = source[: source.index(b'"message_stop"')]
    with pytest.raises(ValueError, match="incomplete"):
        of_case(case).aggregate(source)


def test_after_its_end_nothing_more_goes_out() -> None:
    stream = translation().stream()
    whole = through(stream, BEGIN, END, STOP)
    assert (stream.feed(text("late")), stream.flush()) == (b"", b"")
    assert through(translation().stream(), BEGIN + END + STOP + text("late")) == whole


def test_an_end_without_a_reason_is_a_natural_one() -> None:
    stream = translation(stream_options={"include_usage": True}).stream()
    told = through(stream, event({"type": "message_start", "message": {"id": "x"}}), text("a"), STOP)
    assert b'"finish_reason":"stop"' in told
    assert b'"choices":[]' not in told  # nothing was told of usage
    assert told.endswith(b"data: [DONE]\n\n")
    assert stream.usage == NO_USAGE


def test_arguments_that_come_at_once_or_not_to_an_end_are_told_all_the_same() -> None:
    call = start(0, type="tool_use", id="t", name="f", input={"a": 1})
    for source in (call + stop(0), call):
        told = folded_told(through(translation().stream(), BEGIN, source, END, STOP))
        assert told["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    cut = call + delta(0, type="input_json_delta", partial_json='{"a":') + stop(0)
    told = folded_told(through(translation().stream(), BEGIN, cut, END, STOP))
    assert told["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":'
    null = start(0, type="tool_use", id="t", name="f", input=None) + stop(0)
    assert b'"arguments":"{}"' in through(translation().stream(), BEGIN, null, END, STOP)


def test_what_comes_without_its_blocks_beginning_is_told_as_far_as_it_can_be() -> None:
    source = text("a") + delta(1, type="thinking_delta", thinking="b")
    message = folded_told(through(translation().stream(), BEGIN, source, END, STOP))["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("a", "b")


def test_a_caller_who_knows_functions_only_is_told_of_one() -> None:
    two = b"".join(start(at, type="tool_use", id=f"t{at}", name=f"f{at}", input={}) + stop(at) for at in range(2))
    told = folded_told(through(translation(functions=[{"name": "f0"}]).stream(), BEGIN, two, END, STOP))
    assert told["choices"][0]["message"]["function_call"] == {"name": "f0", "arguments": "{}"}
    assert "tool_calls" not in told["choices"][0]["message"]


def test_a_large_event_is_passed_on_in_small_pieces_without_being_copied_for_each() -> None:
    words = "ä" * 500_000
    source = text(words)
    stream = translation().stream()
    told = through(stream, BEGIN, *(source[at : at + 1000] for at in range(0, len(source), 1000)), END, STOP)
    assert folded_told(told)["choices"][0]["message"]["content"] == words


def test_an_event_without_end_is_not_held_for_ever() -> None:
    stream = translation().stream()
    told = b""
    for _ in range(200):
        told += stream.feed(b"data: " + b"x" * 1_000_000 + b"\n")
        if told:
            break
    assert b'"error"' in told
    assert not stream.is_finished


@settings(deadline=None)
@given(st.sampled_from(STREAMED), st.data())
def test_a_damaged_stream_never_raises_and_is_finished_only_with_its_end(case: Path, data: st.DataObject) -> None:
    source = bytearray((case / "stream.sse").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    stream = of_case(case).stream()
    told = through(stream, bytes(source))
    assert stream.is_finished == told.endswith(b"data: [DONE]\n\n")
    told.decode()
    for line in told.split(b"\n"):
        if line.startswith(b"data: {"):
            json.loads(line[6:])
