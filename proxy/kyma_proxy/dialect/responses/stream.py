"""Translates a stream of chat completions to the events of Responses. (Contract §4.)

Every piece of a text or of a function's arguments is sent as it comes. Thoughts and the message before a call are closed when
the call begins; parallel calls stay open until the end, as some sources mix their pieces. The last event is sent with `[DONE]`,
or where the stream ends after a finish reason: usage may follow that. An error becomes `response.failed`, after which nothing
follows. A whole answer is read by the same code, so both say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kyma_proxy.dialect.answers.openai import INCOMPLETE_REASONS, usage_in
from kyma_proxy.dialect.answers.usage import updated
from kyma_proxy.dialect.anthropic_to_openai.answer import (
    MAX_CALLS,
    NO_EXTRA,
    Function,
    ToolCall,
    arguments_of,
    decode,
    text_of,
    thinking_of,
)
from kyma_proxy.dialect.anthropic_to_openai.thought_reader import ThoughtReader
from kyma_proxy.dialect.responses.chunks import ABSENT, Delta, decode_any, decode_chunk
from kyma_proxy.dialect.responses.errors import failure_object
from kyma_proxy.dialect.responses.output import CallItem, Events, TextItem
from kyma_proxy.dialect.responses.response import AnswerOptions, response_object, usage_object
from kyma_proxy.dialect.sse import COMMENT, SseEvent, SseParser
from kyma_proxy.dialect.think_tags import THOUGHT
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.translation import TranslatedAnswer

_COMMENT: Final = b": ping\n\n"
_DONE: Final = b"[DONE]"
_NULL: Final = b"null"
_MAX_NAME: Final = 1024
_MAX_BLOCKS: Final = 1024
_ENDED_EARLY: Final = "The source ended its answer early, because of an error of its own; send the request again."
_UNREADABLE: Final = "The provider sent an event that can't be read; the answer is incomplete. Send the request again."
_INCOMPLETE: Final = {
    "length": b'{"reason":"max_output_tokens"}',
    "model_length": b'{"reason":"max_output_tokens"}',
    "content_filter": b'{"reason":"content_filter"}',
}
_encode: Final = msgspec.json.encode


class ResponseStream:
    """The `StreamTranslation` of one stream. It raises nothing: an event that can't be read ends it with an error."""

    __slots__ = (
        "_calls", "_events", "_finish_reason", "_has_begun", "_is_done", "_is_over", "_items", "_last_call", "_options",
        "_parser", "_text_item", "_thoughts", "_usage", "_waiting", "document", "has_failed",
    )  # fmt: skip

    def __init__(self, options: AnswerOptions) -> None:
        self._options = options
        self._parser = SseParser(keeps_comments=True)
        self._thoughts = ThoughtReader(options.thoughts)
        self._events = Events()
        self._items: list[TextItem | CallItem] = []
        self._text_item: TextItem | None = None  # the open one
        self._calls: dict[int, CallItem] = {}
        self._waiting: CallItem | None = None  # for the end of its name
        self._usage: Mapping[str, Any] | None = None
        self._finish_reason: str | None = None
        self._has_begun = self._is_done = self._is_over = False
        self.has_failed = False
        """True if the caller was sent an error."""
        self.document = b""
        """The response, once the answer is complete."""

    @property
    def is_finished(self) -> bool:
        """True if the source has sent a finish reason or `[DONE]`."""
        return self._is_done

    def feed(self, piece: bytes) -> bytes:
        """Return the events that this piece of the source's stream completes."""
        if self._is_over:
            return b""
        try:
            for event in self._parser.feed(piece):
                self._read_event(event)
        except ValueError:
            self._fail({"message": _UNREADABLE})
        return self._events.take()

    def flush(self) -> bytes:
        """Return the last events when the source's stream has ended; a stream that was cut gets no end."""
        try:
            for event in self._parser.flush():
                self._read_event(event)
        except ValueError:
            self._is_over = True  # the last event was cut, and so the stream
            self._is_done = False
        if self._is_done and not self._is_over:
            self._end()
        return self._events.take()

    def _read_event(self, event: SseEvent) -> None:
        """Translate one event. Raises ValueError if it can't be read."""
        name, data = event
        if self._is_over or (not data and name != COMMENT):
            return
        if name == COMMENT:
            self._events.out.append(_COMMENT)
        elif data == _DONE:
            self._is_done = True
            self._end()
        elif name == b"error":
            self._fail(decode(decode_any, data))
        else:
            self._read_chunk(data)

    def _read_chunk(self, data: bytes) -> None:
        chunk = decode(decode_chunk, data)
        if (chunk.error is not ABSENT and bytes(chunk.error) != _NULL) or chunk.object == "error":
            document = decode(decode_any, data)
            self._fail(document.get("error") or document)
            return
        if chunk.x_groq is not ABSENT or (chunk.usage is not ABSENT and bytes(chunk.usage) != _NULL):
            self._note_usage(usage_in(chunk.usage, chunk.x_groq))
        for choice in chunk.choices or ():
            if choice.index:
                continue
            if not self._has_begun:
                self._begin()
            if choice.usage is not ABSENT and self._usage is None:
                self._note_usage(usage_in(choice.usage))
            if choice.delta is not None:
                self._add(choice.delta)
            if choice.finish_reason in INCOMPLETE_REASONS:
                self._fail({"message": _ENDED_EARLY})
                return
            if choice.finish_reason:
                self._finish_reason = choice.finish_reason
                self._is_done = True

    def _note_usage(self, usage: Mapping[str, Any] | None) -> None:
        if usage is not None:
            self._usage = updated(self._usage, usage)

    def _begin(self) -> None:
        self._has_begun = True
        response = b'"response":' + response_object(self._options, "in_progress", [])
        self._events.write(b"response.created", response)
        self._events.write(b"response.in_progress", response)

    # ---- content

    def _add(self, delta: Delta) -> None:
        thinking, text = thinking_of(delta), text_of(delta)
        parts = [(THOUGHT, thinking)] if thinking else []
        if delta.reasoning_details is not None or self._thoughts.has_tags:
            parts = self._thoughts.read(thinking, text, delta.reasoning_details)
            text = ""
        self._add_parts(parts)
        if delta.thinking_blocks:
            item = self._opened("reasoning")
            item.blocks += [{name: block[name] for name in block if name != "index"} for block in delta.thinking_blocks]
            if len(item.blocks) > _MAX_BLOCKS:
                raise ValueError("the thoughts have too many blocks")
            self._events.keep(delta.thinking_blocks[0].get("signature") or "")
        if text:
            self._add_text("message", "output_text", text)
        if self._thoughts.has_tags and (delta.refusal or delta.calls):
            self._add_parts(self._thoughts.flush())
        if delta.refusal:
            self._add_text("message", "refusal", delta.refusal)
        if delta.tool_calls or delta.function_call is not None:
            for call in delta.calls:
                self._add_call(call)

    def _add_parts(self, parts: list[tuple[str, str]]) -> None:
        for kind, text in parts:
            if kind == THOUGHT:
                self._add_text("reasoning", "summary_text" if self._options.summarises else "reasoning_text", text)
            else:
                self._add_text("message", "output_text", text)

    def _add_text(self, kind: str, part: str, text: str) -> None:
        item = self._text_item
        if item is None or item.kind != kind or self._waiting is not None:
            item = self._opened(kind)
        item.add(part, text)

    def _opened(self, kind: str) -> TextItem:
        """Return the open item of this kind, which is opened if it is not."""
        self._open_waiting()
        item = self._text_item
        if item is None or item.kind != kind:
            self._close_text()
            item = self._text_item = TextItem(self._events, self._options, len(self._items), kind)
            self._items.append(item)
        return item

    def _close_text(self) -> None:
        item, self._text_item = self._text_item, None
        if item is not None:
            self._sign(item)
            item.close()

    def _sign(self, item: TextItem) -> None:
        """Keep with thoughts what their source wants back, if the caller keeps them; else it waits for the next call."""
        if item.kind == "reasoning" and self._options.includes_thoughts:
            signature = self._thoughts.signature(item.length)
            item.signature = "" if signature == UNSIGNED else signature

    def _add_call(self, call: ToolCall) -> None:
        function = call.function or Function()
        item = self._call_of(call, function)
        if call.extra_content is not NO_EXTRA:
            item.extra = call.extra_content
        if function.name and (not item.name or not (item.is_named or item.name == function.name)):
            if len(item.name) + len(function.name) > _MAX_NAME:
                raise ValueError("the name of a tool call is too long")
            item.name += function.name  # some sources repeat the name in every event
        arguments = arguments_of(function)
        if arguments:
            if not item.is_open:
                self._open_waiting()
                if not item.is_open:
                    raise ValueError("a tool call has no name")
            item.add(arguments)

    def _call_of(self, call: ToolCall, function: Function) -> CallItem:
        """Return the item of a call: that with its index, or the last. Another id with a name starts a new call.

        Some sources give all calls the same index, or none.
        """
        calls = self._calls
        index = next(reversed(calls), 0) if call.index is None else call.index
        item = calls.get(index)
        if item is not None and item.name and function.name:
            is_another = call.id != item.call_id if call.id else call.index is None
            if is_another:
                item = None
        if item is None:
            self._open_waiting()
            self._close_text()
            count = len(self._items)
            if count >= MAX_CALLS:
                raise ValueError("the stream has too many tool calls")
            call_id = call.id or f"call_{self._options.response_id.removeprefix('resp_')}_{count}"
            item = calls[index] = self._waiting = CallItem(self._events, self._options, call_id)
        return item

    def _open_waiting(self) -> None:
        """Open the call whose name is complete now. One without a name is left out."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.name:
            waiting.shown_id = self._thoughts.packed_call(waiting.call_id, waiting.extra) or waiting.call_id
            waiting.open(len(self._items))
            self._items.append(waiting)

    # ---- the end

    def _end(self) -> None:
        """Write the end of a complete answer, with its usage if that was reported."""
        self._is_over = True
        if not self._has_begun:
            self._begin()
        self._add_parts(self._thoughts.flush())
        self._open_waiting()
        incomplete = _INCOMPLETE.get(self._finish_reason or "")
        status = "completed" if incomplete is None else "incomplete"
        for item in self._items:
            if not item.encoded:
                if isinstance(item, TextItem):
                    self._sign(item)
                item.close(status)
        response = self.document = response_object(
            self._options, status, [item.encoded for item in self._items], usage=usage_object(self._usage),
            incomplete=incomplete or _NULL,
        )  # fmt: skip
        self._events.write(b"response." + status.encode(), b'"response":' + response)

    def _fail(self, error: object) -> None:
        """Write the event of a failed answer, which stays incomplete."""
        self._is_over = self.has_failed = True
        self._is_done = False
        output = [item.encoded for item in self._items if item.encoded]
        response = response_object(
            self._options, "failed", output, usage=usage_object(self._usage), error=failure_object(error)
        )  # fmt: skip
        self._events.write(b"response.failed", b'"response":' + response)


class ResponseAggregation:
    """The `Aggregation` of a stream that becomes one response."""

    __slots__ = ("_stream",)

    def __init__(self, options: AnswerOptions) -> None:
        self._stream = ResponseStream(options)

    def feed(self, piece: bytes) -> None:
        """Take a piece of the source's stream."""
        self._stream.feed(piece)

    def finish(self) -> TranslatedAnswer:
        """Return the response. Raises ValueError if the stream is incomplete or ended with an error."""
        stream = self._stream
        stream.flush()
        if not stream.is_finished:
            raise ValueError("the stream is incomplete")
        return TranslatedAnswer(200, stream.document)
