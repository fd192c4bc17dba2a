"""Translates a stream of Anthropic to OpenAI's dialect, event by event. (Contract §4.)

Text, thinking and arguments are sent as they arrive. A thinking block that a later request must repeat is sent again, whole, at
its end. A ping becomes a comment: during long thinking nothing else keeps the connection alive.

`[DONE]` is sent for `message_stop` only. An error, or an event that can't be read (its content is lost), becomes an error for
the caller, and nothing follows it: such a stream is not finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from kyma_proxy.dialect.answers.anthropic import usage_in, without_output
from kyma_proxy.dialect.answers.usage import repaired, updated
from kyma_proxy.dialect.json_mode import Unfencing
from kyma_proxy.dialect.openai_to_anthropic.answer import (
    AnswerOptions,
    ContentBlock,
    StopDetails,
    arguments_of,
    completion_id,
    finish_reason,
    read_block,
    thinking_block_of,
    usage_object,
)
from kyma_proxy.dialect.openai_to_anthropic.errors import error_object
from kyma_proxy.dialect.source_errors import SourceError, decoded, error_in_stream, unreadable
from kyma_proxy.dialect.sse import SseEvent, SseParser

_PING: Final = b": ping\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_CALL: Final = b'"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":""}}]'
_UNREADABLE_EVENT: Final = unreadable(
    "The provider sent an event that can't be read; the answer is incomplete. Send the request again."
)
_NULL: Final = msgspec.Raw(b"null")
_MAX_OPEN_BLOCKS: Final = 1024
_MAX_THINKING_BYTES: Final = 8 * 1024 * 1024
_PIECE_WEIGHT: Final = 64
"""A piece of thinking that is kept takes so many bytes of memory more than it has."""
_DELTAS: Final = frozenset({"text_delta", "thinking_delta", "signature_delta", "input_json_delta"})
_encode: Final = msgspec.json.encode


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class _MessageStart(msgspec.Struct, gc=False):
    id: str = ""
    usage: msgspec.Raw = _NULL


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: msgspec.Raw = _NULL
    message: _MessageStart | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _TypeMember(msgspec.Struct, gc=False):
    type: str = ""
    delta: msgspec.Raw = _NULL


_event: Final = msgspec.json.Decoder(_Event).decode
_type_member: Final = msgspec.json.Decoder(_TypeMember).decode
_NO_DELTA: Final = _Delta()
_BEFORE_CONTENT: Final = ("message_start", "ping")


class _Call:
    """A tool call whose arguments are streaming; each piece is written between `prefix` and `suffix`."""

    __slots__ = ("arguments", "prefix", "suffix")

    def __init__(self, prefix: bytes, suffix: bytes, arguments: str) -> None:
        self.prefix = prefix
        self.suffix = suffix
        self.arguments: str | None = arguments
        """The arguments of the block's start, used if no delta follows; None after the first delta."""


class _Thinking:
    """A thinking block that is streaming."""

    __slots__ = ("signature", "texts")

    def __init__(self, block: ContentBlock) -> None:
        self.texts = [block.thinking]
        self.signature = [block.signature or ""]


