"""A caller who speaks Anthropic is served by a source that speaks OpenAI: nothing that both can say is lost on the way.

The cases in `golden/anthropic_to_openai` are written by hand: a request and what is asked, an answer and what the caller gets,
a stream and the caller's stream.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.anthropic_to_openai.request import AnthropicToOpenAI
from kyma_proxy.dialect.anthropic_to_openai.stream import MessageStream
from kyma_proxy.dialect.sse import SseParser, encode_event
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.tool_arguments import RAW_ARGUMENTS
from kyma_proxy.dialect.translation import StreamTranslation, Translation
from kyma_proxy.errors import GatewayError, Kind

Json = dict[str, Any]
CASES = sorted((Path(__file__).parent / "golden/anthropic_to_openai").iterdir())
STOPS = frozenset({"END"})


def cases(file: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if (case / file).exists()])


def about(case: Path) -> Json:
    file = case / "about.json"
    found: Json = json.loads(file.read_bytes()) if file.exists() else {}
    return found


def translation(request: Json | bytes | None = None, **how: Any) -> AnthropicToOpenAI:
    body = {"model": "claude", "max_tokens": 9, "messages": [], "stop_sequences": ["END"]} if request is None else request
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return AnthropicToOpenAI(raw, "source-model", public_model="shown-model", **how)


def asked(**members: Any) -> Json:
    body: Json = json.loads(translation({"model": "claude", "messages": []} | members).request.body)
    return body


def said(*messages: Json) -> list[Json]:
    turns: list[Json] = asked(messages=list(messages))["messages"]
    return turns


def user(*blocks: Json) -> Json:
    return {"role": "user", "content": list(blocks)}


def chunk(delta: Json, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return encode_event(b"", json.dumps({"id": "chatcmpl-1", "choices": [choice]} | more).encode())


def called(index: int, arguments: str, **more: Any) -> bytes:
    name = {"name": more.pop("name")} if "name" in more else {}
    return chunk({"tool_calls": [{"index": index, "function": name | {"arguments": arguments}} | more]})


def translated(*pieces: bytes) -> tuple[bytes, MessageStream]:
    stream = MessageStream("shown-model", STOPS)
    out = b"".join([stream.feed(piece) for piece in pieces])
    return out + stream.flush(), stream


def events(stream: bytes) -> list[Json]:
    splitter = SseParser()
    found = [json.loads(event.data) for event in splitter.feed(stream) if event.data != b"[DONE]"]
    assert splitter.flush() == []
    return found


# ---- what is written by hand


@cases("request.json")
def test_a_request_is_said_in_the_sources_dialect(case: Path) -> None:
    how = about(case)
    dropped = how.pop("dropped", [])
    found = translation((case / "request.json").read_bytes(), **how).request
    assert json.loads(found.body) == json.loads((case / "expected.json").read_bytes())
    assert [*found.dropped] == dropped
    assert (found.endpoint.dialect, found.endpoint.path) == ("openai", b"/chat/completions")


@cases("answer.json")
def test_an_answer_is_said_in_the_callers_dialect(case: Path) -> None:
    status = about(case).get("status", 200)
    whole = translation().answer(status, (case / "answer.json").read_bytes())
    assert whole.status == status
    assert json.loads(whole.body) == json.loads((case / "expected.json").read_bytes())


@cases("stream.sse")
def test_a_stream_is_the_same_wherever_the_network_has_cut_it(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "expected.sse").read_bytes()
    for stream in (source, b"\xef\xbb\xbf" + source, source.replace(b"\n", b"\r\n"), source.replace(b"\n", b"\r")):
        assert translated(stream)[0] == expected
        assert translated(*(stream[at : at + 1] for at in range(len(stream))))[0] == expected
    for cut in range(len(source) + 1):
        out, stream_translation = translated(source[:cut], source[cut:])
        assert out == expected
        assert stream_translation.is_finished == about(case).get("finished", True)


@cases("stream.sse")
def test_no_stream_that_was_cut_short_is_passed_off_as_whole(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "expected.sse").read_bytes()
    told = max(source.find(b'"finish_reason":"'), source.find(b"[DONE]"))
    for cut in range(len(source)):
        stream = MessageStream("shown-model", STOPS)
        before = stream.feed(source[:cut])
        assert expected.startswith(before)  # all that goes out is what would have gone out
        after = stream.flush()
        assert (b"message_stop" in before + after) == stream.is_finished
        assert not stream.is_finished or cut > told or about(case).get("finished", True)


# ---- the commuting square: to fold a stream and to translate it can be done in either order


def fold_chunks(stream: bytes) -> bytes:
    """The whole answer that a stream of OpenAI's amounts to."""
    message: Json = {"role": "assistant", "content": "", "reasoning_content": ""}
    calls: dict[int, Json] = {}
    answer: Json = {"choices": [{"index": 0, "message": message, "finish_reason": None}]}
    for event in events(stream):
        answer["id"] = event["id"]
        if event.get("usage"):
            answer["usage"] = event["usage"]
        for choice in event["choices"]:
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                message[name] += delta.get(name) or ""
            for call in delta.get("tool_calls", ()):
                known = calls.setdefault(call["index"], {"function": {"name": "", "arguments": ""}})
                known["id"] = call.get("id") or known["id"]
                for name in ("name", "arguments"):
                    known["function"][name] += call["function"].get(name) or ""
            answer["choices"][0]["finish_reason"] = choice["finish_reason"]
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return json.dumps(answer).encode()


