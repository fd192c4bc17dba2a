"""Translations, chunks and generated streams for the tests of callers who speak Anthropic over sources that speak OpenAI.

The cases in `golden/anthropic_to_openai` are written by hand: a request and its translation, an answer and its translation, a
stream and its translation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from kyma_proxy.dialect.anthropic_to_openai.stream import MessageStream
from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.sse import SseParser, encode_event
from kyma_proxy.dialect.tool_arguments import RAW_ARGUMENTS

Json = dict[str, Any]
CASES = sorted((Path(__file__).parent.parent / "golden/anthropic_to_openai").iterdir())
STOP_SEQUENCES = frozenset({"END"})


def golden_cases(file: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if (case / file).exists()])


def case_options(case: Path) -> Json:
    file = case / "about.json"
    found: Json = json.loads(file.read_bytes()) if file.exists() else {}
    return found


def translation(request: Json | bytes | None = None, **how: Any) -> AnthropicToOpenAI:
    body = {"model": "claude", "max_tokens": 9, "messages": [], "stop_sequences": ["END"]} if request is None else request
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return AnthropicToOpenAI(raw, "source-model", public_model="shown-model", **how)


def translated_request(**members: Any) -> Json:
    body: Json = json.loads(translation({"model": "claude", "messages": []} | members).request.body)
    return body


def translated_messages(*messages: Json) -> list[Json]:
    turns: list[Json] = translated_request(messages=list(messages))["messages"]
    return turns


def user_message(*blocks: Json) -> Json:
    return {"role": "user", "content": list(blocks)}


def chunk(delta: Json, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return encode_event(b"", json.dumps({"id": "chatcmpl-1", "choices": [choice]} | more).encode())


def call_chunk(index: int, arguments: str, **more: Any) -> bytes:
    name = {"name": more.pop("name")} if "name" in more else {}
    return chunk({"tool_calls": [{"index": index, "function": name | {"arguments": arguments}} | more]})


def translate_stream(*pieces: bytes) -> tuple[bytes, MessageStream]:
    stream = MessageStream("shown-model", STOP_SEQUENCES)
    out = b"".join([stream.feed(piece) for piece in pieces])
    return out + stream.flush(), stream


def events_of(stream: bytes) -> list[Json]:
    splitter = SseParser()
    found = [json.loads(event.data) for event in splitter.feed(stream) if event.data != b"[DONE]"]
    assert splitter.flush() == []
    return found


def aggregate_chunks(stream: bytes) -> bytes:
    """The whole answer that a stream of OpenAI's amounts to."""
    message: Json = {"role": "assistant", "content": "", "reasoning_content": ""}
    calls: dict[int, Json] = {}
    answer: Json = {"choices": [{"index": 0, "message": message, "finish_reason": None}]}
    for event in events_of(stream):
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


def expected_input(arguments: str) -> Json:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {RAW_ARGUMENTS: arguments}


def aggregate_events(stream: bytes) -> Json:
    """The message that a stream of Anthropic's amounts to; holds its blocks to their order."""
    first, *between, last = events_of(stream)
    message: Json = first["message"]
    content: list[Json] = message["content"]
    is_open = False
    for event in between:
        if event["type"] == "content_block_start":
            assert (is_open, event["index"]) == (False, len(content))
            is_open = True
            content.append(
                plain(event["content_block"]) | ({"input": ""} if event["content_block"]["type"] == "tool_use" else {})
            )
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
            block["input"] = expected_input(block["input"])
    return message


def plain(block: Json) -> Json:
    """A block without the members that are the same in all."""
    always = {"citations": None, "caller": {"type": "direct"}}
    return {name: value for name, value in block.items() if always.get(name, ...) != value}


def comparable(message: Json) -> Json:
    """A message with one thought, one text, and its calls in the order of their ids: in a stream they may come in pieces."""
    blocks = message.pop("content")
    texts = {name: "".join(block[name] for block in blocks if block["type"] == name) for name in ("thinking", "text")}
    calls = sorted((plain(block) for block in blocks if block["type"] == "tool_use"), key=lambda block: str(block["id"]))
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
        begin = call_chunk(index, pieces[0], id=f"call_{index}", name=draw(TEXTS))
        lanes.append([begin, *(call_chunk(index, piece) for piece in pieces[1:])])
    order = draw(st.permutations([lane for lane, pieces in enumerate(lanes) for _ in pieces]))
    finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter", "else"]))
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    used = encode_event(b"", json.dumps({"id": "chatcmpl-1", "choices": [], "usage": usage}).encode())
    turns = [iter(lane) for lane in lanes]
    return b"".join([next(turns[lane]) for lane in order]) + chunk({}, finish) + used + b"data: [DONE]\n\n"


SOURCE = {"type": "url", "url": "https://example.com/a.pdf"}