class ChunkStream:
    """The `StreamTranslation` of one stream."""

    __slots__ = (
        "_call_count",
        "_calls",
        "_chunk_end",
        "_chunk_start",
        "_content_start",
        "_delta_start",
        "_has_finished",
        "_has_started",
        "_is_over",
        "_options",
        "_parser",
        "_reasoning_start",
        "_skipped",
        "_thinking",
        "_thinking_bytes",
        "_thinking_count",
        "_unfencing",
        "_usage",
        "is_finished",
    )  # fmt: skip

    def __init__(self, options: AnswerOptions) -> None:
        self._options = options
        self._unfencing = Unfencing() if options.is_unfenced else None
        self._parser = SseParser()
        self._calls: dict[int, _Call] = {}
        self._thinking: dict[int, _Thinking] = {}
        self._skipped: set[int] = set()  # the open blocks that are dropped, with their deltas
        self._call_count = 0
        self._thinking_count = 0
        self._thinking_bytes = 0
        self._usage: Mapping[str, Any] | None = None
        self._has_started = self._has_finished = self._is_over = False
        self.is_finished = False
        self._chunk_end = b',"usage":null}\n\n' if options.wants_usage else b"}\n\n"
        self._set_id("")

    def _set_id(self, completion_id: str) -> None:
        """Prepare the bytes with which all chunks of this answer begin."""
        members = (_encode(completion_id), self._options.created, _encode(self._options.model))
        self._chunk_start = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % members
        self._delta_start = self._chunk_start + b'{"index":0,"delta":{'
        self._content_start = self._delta_start + b'"content":'
        self._reasoning_start = self._delta_start + b'"reasoning_content":'

    @property
    def has_failed(self) -> bool:
        """True if the caller was sent an error."""
        return self._is_over and not self.is_finished

    def feed(self, piece: bytes) -> bytes:
        """Return the chunks that this piece of the source's stream completes."""
        if self._is_over:
            return b""
        try:
            events = self._parser.feed(piece)
        except ValueError:  # an event is too long
            return self._error_chunk(_UNREADABLE_EVENT)
        if len(events) == 1:
            return self._read_event(events[0])
        return b"".join([self._read_event(event) for event in events])

    def flush(self) -> bytes:
        """Return the chunks of a last event without its blank line; none if the event was cut off."""
        if self._is_over:
            return b""
        try:
            events = self._parser.flush()
        except ValueError:
            return self._error_chunk(_UNREADABLE_EVENT)
        return b"".join([self._read_event(event, is_cut=True) for event in events])

    def _read_event(self, sse_event: SseEvent, *, is_cut: bool = False) -> bytes:
        name, data = sse_event
        if self._is_over:
            return b""
        if name == b"error" and not is_cut:
            return self._error_chunk(error_in_stream(decoded(data)))
        try:
            event = _event(data)
            if event.type == "error" or bytes(event.error) != b"null":
                return self._error_chunk(error_in_stream(decoded(data)))
            handle = _HANDLERS.get(event.type)
            if handle is None:
                return b""
            if not self._has_started and event.type not in _BEFORE_CONTENT:
                return self._first_chunk("") + handle(self, event)
            return handle(self, event)
        except (ValueError, RecursionError) as error:
            better = None if isinstance(error, UnicodeError) else repaired(data)
            if better is not None:
                return self._read_event(SseEvent(name, better), is_cut=is_cut)
            if is_cut or _is_skipped(data):
                return b""
            return self._error_chunk(_UNREADABLE_EVENT)

    def _chunk(self, delta: bytes, finish_reason_json: bytes = b"null") -> bytes:
        return b'%b%b},"finish_reason":%b}]%b' % (self._delta_start, delta, finish_reason_json, self._chunk_end)

    def _on_delta(self, event: _Event) -> bytes:
        delta = event.delta or _NO_DELTA
        delta_type = delta.type
        if self._skipped and event.index in self._skipped:
            return b""
        if delta_type == "text_delta":
            text = delta.text if self._unfencing is None else self._unfencing.feed(delta.text)
            return self._text_chunk(self._content_start, text)
        if delta_type == "input_json_delta":
            return self._arguments_chunk(event.index, delta.partial_json)
        if delta_type == "thinking_delta":
            thinking = self._thinking.get(event.index)
            if thinking is not None:
                self._count_thinking(delta.thinking)
                thinking.texts.append(delta.thinking)
            return self._text_chunk(self._reasoning_start, delta.thinking)
        if delta_type == "signature_delta" and (thinking := self._thinking.get(event.index)) is not None:
            self._count_thinking(delta.signature)
            thinking.signature.append(delta.signature)
        return b""

    def _count_thinking(self, text: str) -> None:
        self._thinking_bytes += len(text) + _PIECE_WEIGHT
        if self._thinking_bytes > _MAX_THINKING_BYTES:
            raise ValueError("the thinking is too long")

    def _text_chunk(self, prefix: bytes, text: str) -> bytes:
        return b'%b%b},"finish_reason":null}]%b' % (prefix, _encode(text), self._chunk_end) if text else b""

    def _arguments_chunk(self, index: int, piece: str) -> bytes:
        call = self._calls.get(index)
        if call is None or not piece:
            return b""
        call.arguments = None
        return b'%b%b%b},"finish_reason":null}]%b' % (call.prefix, _encode(piece), call.suffix, self._chunk_end)

    def _on_block_start(self, event: _Event) -> bytes:
        if len(self._calls) + len(self._thinking) + len(self._skipped) > _MAX_OPEN_BLOCKS:
            raise ValueError("too many blocks have no end")
        block = read_block(event.content_block)
        if block is None:
            self._skipped.add(event.index)
            return b""
        if block.type == "tool_use":
            return self._start_call(event.index, block)
        if block.type == "thinking":
            self._thinking[event.index] = _Thinking(block)
            return self._text_chunk(self._reasoning_start, block.thinking)
        if block.type == "redacted_thinking":
            return self._thinking_chunk(block)
        text = block.text if self._unfencing is None else self._unfencing.feed(block.text)
        return self._text_chunk(self._content_start, text)

    def _start_call(self, index: int, block: ContentBlock) -> bytes:
        call_index = self._call_count
        self._call_count += 1
        name = _encode(self._options.tool_names.get(block.name, block.name))
        arguments = arguments_of(block)
        if self._options.is_legacy:
            if call_index:
                return b""  # `function_call` holds one call only
            self._calls[index] = _Call(self._delta_start + b'"function_call":{"arguments":', b"}", arguments)
            return self._chunk(b'"function_call":{"name":%b,"arguments":""}' % name)
        prefix = b'%b"tool_calls":[{"index":%d,"function":{"arguments":' % (self._delta_start, call_index)
        self._calls[index] = _Call(prefix, b"}}]", arguments)
        return self._chunk(_CALL % (call_index, _encode(block.id), name))

    def _on_block_stop(self, event: _Event) -> bytes:
        self._skipped.discard(event.index)
        return self._end_block(event.index)

    def _on_ping(self, event: _Event) -> bytes:
        return _PING

    def _end_block(self, index: int) -> bytes:
        """End a block. Return the arguments of a call that had no delta, or the thinking block to repeat."""
        call = self._calls.get(index)
        if call is not None:
            arguments = call.arguments
            out = b"" if arguments is None else self._arguments_chunk(index, arguments)
            del self._calls[index]
            return out
        thinking = self._thinking.pop(index, None)
        if thinking is None:
            return b""
        signature = "".join(thinking.signature)
        return self._thinking_chunk(ContentBlock("thinking", thinking="".join(thinking.texts), signature=signature))

    def _thinking_chunk(self, block: ContentBlock) -> bytes:
        repeated = thinking_block_of(block)
        if repeated is None:
            return b""
        encoded = _encode({"index": self._thinking_count, **repeated})  # OpenAI's SDK can't accumulate blocks without an index
        self._thinking_count += 1
        return self._chunk(b'"thinking_blocks":[%b]' % encoded)

    def _on_message_start(self, event: _Event) -> bytes:
        if event.message is None:
            return b""
        self._note_usage(without_output(usage_in(event.message.usage) or {}))
        return b"" if self._has_started else self._first_chunk(event.message.id)

    def _note_usage(self, usage: Mapping[str, Any] | None) -> None:
        if usage:
            self._usage = updated(self._usage, usage)

    def _first_chunk(self, message_id: str) -> bytes:
        """Return the first chunk, which has the role. It is also sent if a source leaves out `message_start`."""
        self._has_started = True
        self._set_id(completion_id(message_id, self._options))
        return self._chunk(b'"role":"assistant","content":""')

    def _on_message_delta(self, event: _Event) -> bytes:
        self._note_usage(usage_in(event.usage))
        delta = event.delta or _NO_DELTA
        return b"" if delta.stop_reason is None else self._finish_chunk(delta)

    def _finish_chunk(self, delta: _Delta) -> bytes:
        """Return the chunk with the finish reason, after what is left of blocks without an end."""
        if self._has_finished:
            return b""
        self._has_finished = True
        out = [self._end_block(index) for index in sorted({*self._calls, *self._thinking})]
        if self._unfencing is not None:
            out.append(self._text_chunk(self._content_start, self._unfencing.flush()))
        refusal = b""
        if delta.stop_reason == "refusal" and delta.stop_details is not None and delta.stop_details.explanation:
            refusal = b'"refusal":' + _encode(delta.stop_details.explanation)
        out.append(self._chunk(refusal, _encode(finish_reason(delta.stop_reason, self._options))))
        return b"".join(out)

    def _on_message_stop(self, event: _Event) -> bytes:
        out = self._finish_chunk(_NO_DELTA)
        usage = usage_object(self._usage) if self._options.wants_usage else None
        if usage is not None:
            out += b'%b],"usage":%b}\n\n' % (self._chunk_start, _encode(usage))
        self._is_over = self.is_finished = True
        return out + _DONE

    def _error_chunk(self, error: SourceError) -> bytes:
        self._is_over = True
        return b'data: {"error":%b}\n\n' % _encode(error_object(error))


_HANDLERS: Final[dict[str, Callable[[ChunkStream, _Event], bytes]]] = {
    "content_block_delta": ChunkStream._on_delta,
    "content_block_start": ChunkStream._on_block_start,
    "content_block_stop": ChunkStream._on_block_stop,
    "message_delta": ChunkStream._on_message_delta,
    "message_start": ChunkStream._on_message_start,
    "message_stop": ChunkStream._on_message_stop,
    "ping": ChunkStream._on_ping,
}


def _is_skipped(data: bytes) -> bool:
    """True if a malformed event is of a type that would be skipped anyway, or is OpenAI's `[DONE]`."""
    try:
        event = _type_member(data)
        if event.type == "content_block_delta":
            return _type_member(event.delta).type not in _DELTAS
    except (ValueError, RecursionError):
        return data.strip() in (b"", b"[DONE]")
    return event.type not in _HANDLERS
