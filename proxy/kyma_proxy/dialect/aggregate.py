"""This file makes a translated stream whole again, for a caller who did not ask for one. (Contract §4.)

What it reads was written by this gateway's own translations, so it need not ask whether it is well formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kyma_proxy.dialect.anthropic_to_openai.answer import input_of
from kyma_proxy.dialect.sse import Splitter

_DELTAS: Final = {
    "text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature", "input_json_delta": "partial_json",
}  # fmt: skip
_TEXTS: Final = ("content", "reasoning_content", "refusal")
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


def message_of(events: bytes) -> bytes:
    """The message that a stream in Anthropic's dialect builds."""
    message: dict[str, Any] = {}
    pieces: list[list[str]] = []
    for event in _events(events):
        kind = event["type"]
        if kind == "message_start":
            message = event["message"]
        elif kind == "content_block_start":
            message["content"].append(event["content_block"])
            pieces.append([])
        elif kind == "content_block_delta":
            delta = event["delta"]
            name = _DELTAS[delta["type"]]
            if name == "signature":
                message["content"][-1][name] = delta[name]
            else:
                pieces[-1].append(delta[name])
        elif kind == "message_delta":
            message |= event["delta"] | {"usage": message["usage"] | event["usage"]}
    for block, texts in zip(message["content"], pieces, strict=True):
        text = "".join(texts)
        if block["type"] == "tool_use":
            block["input"] = input_of(text)
        else:
            block[block["type"]] += text
    return _encode(message)


def completion_of(events: bytes) -> bytes:
    """The `chat.completion` that a stream in OpenAI's dialect builds."""
    texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
    calls: list[dict[str, Any]] = []
    arguments: list[list[str]] = []
    thoughts: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    finish: str | None = None
    is_legacy = False
    for event in _events(events):
        answer = {name: event[name] for name in ("id", "created", "model")} | {"usage": event.get("usage")}
        for choice in event["choices"]:
            delta = choice["delta"]
            for name in _TEXTS:
                texts[name].append(delta.get(name) or "")
            thoughts += delta.get("thinking_blocks", ())
            is_legacy = is_legacy or "function_call" in delta
            given = [{"function": delta["function_call"]}] if "function_call" in delta else delta.get("tool_calls", ())
            for call in given:
                function = call["function"]
                if "name" in function:
                    calls.append(call)
                    arguments.append([])
                arguments[call.get("index", -1)].append(function["arguments"])
            finish = choice["finish_reason"] or finish
    for call, written in zip(calls, arguments, strict=True):
        call["function"]["arguments"] = "".join(written)
        call.pop("index", None)
    said = {name: "".join(pieces) or None for name, pieces in texts.items()}
    message: dict[str, Any] = {"role": "assistant", "content": said["content"], "refusal": said["refusal"]}
    if said["reasoning_content"]:
        message["reasoning_content"] = said["reasoning_content"]
    if thoughts:
        message["thinking_blocks"] = [{name: one[name] for name in one if name != "index"} for one in thoughts]
    if is_legacy:
        message["function_call"] = calls[0]["function"]
    elif calls:
        message["tool_calls"] = calls
    usage = answer.pop("usage")
    answer["object"] = "chat.completion"
    answer["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
    return _encode(answer if usage is None else answer | {"usage": usage})


def _events(stream: bytes) -> Iterator[dict[str, Any]]:
    """The events of a stream, but for OpenAI's `[DONE]`."""
    splitter = Splitter()
    for event in (*splitter.feed(stream), *splitter.flush()):
        if event.data.startswith(b"{"):
            yield _decode(event.data)
