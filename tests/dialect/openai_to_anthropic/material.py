"""Translations, events and generated streams for the tests of callers who speak OpenAI over sources that speak Anthropic.

The cases in `golden/openai_to_anthropic` are written by hand: a request, an answer, a stream, and the translation of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.translation import StreamTranslation

CASES = sorted((Path(__file__).parent.parent / "golden" / "openai_to_anthropic").iterdir())
ANSWERED = [case for case in CASES if (case / "answer.json").exists()]
STREAMED = [case for case in CASES if (case / "stream.sse").exists()]
FINISHED = [case for case in STREAMED if b"[DONE]" in (case / "expected_stream.sse").read_bytes()]
CREATED = 1_700_000_000
Json = dict[str, Any]


def case_name(case: Path) -> str:
    return case.name


def load_json(case: Path, file: str) -> Json:
    document: Json = json.loads((case / file).read_bytes())
    return document


def translation_of_case(case: Path) -> OpenAIToAnthropic:
    body = (case / "request.json").read_bytes()
    model = load_json(case, "expected_request.json")["body"]["model"]
    shown = json.loads(body)["model"]
    return OpenAIToAnthropic(body, model, public_model=shown, default_max_tokens=None, created=CREATED)


def translation(model: str = "claude-sonnet-4-5", default: int | None = None, **request: Any) -> OpenAIToAnthropic:
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **request}
    return OpenAIToAnthropic(json.dumps(request).encode(), model, public_model="m", default_max_tokens=default, created=CREATED)


def translated_request(model: str = "claude-sonnet-4-5", default: int | None = None, **request: Any) -> Json:
    document: Json = json.loads(translation(model, default, **request).request.body)
    return document


def dropped_members(model: str = "claude-sonnet-4-5", **request: Any) -> tuple[str, ...]:
    return translation(model, **request).request.dropped


def user(*parts: Json) -> list[Json]:
    return [{"role": "user", "content": [*parts]}]


def event(document: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (document["type"].encode(), json.dumps(document).encode())


def translate_stream(stream: StreamTranslation, *pieces: bytes) -> bytes:
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.flush()


MESSAGE_START = event({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}}})
MESSAGE_DELTA = event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}})
MESSAGE_STOP = event({"type": "message_stop"})


def block_start(index: int, **block: Any) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def block_delta(index: int, **delta: Any) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": delta})


def block_stop(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def text_delta(words: str) -> bytes:
    return block_delta(0, type="text_delta", text=words)


def aggregate_events(source: bytes) -> Json:
    """Anthropic's events as the message that they build."""
    message: Json = {}
    blocks: dict[int, Json] = {}
    pieces: dict[int, str] = {}
    for document in events_of(source):
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


def aggregate_chunks(told: bytes) -> Json:
    """OpenAI's chunks as the completion that they build."""
    message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    calls: dict[int, Json] = {}
    answer: Json = {"system_fingerprint": None}
    for chunk in events_of(told):
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


def events_of(stream: bytes) -> Iterator[Json]:
    for line in stream.split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def comparable(answer: Json) -> Json:
    """An answer whose arguments are compared for what they say, not for their white space."""
    message = answer["choices"][0]["message"]
    for function in [call["function"] for call in message.get("tool_calls", [])] + [message.get("function_call") or {}]:
        if function:
            function["arguments"] = json.loads(function["arguments"])
    return answer


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NON_BLANK = WORDS.filter(lambda words: bool(words.strip()))
TOKENS = st.integers(0, 10**6)
ARGUMENTS = st.dictionaries(WORDS, st.integers() | WORDS | st.booleans() | st.none() | st.lists(WORDS, max_size=2), max_size=3)
STOP_REASONS = ["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream as Anthropic makes them, of any blocks in any order, the pieces of calls interleaved."""
    out, late = [MESSAGE_START], []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use"]))
        pieces = draw(st.lists(WORDS, max_size=3))
        if kind == "text":
            out += [
                block_start(index, type=kind, text=""),
                *(block_delta(index, type="text_delta", text=piece) for piece in pieces),
            ]
        elif kind == "thinking":
            out += [block_start(index, type=kind, thinking="", signature="")]
            out += [block_delta(index, type="thinking_delta", thinking=piece) for piece in pieces]
            out += [block_delta(index, type="signature_delta", signature=draw(NON_BLANK))] * draw(st.integers(0, 1))
        elif kind == "redacted_thinking":
            out += [block_start(index, type=kind, data=draw(NON_BLANK))]
        else:
            written = json.dumps(draw(ARGUMENTS))
            cut = draw(st.integers(0, len(written)))
            out += [block_start(index, type=kind, id=f"toolu_{index}", name=draw(NON_BLANK), input={})]
            out += [block_delta(index, type="input_json_delta", partial_json=written[:cut])]
            late += [block_delta(index, type="input_json_delta", partial_json=written[cut:])]
            if draw(st.booleans()):
                late += [block_stop(index)]
            continue
        out += [event({"type": "ping"}), block_stop(index)]
    details: st.SearchStrategy[Json] = st.sampled_from([{}, {"output_tokens_details": {"thinking_tokens": 2}}])
    usage = {"output_tokens": draw(TOKENS), **draw(details)}
    reason = {"stop_reason": draw(st.sampled_from(STOP_REASONS)), "stop_sequence": None}
    return b"".join([*out, *late, event({"type": "message_delta", "delta": reason, "usage": usage}), MESSAGE_STOP])