def input_of(arguments: str) -> Json:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {RAW_ARGUMENTS: arguments}


def fold_message(stream: bytes) -> Json:
    """The message that a stream of Anthropic's amounts to; holds its blocks to their order."""
    first, *between, last = events(stream)
    message: Json = first["message"]
    content: list[Json] = message["content"]
    is_open = False
    for event in between:
        if event["type"] == "content_block_start":
            assert (is_open, event["index"]) == (False, len(content))
            is_open = True
            content.append(event["content_block"] | ({"input": ""} if event["content_block"]["type"] == "tool_use" else {}))
        elif event["type"] == "content_block_delta":
            assert (is_open, event["index"]) == (True, len(content) - 1)
            delta = event["delta"]
            name = delta["type"].removesuffix("_delta").replace("input_json", "partial_json")
            content[-1]["input" if name == "partial_json" else name] += delta[name]
        elif event["type"] == "content_block_stop":
            assert (is_open, event["index"]) == (True, len(content) - 1)
            is_open = False
        elif event["type"] == "message_delta":
            assert not is_open
            message |= event["delta"] | {"usage": message["usage"] | event["usage"]}
    assert last == {"type": "message_stop"}
    for block in content:
        if block["type"] == "tool_use":
            block["input"] = input_of(block["input"])
    return message


def gist(message: Json) -> Json:
    """A message with one thought, one text, and its calls in the order of their ids: in a stream they may come in pieces."""
    blocks = message.pop("content")
    texts = {name: "".join(block[name] for block in blocks if block["type"] == name) for name in ("thinking", "text")}
    calls = sorted((block for block in blocks if block["type"] == "tool_use"), key=lambda block: str(block["id"]))
    return message | texts | {"calls": calls}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(TEXTS, TEXTS | st.integers() | st.lists(TEXTS, max_size=2), max_size=3).map(json.dumps)
