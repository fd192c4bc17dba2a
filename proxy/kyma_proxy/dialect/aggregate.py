"""Aggregates a translated stream into one answer, for a caller who did not ask for a stream. (Contract §4.)

Its input was written by the gateway's own translations, so it is known to be well formed and is not validated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kyma_proxy.dialect.encoding import encode_json
from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.dialect.tool_arguments import input_of
from kyma_proxy.dialect.translation import StreamTranslation

_DELTA_MEMBERS: Final = {
    "text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature", "input_json_delta": "partial_json",
}  # fmt: skip
_TEXT_MEMBERS: Final = ("content", "reasoning_content", "refusal")
_decode: Final = msgspec.json.Decoder().decode


def translate_complete(stream: StreamTranslation, body: bytes) -> bytes:
    """Translate a complete stream at once. Raises ValueError if it is incomplete or ends with an error."""
    translated = stream.feed(body) + stream.flush()
    if not stream.is_finished:
        raise ValueError("the stream is incomplete")
    return translated


def aggregate_message(events: bytes) -> bytes:
    """Return the message that the events of a stream in Anthropic's dialect build. Raises ValueError if it can't be encoded."""
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
            name = _DELTA_MEMBERS[delta["type"]]
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
    return encode_json(message)


def aggregate_completion(events: bytes) -> bytes:
    """Return the `chat.completion` that the events of a stream in OpenAI's dialect build. Raises ValueError as above."""
    texts: dict[str, list[str]] = {name: [] for name in _TEXT_MEMBERS}
    calls: list[dict[str, Any]] = []
    arguments: list[list[str]] = []
    thinking_blocks: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    finish_reason: str | None = None
    is_legacy = False
    for event in _events(events):
        answer = {name: event[name] for name in ("id", "created", "model")} | {"usage": event.get("usage")}
        for choice in event["choices"]:
            delta = choice["delta"]
            for name in _TEXT_MEMBERS:
                texts[name].append(delta.get(name) or "")
            thinking_blocks += delta.get("thinking_blocks", ())
            is_legacy = is_legacy or "function_call" in delta
            tool_calls = [{"function": delta["function_call"]}] if "function_call" in delta else delta.get("tool_calls", ())
            for call in tool_calls:
                function = call["function"]
                if "name" in function:
                    calls.append(call)
                    arguments.append([])
                arguments[call.get("index", -1)].append(function["arguments"])
            finish_reason = choice["finish_reason"] or finish_reason
    for call, pieces in zip(calls, arguments, strict=True):
        call["function"]["arguments"] = "".join(pieces)
        call.pop("index", None)
    joined = {name: "".join(pieces) or None for name, pieces in texts.items()}
    message: dict[str, Any] = {"role": "assistant", "content": joined["content"], "refusal": joined["refusal"]}
    if joined["reasoning_content"]:
        message["reasoning_content"] = joined["reasoning_content"]
    if thinking_blocks:
        message["thinking_blocks"] = [{name: block[name] for name in block if name != "index"} for block in thinking_blocks]
    if is_legacy:
        message["function_call"] = calls[0]["function"]
    elif calls:
        message["tool_calls"] = calls
    usage = answer.pop("usage")
    answer["object"] = "chat.completion"
    answer["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}]
    return encode_json(answer if usage is None else answer | {"usage": usage})


def _events(stream: bytes) -> Iterator[dict[str, Any]]:
    """Yield the decoded events of a stream, without OpenAI's `[DONE]`."""
    parser = SseParser()
    for event in (*parser.feed(stream), *parser.flush()):
        if event.data.startswith(b"{"):
            yield _decode(event.data)
