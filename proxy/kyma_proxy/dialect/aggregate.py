"""Aggregates a source's stream into one answer, while it comes, for a caller who did not ask for a stream. (Contract §4.)

The translated events were written by the gateway's own translations, so they are known to be well formed and not validated.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from kyma_proxy.dialect.encoding import encode_json
from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.dialect.tool_arguments import input_of
from kyma_proxy.dialect.translation import StreamTranslation, TranslatedAnswer

_DELTA_MEMBERS: Final = {
    "text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature", "input_json_delta": "partial_json",
}  # fmt: skip
_TEXT_MEMBERS: Final = ("content", "reasoning_content", "refusal")
_decode: Final = msgspec.json.Decoder().decode


class Document(Protocol):
    """An answer that is being built."""

    def add(self, event: dict[str, Any]) -> None:
        """Add what an event says."""

    def encoded(self) -> bytes:
        """Return the answer, now that all events are there. Raises ValueError if it can't be encoded."""


class StreamAggregation:
    """The `Aggregation` of a stream that `stream` translates."""

    def __init__(self, stream: StreamTranslation, document: Document) -> None:
        self._stream = stream
        self._document = document
        self._parser = SseParser()

    def feed(self, piece: bytes) -> None:
        """Take a piece of the source's stream."""
        self._add(self._stream.feed(piece))

    def finish(self) -> TranslatedAnswer:
        """Return the whole answer. Raises ValueError if the stream is incomplete or ended with an error."""
        self._add(self._stream.flush())
        if not self._stream.is_finished:
            raise ValueError("the stream is incomplete")
        return TranslatedAnswer(200, self._document.encoded())

    def _add(self, events: bytes) -> None:
        if self._stream.has_failed:
            return
        for event in self._parser.feed(events):
            if event.data.startswith(b"{"):  # OpenAI's `[DONE]` does not
                self._document.add(_decode(event.data))


class MessageDocument:
    """The message that the events of a stream in Anthropic's dialect build."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._pieces: list[list[str]] = []

    def add(self, event: dict[str, Any]) -> None:
        """Add what an event says."""
        message, kind = self._message, event["type"]
        if kind == "message_start":
            self._message = event["message"]
        elif kind == "content_block_start":
            message["content"].append(event["content_block"])
            self._pieces.append([])
        elif kind == "content_block_delta":
            delta = event["delta"]
            name = _DELTA_MEMBERS[delta["type"]]
            if name == "signature":
                message["content"][-1][name] = delta[name]
            else:
                self._pieces[-1].append(delta[name])
        elif kind == "message_delta":
            message |= event["delta"] | {"usage": message["usage"] | event["usage"]}

    def encoded(self) -> bytes:
        """Return the message."""
        for block, texts in zip(self._message["content"], self._pieces, strict=True):
            text = "".join(texts)
            if block["type"] == "tool_use":
                block["input"] = input_of(text)
            else:
                block[block["type"]] += text
        return encode_json(self._message)


class CompletionDocument:
    """The `chat.completion` that the events of a stream in OpenAI's dialect build."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {name: [] for name in _TEXT_MEMBERS}
        self._calls: list[dict[str, Any]] = []
        self._arguments: list[list[str]] = []
        self._thinking_blocks: list[dict[str, Any]] = []
        self._answer: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._is_legacy = False

    def add(self, event: dict[str, Any]) -> None:
        """Add what an event says."""
        self._answer = {name: event[name] for name in ("id", "created", "model")} | {"usage": event.get("usage")}
        for choice in event["choices"]:
            delta = choice["delta"]
            for name in _TEXT_MEMBERS:
                if text := delta.get(name):
                    self._texts[name].append(text)
            self._thinking_blocks += delta.get("thinking_blocks", ())
            self._is_legacy = self._is_legacy or "function_call" in delta
            calls = [{"function": delta["function_call"]}] if "function_call" in delta else delta.get("tool_calls", ())
            for call in calls:
                function = call["function"]
                if "name" in function:
                    self._calls.append(call)
                    self._arguments.append([])
                self._arguments[call.get("index", -1)].append(function["arguments"])
            self._finish_reason = choice["finish_reason"] or self._finish_reason

    def encoded(self) -> bytes:
        """Return the completion."""
        calls, answer = self._calls, self._answer
        for call, pieces in zip(calls, self._arguments, strict=True):
            call["function"]["arguments"] = "".join(pieces)
            call.pop("index", None)
        joined = {name: "".join(pieces) or None for name, pieces in self._texts.items()}
        message: dict[str, Any] = {
            "role": "assistant", "content": joined["content"], "refusal": joined["refusal"], "annotations": [],
        }  # fmt: skip
        if joined["reasoning_content"]:
            message["reasoning_content"] = joined["reasoning_content"]
        if self._thinking_blocks:
            message["thinking_blocks"] = [
                {name: block[name] for name in block if name != "index"} for block in self._thinking_blocks
            ]
        if self._is_legacy:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        usage = answer.pop("usage")
        answer |= {"object": "chat.completion", "system_fingerprint": None}
        answer["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}]
        return encode_json(answer if usage is None else answer | {"usage": usage})