MALFORMED = ARGUMENTS.flatmap(lambda text: st.integers(0, len(text) - 1).map(lambda end: text[:end]))


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream of OpenAI's, in which texts, thoughts and calls come in any order, and the calls' arguments in any pieces."""
    lanes: list[list[bytes]] = [[]]
    for kind, text in draw(st.lists(st.tuples(st.sampled_from(["content", "reasoning_content"]), TEXTS), max_size=5)):
        lanes[0].append(chunk({kind: text}))
    for index, arguments in enumerate(draw(st.lists(ARGUMENTS | MALFORMED, max_size=3))):
        cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=4)))
        pieces = [arguments[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        begin = called(index, pieces[0], id=f"call_{index}", name=draw(TEXTS))
        lanes.append([begin, *(called(index, piece) for piece in pieces[1:])])
    order = draw(st.permutations([lane for lane, pieces in enumerate(lanes) for _ in pieces]))
    finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter", "else"]))
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    used = encode_event(b"", json.dumps({"id": "chatcmpl-1", "choices": [], "usage": usage}).encode())
    turns = [iter(lane) for lane in lanes]
    return b"".join([next(turns[lane]) for lane in order]) + chunk({}, finish) + used + b"data: [DONE]\n\n"


@settings(deadline=None)
@given(streams(), st.data())
def test_to_fold_and_to_translate_can_be_done_in_either_order(source: bytes, chance: st.DataObject) -> None:
    cut = chance.draw(st.integers(0, len(source)))
    out, stream = translated(source[:cut], source[cut:])
    whole = translation().answer(200, fold_chunks(source))
    assert gist(fold_message(out)) == gist(json.loads(whole.body))
    assert stream.is_finished
    assert stream.usage == whole.usage == Usage(9, 4, 3, "reported")


@settings(deadline=None)
@given(streams())
def test_a_whole_answer_streamed_is_the_same_answer(source: bytes) -> None:
    answer = fold_chunks(source)
    made = translation()
    out, stream = translated(made.as_stream(answer))
    assert gist(fold_message(out)) == gist(json.loads(made.answer(200, answer).body))
    assert stream.is_finished
    assert stream.usage == Usage(9, 4, 3, "reported")


@cases("answer.json")
def test_every_answer_can_be_streamed(case: Path) -> None:
    answer = (case / "answer.json").read_bytes()
    if about(case).get("status", 200) == 200:
        out, stream = translated(translation().as_stream(answer))
        assert stream.is_finished
        assert gist(fold_message(out)) == gist(json.loads((case / "expected.json").read_bytes()))


@cases("stream.sse")
def test_the_cases_fold_and_translate_in_either_order(case: Path) -> None:
    if case.name in ("stream_text", "stream_tools", "stream_tools_interleaved", "stream_with_a_filter_first"):
        source = (case / "stream.sse").read_bytes()
        whole = translation().answer(200, fold_chunks(source))
        assert gist(fold_message((case / "expected.sse").read_bytes())) == gist(json.loads(whole.body))


# ---- requests

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=8)
TEXT_BLOCKS = st.builds(lambda text: {"type": "text", "text": text}, WORDS)
USES = st.builds(
    lambda name, given_input: {"type": "tool_use", "id": f"id {name}", "name": name, "input": given_input},
    WORDS, st.dictionaries(WORDS, WORDS | st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=2),
)  # fmt: skip
RESULTS = st.builds(
    lambda ident, content: {"type": "tool_result", "tool_use_id": ident, "content": content},
    WORDS, WORDS | st.lists(TEXT_BLOCKS, min_size=1, max_size=3),
)  # fmt: skip
THOUGHTS = st.builds(
    lambda text, signature: {"type": "thinking", "thinking": text, "signature": signature},
    WORDS,
    st.sampled_from(["", UNSIGNED]),
)
TURNS = st.one_of(
    st.builds(lambda content: {"role": "user", "content": content}, WORDS),
    st.builds(lambda blocks: user(*blocks), st.lists(TEXT_BLOCKS | RESULTS, min_size=1, max_size=4)),
    st.builds(lambda blocks: {"role": "assistant", "content": blocks}, st.lists(TEXT_BLOCKS | USES | THOUGHTS, max_size=4)),
)


def facts_of_blocks(messages: list[Json]) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if block["type"] == "tool_use":
                yield "call", block["id"], block["name"], json.dumps(block["input"])
            elif block["type"] == "tool_result":
                inner = block["content"]
                texts = [inner] if isinstance(inner, str) else [one["text"] for one in inner]
                yield from (("result", block["tool_use_id"], text) for text in texts)
            elif block["type"] == "thinking":
                yield "thought", block["thinking"]
            elif message["role"] == "user":
                yield "user", block["text"]
        if message["role"] == "assistant":
            yield "assistant", "".join(block["text"] for block in content if block["type"] == "text")


def facts_of_messages(messages: list[Json]) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        content = message["content"] or ""
        if message["role"] == "tool":
            yield from (("result", message["tool_call_id"], text) for text in content.split("\n\n"))
        elif message["role"] == "user":
            yield from (("user", text) for text in content.split("\n\n"))
        else:
            if "reasoning_content" in message:
                yield from (("thought", text) for text in message["reasoning_content"].split("\n\n"))
            for call in message.get("tool_calls", ()):
                function = call["function"]
                yield "call", call["id"], function["name"], json.dumps(json.loads(function["arguments"]))
            yield "assistant", content.replace("\n\n", "")


@settings(deadline=None)
@given(st.lists(TURNS, max_size=6))
def test_a_conversation_loses_nothing_that_both_sides_can_say(messages: list[Json]) -> None:
    found = translation({"model": "claude", "max_tokens": 1, "messages": messages}).request
    turns = json.loads(found.body)["messages"]
    assert sorted(facts_of_messages(turns)) == sorted(facts_of_blocks(messages))
    assert found.dropped == ()


def test_the_most_tokens_and_every_number_are_the_callers_own_digits() -> None:
    body = (
        b'{"model":"claude","max_tokens":1e5,"temperature":0.10,"tools":[{"name":"a","input_schema":{"maximum":1e999}}],'
        b'"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"a","input":'
        b'{"n": 12345678901234567890123, "x": 1.0}}]}]}'
    )
    found = translation(body, max_tokens_field="max_completion_tokens").request.body
    for part in (b'"max_completion_tokens":1e5', b'"temperature":0.10', b'"maximum":1e999',
                 rb'"arguments":"{\"n\":12345678901234567890123,\"x\":1.0}"'):  # fmt: skip
        assert part in found


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", None])
def test_thoughts_are_told_again_where_the_source_takes_them(field: str | None) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": UNSIGNED}
    turn = {"role": "assistant", "content": [thought, {"type": "text", "text": "No."}]}
    found = translation({"model": "claude", "max_tokens": 1, "messages": [turn]}, reasoning_field=field).request
    (told,) = json.loads(found.body)["messages"]
    assert told == {"role": "assistant", "content": "No."} | ({} if field is None else {field: "Hm."})
    assert found.dropped == (("messages[0].content.thinking",) if field is None else ())


def test_the_default_stands_where_the_caller_gives_no_most_tokens() -> None:
    body = {"model": "claude", "messages": []}
    assert json.loads(translation(body, default_max_tokens=4096).request.body)["max_tokens"] == 4096
    assert json.loads(translation(body | {"max_tokens": 7}, default_max_tokens=4096).request.body)["max_tokens"] == 7
    assert "max_tokens" not in asked()


def test_usage_is_asked_for_where_a_stream_is_and_only_then() -> None:
    body = {"model": "claude", "messages": []}
    assert "stream_options" not in json.loads(translation(body, asks_for_usage=True).request.body)
    assert "stream_options" not in json.loads(translation(body | {"stream": False}, asks_for_usage=True).request.body)
    assert "stream_options" not in json.loads(translation(body | {"stream": True}).request.body)


@pytest.mark.parametrize(("schema", "parameters"), [
    ({"type": "object"}, {"type": "object", "properties": {}}), ({}, {"type": "object", "properties": {}}),
    (True, {"type": "object", "properties": {}}), ({"type": "object", "required": []}, {
        "type": "object", "required": [], "properties": {}}),
    ({"type": "object", "properties": {"a": {}}}, None), ({"type": "string"}, None), ({"type": ["object", "null"]}, None),
    ([1], None), ("object", None), (False, None),
])  # fmt: skip
def test_a_tool_without_properties_is_told_to_have_none(schema: Any, parameters: Json | None) -> None:
    (tool,) = asked(tools=[{"name": "a", "input_schema": schema}])["tools"]
    assert tool["function"]["parameters"] == (schema if parameters is None else parameters)


@pytest.mark.parametrize(("members", "effort"), [
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
    ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "low"),
    ({"thinking": {"type": "enabled", "budget_tokens": 4097}}, "medium"),
    ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "medium"),
    ({"thinking": {"type": "enabled", "budget_tokens": 16385}}, "high"),
    ({"thinking": {"type": "enabled", "budget_tokens": 31999}, "output_config": {"effort": "low"}}, "low"),
    ({"output_config": {"effort": "xhigh"}}, "high"),
    ({"thinking": {"type": "enabled"}}, None), ({"thinking": {"type": "adaptive"}}, None),
    ({"thinking": {"type": "disabled"}}, None), ({"output_config": {"effort": "odd"}}, None), ({}, None),
])  # fmt: skip
def test_a_budget_for_thinking_is_an_effort(members: Json, effort: str | None) -> None:
    assert asked(**members).get("reasoning_effort") == effort


@pytest.mark.parametrize(("schema", "is_strict"), [
    ({"type": "object", "properties": {}, "additionalProperties": False}, True),
    ({"type": "object"}, False),
    ({"type": "string"}, True),
    ({"type": "array", "items": {"type": "object", "properties": {"a": {}}, "additionalProperties": False}}, False),
    ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
    ({"anyOf": [{"type": "null"}, {"type": "object"}]}, False),
    ({"anyOf": [{"type": "null"}, {"type": "string"}]}, True),
    ({"type": "object", "properties": {"a": {}}, "required": "a", "additionalProperties": False}, False),
    ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
])  # fmt: skip
def test_a_schema_is_strict_where_the_source_can_be_strict_with_it(schema: Json, is_strict: bool) -> None:
    form = asked(output_format={"type": "json_schema", "schema": schema})["response_format"]["json_schema"]
    assert form.get("strict", False) == is_strict
    assert form["schema"] == schema


@pytest.mark.parametrize(("members", "dropped"), [
    ({"thinking": {"type": "disabled"}}, ["thinking"]),
    ({"thinking": {"type": "adaptive", "display": None}}, []),
    ({"output_config": {"effort": "odd", "x": 1}}, ["output_config.x", "output_config.effort"]),
    ({"service_tier": "auto"}, []), ({"service_tier": "odd"}, ["service_tier"]),
    ({"metadata": {"user_id": "u" * 64}}, []), ({"metadata": {"user_id": "u" * 65}}, ["metadata.user_id"]),
    ({"metadata": {}}, []), ({"mcp_servers": []}, ["mcp_servers"]), ({"inference_geo": "global"}, ["inference_geo"]),
    ({"top_k": None, "container": None}, []),
    ({"a prompt\r\n": 1, "x" * 65: 2, "top_k": 3}, ["?", "top_k"]),
])  # fmt: skip
def test_what_has_no_place_is_named(members: Json, dropped: list[str]) -> None:
    found = translation({"model": "claude", "messages": []} | members).request
    assert [*found.dropped] == dropped
    assert "service_tier" not in json.loads(found.body)


def test_names_are_kept_once_for_each_kind_and_there_is_an_end_to_them() -> None:
    many: Json = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}, "citations": []}
    messages = [user(many, many), user(many)]
    found = translation({"model": "claude", "messages": messages, "system": [many]}).request
    assert found.dropped == ("cache_control", "messages[0].content[0].citations", "system[0].citations")
    assert len(translation({"model": "claude", "messages": []} | {f"x{at}": 1 for at in range(900)}).request.dropped) == 64


def test_instructions_lead_the_conversation_in_their_order_wherever_they_stood() -> None:
    marked = {"type": "text", "text": "B", "cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "system", "content": [marked, {"type": "text", "text": "C"}]}, user({"type": "text", "text": "Hello"}),
        {"role": "system", "content": ""}, {"role": "assistant", "content": "Hi"}, {"role": "system", "content": "D"},
    ]  # fmt: skip
    found = translation({"model": "claude", "messages": messages, "system": [{"type": "text", "text": "A"}]}).request
    assert json.loads(found.body)["messages"] == [
        {"role": "system", "content": "A\n\nB\n\nC\n\nD"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]
    assert found.dropped == ("cache_control",)
    assert said({"role": "system", "content": ""}, user()) == [{"role": "user", "content": ""}]


def test_empty_contents_are_said_as_they_are() -> None:
    assert said({"role": "user", "content": ""}, user(), {"role": "assistant", "content": []}, {"role": "user"}) == [
        {"role": "user", "content": ""}, {"role": "user", "content": ""},
        {"role": "assistant", "content": ""}, {"role": "user", "content": ""},
    ]  # fmt: skip
    assert "tools" not in asked(tools=[], tool_choice={"type": "any"}, system="", stop_sequences=[])


def test_what_stands_for_malformed_arguments_is_only_what_the_translation_made() -> None:
    def arguments(given_input: Json | None) -> str:
        turn: Json = {"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "n", "input": given_input}]}
        found: str = said(turn)[0]["tool_calls"][0]["function"]["arguments"]
        return found

    assert arguments({RAW_ARGUMENTS: '{"bad'}) == '{"bad'
    assert arguments({RAW_ARGUMENTS: 1}) == '{"_raw_arguments":1}'
    assert arguments({RAW_ARGUMENTS: "x", "y": 2}) == '{"_raw_arguments":"x","y":2}'
    assert arguments({"y": RAW_ARGUMENTS}) == '{"y":"_raw_arguments"}'
    assert arguments(None) == "{}"


TEXT = {"type": "text", "text": "a"}
SOURCE = {"type": "url", "url": "https://example.com/a.pdf"}
BAD_REQUESTS: list[tuple[Json, str]] = [
    ({"messages": 1}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [{"content": "a"}]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ({"messages": [user(TEXT, {"text": "a"})]}, "messages[0].content[1]"),
    ({"messages": [user({"type": "text", "text": 1})]}, "messages[0].content[0].text"),
    ({"messages": [user({"type": 1})]}, "messages[0].content[0].type"),
    ({"messages": [user({"type": "hologram"})]}, "messages[0].content[0]"),
    ({"messages": [user({"type": "tool_use", "id": "i", "name": "n", "input": {}})]}, "messages[0].content[0]"),
    ({"messages": [user({"type": "container_upload", "file_id": "f"})]}, "messages[0].content[0]"),
    ({"messages": [user({"type": "document", "source": SOURCE})]}, "messages[0].content[0].source"),
    ({"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]}, "messages[0].content[0].source"),
    ({"messages": [user({"type": "tool_result", "tool_use_id": "i", "content": [{"type": "tool_reference"}]})]},
     "messages[0].content[0].content[0]"),
    ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "i"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "assistant", "content": [{"type": "image", "source": SOURCE}]}]}, "messages[0].content[0]"),
    ({"system": [{"type": "image", "source": SOURCE}]}, "system[0]"),
    ({"system": 1}, "system"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
    ({"tools": [{"name": "a"}]}, "tools[0]"),
    ({"tools": [{"name": "a", "input_schema": {}}], "tool_choice": {"type": "tool"}}, "tool_choice"),
    ({"tools": [{"name": "a", "input_schema": {}}], "tool_choice": {"type": "odd"}}, "tool_choice"),
    ({"output_format": {"type": "grammar", "schema": {}}}, "output_format.type"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
    ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking.budget_tokens"),
    ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "m"}]}, "mcp_servers"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"stream": "yes"}, "stream"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "param"), BAD_REQUESTS)
def test_what_can_not_be_said_is_refused_by_its_name(members: Json, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        asked(**members)
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, param)
    assert f"`{param}`" in caught.value.message


def test_a_refusal_tells_what_to_do_and_quotes_no_prompt() -> None:
    with pytest.raises(GatewayError) as caught:
        said(user({"type": "document", "source": SOURCE}))
    assert "send the document itself, as base64 or as text" in caught.value.message
    with pytest.raises(GatewayError) as caught:
        said(user({"type": "secret" * 100}))
    assert len(caught.value.message) < 250


DEEP = [b'{"a":' * depth + b"1" + b"}" * depth for depth in (900, 100_000)]
CALL = b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"n","input":%b}]}]}'


@pytest.mark.parametrize("body", [
    b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', CALL % b'{"a":"\xff"}', CALL % DEEP[1],
    b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
])  # fmt: skip
def test_a_body_that_can_not_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        translation(body)
    assert caught.value.kind is Kind.INVALID_JSON


def test_what_is_nested_deeply_but_can_be_read_is_asked_as_it_is() -> None:
    assert (
        json.loads(translation(CALL % DEEP[0]).request.body)["messages"][0]["tool_calls"][0]["function"]["arguments"]
        == DEEP[0].decode()
    )
    form = b'{"model":"m","messages":[],"output_format":{"type":"json_schema","schema":%b}}' % DEEP[0]
    assert DEEP[0] in translation(form).request.body
    assert b"strict" not in translation(form).request.body


# ---- answers


def test_usage_is_told_as_each_side_counts_it() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 60}}
    answer = {"id": "1", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage}
    whole = translation().answer(200, json.dumps(answer).encode())
    assert json.loads(whole.body)["usage"] == {"input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 5}
    assert whole.usage == Usage(100, 5, 60, "reported")
    for part, known in (({"prompt_tokens": 5}, (5, None)), ({"completion_tokens": 5}, (None, 5))):
        found = translation().answer(200, json.dumps(answer | {"usage": part}).encode()).usage
        assert (found.prompt, found.completion, found.source) == (*known, "reported")
    nonsense: list[Any] = [{"prompt_tokens": -1}, {"prompt_tokens": 2**60}, [], {}, "many", None]
    for odd in nonsense:
        whole = translation().answer(200, json.dumps(answer | {"usage": odd}).encode())
        assert whole.usage == NO_USAGE
        assert json.loads(whole.body)["usage"] == {"input_tokens": 0, "output_tokens": 0}


@pytest.mark.parametrize(("finish", "message", "reason"), [
    ("stop", {"content": "a"}, "end_turn"), ("length", {"content": "a"}, "max_tokens"),
    ("content_filter", {"content": ""}, "refusal"), ("eos", {"content": "a"}, "end_turn"), (None, {"content": "a"}, "end_turn"),
    ("tool_calls", {"tool_calls": [{"id": "a", "function": {"name": "n"}}]}, "tool_use"),
    ("stop", {"tool_calls": [{"id": "a", "function": {"name": "n"}}]}, "tool_use"),
    ("length", {"tool_calls": [{"id": "a", "function": {"name": "n"}}]}, "max_tokens"),
    ("tool_calls", {"content": "a", "tool_calls": []}, "end_turn"),
])  # fmt: skip
def test_why_an_answer_ended_is_told_in_the_callers_words(finish: str | None, message: Json, reason: str) -> None:
    body = json.dumps({"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()
    assert json.loads(translation().answer(200, body).body)["stop_reason"] == reason
    if "tool_calls" in message:
        message = {"tool_calls": [call | {"index": at} for at, call in enumerate(message["tool_calls"])]}
    out, _ = translated(chunk(message), chunk({}, finish), b"data: [DONE]\n\n")
    assert fold_message(out)["stop_reason"] == reason


@pytest.mark.parametrize("body", [
    b"", b"null", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"index":1,"message":{"content":"a"}}]}', b"<html>", b"\xff",
    b'{"error":{"message":"no"}}', b'{"choices":[{"message":{"content":"half"},"finish_reason":"error"}]}',
    b'{"choices":[{"message":{"content":1}}]}', b"[" * 100_000, b'{"a":' * 100_000,
    b'{"id":"1","choices":[{"message":{"content":"a',
])  # fmt: skip
def test_what_is_no_answer_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        translation().answer(200, body)


@pytest.mark.parametrize(("status", "kind"), [
    (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"), (403, "permission_error"),
    (404, "not_found_error"), (409, "invalid_request_error"), (413, "request_too_large"), (422, "invalid_request_error"),
    (429, "rate_limit_error"), (500, "api_error"), (502, "api_error"), (503, "overloaded_error"), (504, "timeout_error"),
    (529, "overloaded_error"),
])  # fmt: skip
def test_an_error_has_the_type_of_its_status(status: int, kind: str) -> None:
    whole = translation().answer(status, b'{"error":{"message":"Because.","type":"x","code":null}}')
    error = json.loads(whole.body)
    assert (whole.status, error["type"], error["error"]["type"], whole.usage) == (status, "error", kind, NO_USAGE)
    assert (error["error"]["message"] == "Because.") == (status != 401)  # a source may quote the operator's credential


@pytest.mark.parametrize(("body", "message"), [
    (b"", None), (b"<!DOCTYPE html><p>secret", None), (b"\xff\xfe", None), (b'{"a":', None), (b'"a"', "a"), (b"{}", None),
    (b"a\x00b", None), (b"no healthy upstream\nsecret", "no healthy upstream"), (b"x" * 9999, "x" * 300),
    (b'{"error":"why"}', "why"), (b'{"message":"why"}', "why"), (b'{"detail":"why"}', "why"), (b'{"error":{"code":5}}', None),
    (b'{"error":{"message":{"detail":"why"}}}', "why"), (b'{"error":{"error":{"error":{"error":"deep"}}}}', None),
    (b'{"error":{"message":"half \\ud83d"}}', "half \ufffd"),
])  # fmt: skip
def test_an_error_says_what_its_source_says_and_quotes_no_page(body: bytes, message: str | None) -> None:
    found = json.loads(translation().answer(500, body).body)["error"]["message"]
    assert found == (message or "The source answered with the status 500, and did not say why.")


# ---- streams


def test_each_delta_goes_out_with_the_event_that_brought_it() -> None:
    stream = MessageStream("shown-model", STOPS)
    pieces = [
        chunk({"role": "assistant", "content": ""}), chunk({"reasoning_content": "a"}), chunk({"content": "b"}),
        called(0, "", id="x", name="n"), called(0, '{"a":'), called(0, "1}"), called(1, "", id="y", name="n"), called(1, "{}"),
    ]  # fmt: skip
    out = [[event["type"] for event in events(stream.feed(piece))] for piece in pieces]
    start, delta, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert out == [
        ["message_start"],
        [start, delta],
        [delta, stop, start, delta],  # with the mark of a thought that nobody has signed
        [],  # the name of a call may go on
        [stop, start, delta],
        [delta],
        [],
        [stop, start, delta],
    ]
    assert [event["type"] for event in events(stream.feed(chunk({}, "tool_calls")))] == [stop]
    assert stream.is_finished
    assert [event["type"] for event in events(stream.flush())] == ["message_delta", "message_stop"]


def test_only_the_call_that_must_wait_is_held() -> None:
    stream = MessageStream("shown-model", STOPS)
    both = called(0, '{"a":"', id="x", name="n") + called(1, "{", id="y", name="m")
    assert [event["type"] for event in events(stream.feed(both))][-1] == "content_block_delta"
    assert stream.feed(called(1, "}")) == b""
    assert len(events(stream.feed(called(0, '}\\"')))) == 1  # in a string a brace ends nothing
    assert stream.feed(called(1, " ")) == b""
    out = events(stream.feed(called(0, '"}')))
    assert [event["type"] for event in out] == [
        "content_block_delta", "content_block_stop", "content_block_start", "content_block_delta",
    ]  # fmt: skip
    assert out[-1]["delta"]["partial_json"] == "{} "


def test_the_end_of_a_call_is_seen_wherever_its_arguments_are_cut() -> None:
    arguments = '{"a\\\\\\"}": ["{", {"b": "\\\\"}], "c": "]}"}'
    assert json.loads(arguments)
    for cut in range(1, len(arguments)):
        stream = MessageStream("shown-model", STOPS)
        for piece in (arguments[:cut], arguments[cut:-1]):
            stream.feed(called(0, piece, id="x", name="n"))
        assert stream.feed(called(1, "{}", id="y", name="n")) == b""
        assert len(events(stream.feed(called(0, "}")))) == 4


def test_what_follows_with_the_same_index_does_not_wait() -> None:
    stream = MessageStream("shown-model", STOPS)
    stream.feed(called(0, "", id="x", name="n"))
    out = events(stream.feed(called(0, "{", id="y", name="n")))
    assert [event["type"] for event in out] == [
        "content_block_start", "content_block_stop", "content_block_start", "content_block_delta",
    ]  # fmt: skip


def test_a_name_that_comes_in_pieces_is_whole_when_its_arguments_begin() -> None:
    def piece(name: str, arguments: str = "") -> bytes:
        return chunk({"tool_calls": [{"index": 0, "function": {"name": name, "arguments": arguments}}]})

    for pieces in (
        (called(0, "", id="x", name="get_"), piece("weather", "{}")),
        (called(0, "", id="x", name="get_"), piece("weather"), called(0, "{}")),
        (called(0, "", id="x", name="get_weather"), piece("get_weather", "{"), piece("get_weather", "}")),
        (called(0, "", id="x", name="get_weather"), called(1, "", id="y", name="n"), chunk({"content": "b"}), called(0, "{}")),
    ):
        out, _ = translated(*pieces, chunk({}, "tool_calls"))
        assert fold_message(out)["content"][0] == {"type": "tool_use", "id": "x", "name": "get_weather", "input": {}}


def test_a_function_as_it_was_called_before_there_were_tools_is_a_tool() -> None:
    call = {"name": "look", "arguments": '{"at":1}'}
    answer = {"id": "1", "choices": [{"message": {"content": None, "function_call": call}, "finish_reason": "function_call"}]}
    whole = json.loads(translation().answer(200, json.dumps(answer).encode()).body)
    assert whole["content"] == [{"type": "tool_use", "id": "toolu_1_0", "name": "look", "input": {"at": 1}}]
    assert whole["stop_reason"] == "tool_use"
    out, stream = translated(
        chunk({"function_call": {"name": "look", "arguments": ""}}, id="1"),
        chunk({"function_call": {"arguments": '{"at":'}}), chunk({"function_call": {"arguments": "1}"}}, "function_call"),
    )  # fmt: skip
    message = fold_message(out)
    assert (message["content"], message["stop_reason"]) == (whole["content"], "tool_use")
    assert stream.is_finished


def test_what_an_answer_loses_is_named() -> None:
    said: Json = {"content": "a", "annotations": [{"type": "url_citation"}], "audio": {"id": "1"}, "images": []}
    for message, lost in ((said, ("annotations", "audio")), ({"content": "a", "annotations": [], "audio": None}, ())):
        body = json.dumps({"id": "1", "choices": [{"message": message, "finish_reason": "stop"}]}).encode()
        assert translation().answer(200, body).dropped == tuple(f"answer.message.{name}" for name in lost)


def test_an_error_bears_the_callers_request_id() -> None:
    made = translation(request_id="abc")
    assert json.loads(made.answer(500, b"{}").body)["request_id"] == "abc"
    for broken in (b'data: {"error":{"message":"no"}}\n\n', b"data: {\n\n", b"event: error\ndata: {}\n\n"):
        (error,) = events(made.stream().feed(broken))
        assert (error["type"], error["request_id"]) == ("error", "abc")


@settings(deadline=None)
@given(streams())
def test_a_stream_for_who_wants_a_whole_answer_is_the_same_answer(source: bytes) -> None:
    made = translation()
    folded, whole = made.aggregate(source), made.answer(200, fold_chunks(source))
    assert gist(json.loads(folded.body)) == gist(json.loads(whole.body))
    assert (folded.status, folded.usage) == (200, whole.usage)


@cases("stream.sse")
def test_only_a_whole_stream_is_folded(case: Path) -> None:
    source = (case / "stream.sse").read_bytes()
    if about(case).get("finished", True):
        assert gist(json.loads(translation().aggregate(source).body)) == gist(
            fold_message((case / "expected.sse").read_bytes())
        )
    else:
        with pytest.raises(ValueError, match="incomplete"):
            translation().aggregate(source)


def test_a_call_whose_name_comes_late_begins_with_its_name() -> None:
    out, _ = translated(called(0, '{"a"', id="x"), called(0, ":1}", name="n"), chunk({}, "tool_calls"))
    assert [block["name"] for block in fold_message(out)["content"]] == ["n"]
    out, _ = translated(called(0, "{}", id="x"), chunk({}, "tool_calls"))
    assert fold_message(out)["content"] == [{"type": "tool_use", "id": "x", "name": "", "input": {}}]


def test_a_call_that_is_told_with_every_event_is_one() -> None:
    out, _ = translated(called(0, "{", id="x", name="n"), called(0, "}", id="x", name="n"), chunk({}, "stop"))
    assert fold_message(out)["content"] == [{"type": "tool_use", "id": "x", "name": "n", "input": {}}]


def test_malformed_arguments_are_passed_on_as_they_are() -> None:
    out, _ = translated(called(0, '{"a"}}', id="x", name="n"), called(0, " oh"), chunk({}, "stop"))
    assert fold_message(out)["content"][0]["input"] == {RAW_ARGUMENTS: '{"a"}} oh'}
    out, _ = translated(
        called(0, '}\\"{', id="x", name="n"), called(1, "{}", id="y", name="n"), called(0, "}"), chunk({}, "stop")
    )
    assert [block["input"] for block in fold_message(out)["content"]] == [{RAW_ARGUMENTS: '}\\"{}'}, {}]


def test_what_follows_a_whole_value_when_another_call_has_begun_can_not_be_said_any_more() -> None:
    out, _ = translated(
        called(0, "{}", id="x", name="n"), called(1, "{}", id="y", name="n"), called(0, " \n"), chunk({}, "stop")
    )
    assert [block["input"] for block in fold_message(out)["content"]] == [{}, {}]


def test_a_text_cut_within_a_character_goes_on() -> None:
    texts = [rb"a\ud83d", rb"\ude00 \ud83d\ude00", b"\xf0\x9f"]
    out, _ = translated(
        *(b'data: {"id":"1","choices":[{"delta":{"content":"%b"}}]}\n\n' % text for text in texts), chunk({}, "stop")
    )
    assert fold_message(out)["content"] == [{"type": "text", "text": "a\ufffd\ufffd \U0001f600\ufffd"}]


@pytest.mark.parametrize(("event", "kind", "message"), [
    (b'data: {"error":{"message":"Slow down","type":"rate_limit_exceeded","code":null}}', "rate_limit_error", "Slow down"),
    (b'data: {"error":{"message":"Full","code":"overloaded"}}', "overloaded_error", "Full"),
    (b'data: {"error":{"message":"No","code":529}}', "overloaded_error", "No"),
    (b'data: {"error":"Out of memory"}', "api_error", "Out of memory"),
    (b'data: {"object":"error","message":"Too long","code":400}', "invalid_request_error", "Too long"),
    (b'event: error\ndata: {"message":"Gone"}', "api_error", "Gone"),
    (b'data: {"id":"1","choices":[{"delta":{},"finish_reason":"insufficient_system_resource"}]}', "api_error",
     "The source ended its answer early; send the request again."),
    (b"data: {", "api_error", "The source sent an event that can't be read; send the request again."),
    (b"data: []", "api_error", "The source sent an event that can't be read; send the request again."),
    (b'data: {"choices":[{"delta":{"content":1}}]}', "api_error",
     "The source sent an event that can't be read; send the request again."),
])  # fmt: skip
def test_an_error_in_the_stream_ends_it_and_it_is_not_finished(event: bytes, kind: str, message: str) -> None:
    out, stream = translated(
        chunk({"content": "Half"}), event + b"\n\n", chunk({"content": "more"}, "stop"), b"data: [DONE]\n\n"
    )
    last = events(out)[-1]
    assert last == {"type": "error", "error": {"type": kind, "message": message}}
    assert out.endswith(b"event: error\ndata: " + json.dumps(last, separators=(",", ":")).encode() + b"\n\n")
    assert not stream.is_finished
    assert b"message_stop" not in out


def test_a_refusal_is_the_text_and_the_reason() -> None:
    out, _ = translated(
        chunk({"role": "assistant", "refusal": ""}), chunk({"refusal": "I"}), chunk({"refusal": " can't."}), chunk({}, "stop")
    )
    message = fold_message(out)
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "I can't."}], "refusal")


def test_members_that_are_null_or_strange_are_passed_over() -> None:
    strange = {
        "choices": [{"index": None, "delta": None, "finish_reason": ""}, {"delta": {"tool_calls": [{"function": None}]}}]
    }
    out, _ = translated(
        encode_event(b"", json.dumps({"created": 7, "usage": None, "error": None} | strange).encode()),
        chunk({"content": None, "reasoning": {"odd": 1}, "tool_calls": None}), chunk({"content": "a"}, "stop"),
    )  # fmt: skip
    message = fold_message(out)
    assert message["id"] == "msg_7"
    assert [block["type"] for block in message["content"]] == ["tool_use", "text"]


def test_an_error_after_the_last_word_still_counts() -> None:
    out, stream = translated(chunk({"content": "a"}, "stop"), b'data: {"error":{"message":"no"}}\n\n', b"data: [DONE]\n\n")
    assert not stream.is_finished
    assert b"message_stop" not in out


@pytest.mark.parametrize("end", [b"", b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n"])
def test_a_stream_that_has_said_why_it_stopped_is_whole(end: bytes) -> None:
    out, stream = translated(chunk({"content": "a"}), chunk({}, "stop"), end)
    assert fold_message(out)["content"] == [{"type": "text", "text": "a"}]
    assert stream.is_finished
    assert stream.feed(chunk({"content": "b"})) == stream.flush() == b""


def test_a_stream_that_is_done_without_a_word_is_an_empty_message() -> None:
    out, stream = translated(b"data: [DONE]\n\n")
    assert (fold_message(out)["content"], fold_message(out)["stop_reason"]) == ([], "end_turn")
    assert stream.is_finished
    out, stream = translated(b"")
    assert (out, stream.is_finished, stream.usage) == (b"", False, NO_USAGE)


def test_life_goes_on_to_the_caller() -> None:
    stream = MessageStream("shown-model", STOPS)
    assert stream.feed(b": keep-alive\n\n") == b":\n\n"
    stream.feed(chunk({"content": "a"}))
    assert stream.feed(b": keep-alive\n") == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert stream.feed(b"\ndata:\n\nid: 1\n\n") == b""


def test_a_large_event_is_read_in_pieces_and_costs_no_more_than_its_bytes() -> None:
    text = "x" * (1 << 20)
    source = chunk({"content": text}, "stop")
    begin = time.process_time()
    out, _ = translated(*(source[at : at + 100] for at in range(0, len(source), 100)))
    assert time.process_time() - begin < 2.0
    assert fold_message(out)["content"] == [{"type": "text", "text": text}]


def test_calls_at_once_cost_no_more_than_their_bytes() -> None:
    pieces = [
        called(at % 2, '{"a":[' if at < 2 else "[]," if at < 39_998 else "1]}", id=f"{at % 2}", name="n")
        for at in range(40_000)
    ]
    begin = time.process_time()
    out, _ = translated(*pieces, chunk({}, "tool_calls"))
    assert time.process_time() - begin < 8.0  # each is looked at once; a quadratic search would take minutes
    assert [len(block["input"]["a"]) for block in fold_message(out)["content"]] == [19_999, 19_999]


def test_the_parts_keep_to_the_contract_of_translations() -> None:
    whole: Translation = translation()
    stream: StreamTranslation = whole.stream()
    assert stream.usage == NO_USAGE
