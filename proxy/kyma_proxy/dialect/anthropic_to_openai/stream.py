"""Translates a stream of OpenAI to Anthropic's dialect, event by event. (Contract §4.)

Anthropic's blocks are sequential, while OpenAI's tool calls may be interleaved. One block is open at a time and streams. It is
closed for the next block as soon as possible: text or thinking at once, a call when its arguments are a complete JSON value.
Until then, deltas of other blocks are held. So sequential calls, which nearly all are, are never held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.answers.openai import INCOMPLETE_REASONS, usage_in
from kyma_proxy.dialect.answers.usage import updated
from kyma_proxy.dialect.anthropic_to_openai.answer import (
    CALLER,
    MAX_CALLS,
    NO_EXTRA,
    Delta,
    Function,
    ToolCall,
    arguments_of,
    decode,
    make_message_id,
    make_tool_id,
    message_object,
    stop_reason,
    text_of,
    thinking_of,
    usage_at_end,
)
from kyma_proxy.dialect.anthropic_to_openai.block import TEXT, THINKING, TOOL, Block
from kyma_proxy.dialect.anthropic_to_openai.errors import error_body
from kyma_proxy.dialect.anthropic_to_openai.thought_reader import ThoughtReader
from kyma_proxy.dialect.source_errors import SourceError, error_in_stream, unreadable
from kyma_proxy.dialect.sse import COMMENT, SseEvent, SseParser, encode_event
from kyma_proxy.dialect.think_tags import THOUGHT
from kyma_proxy.dialect.tool_ids import encode_tool_id
from kyma_proxy.dialect.tool_names import NO_NAMES
from kyma_proxy.dialect.translation import NO_RULES, ThoughtRules

_encode: Final = msgspec.json.encode
_UNREADABLE: Final = unreadable("The source sent an event that can't be read; send the request again.")
_ENDED_EARLY: Final = unreadable("The source ended its answer early; send the request again.")
_DONE: Final = b"[DONE]"
_NULL: Final = b"null"
_ABSENT: Final = Raw(_NULL)
"""The value of a member that is not there: to tell it by its identity costs next to nothing."""
_PING: Final = encode_event(b"ping", b'{"type":"ping"}')
_COMMENT: Final = b":\n\n"
_STOP: Final = encode_event(b"message_stop", b'{"type":"message_stop"}')
_EMPTY_BLOCKS: Final = {
    TEXT: b'{"type":"text","text":"","citations":null}', THINKING: b'{"type":"thinking","thinking":"","signature":""}',
}  # fmt: skip
_DELTA_PREFIX: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b:'
_DELTA: Final = {
    TEXT: b'"text_delta","text"',
    THINKING: b'"thinking_delta","thinking"',
    TOOL: b'"input_json_delta","partial_json"',
}
_SIGNATURE: Final = b'{"type":"content_block_delta","index":%d,"delta":{"type":"signature_delta","signature":%b}}'
_MAX_HELD: Final = 8 * 1024 * 1024
_MAX_NAME: Final = 1024
_PIECE_WEIGHT: Final = 64
"""A piece of text that is held takes so many bytes of memory more than it has."""


class _Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    index: int | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    usage: Raw = _ABSENT


class _Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    object: str | None = None
    created: Any = None
    choices: list[_Choice] | None = None
    usage: Raw = _ABSENT
    x_groq: Raw = _ABSENT
    error: Raw = _ABSENT


_chunk: Final = msgspec.json.Decoder(_Chunk).decode
_decode_any: Final = msgspec.json.Decoder().decode


class MessageStream:
    """The `StreamTranslation` of one stream, given the request's stop sequences and the caller's names of tools.

    Its errors carry the `request_id`, unless that is "". It raises nothing: an event that can't be read ends the stream with an
    error event.
    """

    __slots__ = (
        "_call_count", "_calls", "_delta_prefix", "_finish_reason", "_has_refusal", "_held_bytes", "_index", "_is_done",
        "_is_over", "_message_id", "_open", "_parser", "_public_model", "_queue", "_request_id", "_stop_sequence",
        "_stop_sequences", "_thoughts", "_tool_names", "_usage", "has_failed",
    )  # fmt: skip

    def __init__(
        self, public_model: str, stop_sequences: frozenset[str], request_id: str = "", thoughts: ThoughtRules = NO_RULES,
        tool_names: Mapping[str, str] = NO_NAMES,
    ) -> None:  # fmt: skip
        self._public_model = public_model
        self._tool_names = tool_names
        self._request_id = request_id
        self._stop_sequences = stop_sequences
        self._thoughts = ThoughtReader(thoughts)
        self._parser = SseParser(keeps_comments=True)
        self._usage: Mapping[str, Any] | None = None
        self._message_id = ""
        self._finish_reason: str | None = None
        self._stop_sequence: object = None
        self._has_refusal = False
        self._is_done = self._is_over = False
        self.has_failed = False
        """True if the caller was sent an error."""
        self._index = -1
        self._delta_prefix = b""
        self._open: Block | None = None
        self._queue: deque[Block] = deque()
        self._calls: dict[int, Block] = {}
        self._call_count = 0
        self._held_bytes = 0  # of deltas that wait for another block

    @property
    def is_finished(self) -> bool:
        """True if the source has sent a finish reason or `[DONE]`."""
        return self._is_done

    def feed(self, piece: bytes) -> bytes:
        """Return the events that this piece of the source's stream completes."""
        if self._is_over:
            return b""
        out: list[bytes] = []
        try:
            for event in self._parser.feed(piece):
                self._read_event(out, event)
        except ValueError:
            self._write_error(out, _UNREADABLE)
        return b"".join(out)

    def flush(self) -> bytes:
        """Return the last events when the source's stream has ended; a stream that was cut gets no end."""
        out: list[bytes] = []
        try:
            for event in self._parser.flush():
                self._read_event(out, event)
        except ValueError:
            self._is_over = True  # the last event was cut, and so the stream
            self._is_done = False
        if self._is_done and not self._is_over:
            self._write_end(out)
        return b"".join(out)

    def _read_event(self, out: list[bytes], event: SseEvent) -> None:
        """Translate one event. Raises ValueError if it can't be read."""
        name, data = event
        if self._is_over or (not data and name != COMMENT):
            return
        if name == COMMENT:
            out.append(_PING if self._message_id else _COMMENT)
        elif data == _DONE:
            self._is_done = True
            self._write_end(out)
        elif name == b"error":
            self._write_error(out, error_in_stream(decode(_decode_any, data)))
        else:
            self._chunk(out, data)

    def _chunk(self, out: list[bytes], data: bytes) -> None:
        chunk = decode(_chunk, data)
        if (chunk.error is not _ABSENT and bytes(chunk.error) != _NULL) or chunk.object == "error":
            document = decode(_decode_any, data)
            self._write_error(out, error_in_stream(document.get("error") or document))
            return
        usage = None
        if chunk.x_groq is not _ABSENT or (chunk.usage is not _ABSENT and bytes(chunk.usage) != _NULL):
            usage = usage_in(chunk.usage, chunk.x_groq)
            self._note_usage(usage)
        if not self._message_id and (chunk.id or chunk.choices):
            self._write_start(out, make_message_id(chunk.id, chunk.created))
        for choice in chunk.choices or ():
            if choice.index:
                continue
            if choice.usage is not _ABSENT and usage is None:
                self._note_usage(usage_in(choice.usage))
            if choice.delta is not None:
                self._add_delta(out, choice.delta)
            if choice.finish_reason in INCOMPLETE_REASONS:
                self._write_error(out, _ENDED_EARLY)
                return
            if choice.finish_reason:
                self._finish_reason = choice.finish_reason
                self._stop_sequence = choice.stop_reason
                self._is_done = True
                self._close_all(out)

    def _note_usage(self, usage: Mapping[str, Any] | None) -> None:
        if usage is not None:
            self._usage = updated(self._usage, usage)

    def _add_delta(self, out: list[bytes], delta: Delta) -> None:
        thinking, text = thinking_of(delta), text_of(delta)
        if delta.reasoning_details is not None or self._thoughts.has_tags:
            self._add_parts(out, self._thoughts.read(thinking, text, delta.reasoning_details))
        else:
            if thinking:
                self._add_text(out, THINKING, thinking)
            if text:
                self._add_text(out, TEXT, text)
        if self._thoughts.has_tags and (delta.refusal or delta.calls):
            self._add_parts(out, self._thoughts.flush())
        if delta.refusal:
            self._has_refusal = True
            self._add_text(out, TEXT, delta.refusal)
        for call in delta.calls:
            self._add_call(out, call)

    def _add_parts(self, out: list[bytes], parts: list[tuple[str, str]]) -> None:
        for kind, text in parts:
            self._add_text(out, THINKING if kind == THOUGHT else TEXT, text)

    def _add_text(self, out: list[bytes], block_type: str, text: str) -> None:
        block = self._queue[-1] if self._queue else self._open
        if block is None or block.type != block_type:
            block = Block(block_type)
            self._enqueue(block)
            self._open_ready(out)
        block.length += len(text)
        self._write_delta(out, block, text)

    def _add_call(self, out: list[bytes], call: ToolCall) -> None:
        function = call.function or Function()
        block = self._block_of(call, function)
        if call.extra_content is not NO_EXTRA:
            block.extra = call.extra_content
        if function.name and (not block.name or not (block.is_name_complete or block.name == function.name)):
            if len(block.name) + len(function.name) > _MAX_NAME:
                raise ValueError("the name of a tool call is too long")
            block.name += function.name  # some sources repeat the name in every event
        arguments = arguments_of(function)
        if arguments and not block.is_closed:  # a closed block had a complete value; what follows that is noise
            block.is_name_complete = True
            block.scan(arguments)
            self._write_delta(out, block, arguments)
        if self._queue:
            self._open_ready(out)

    def _block_of(self, call: ToolCall, function: Function) -> Block:
        """Return the block of a call: that with its index, or the last. Another id with a name starts a new call.

        Some sources give all calls the same index, or none; a new call under the same index completes the one before.
        """
        calls = self._calls
        index = next(reversed(calls), 0) if call.index is None else call.index
        block = calls.get(index)
        if block is not None and block.name and function.name:
            is_another = call.id != block.id if call.id else call.index is None
            if is_another:
                block.is_complete = True
                block = None
        if block is None:
            if self._call_count >= MAX_CALLS:
                raise ValueError("the stream has too many tool calls")
            block = calls[index] = Block(TOOL, call.id or make_tool_id(self._message_id, self._call_count))
            self._call_count += 1
            self._enqueue(block)
        return block

    def _enqueue(self, block: Block) -> None:
        """Queue a new block. The name of a queued call before it is now complete."""
        if self._queue:
            self._queue[-1].is_name_complete = True
        self._queue.append(block)

    def _write_delta(self, out: list[bytes], block: Block, text: str) -> None:
        if block is self._open:
            out.append(b"%b%b}}\n\n" % (self._delta_prefix, _encode(text)))
        else:
            self._held_bytes += len(text) + _PIECE_WEIGHT
            if self._held_bytes > _MAX_HELD:
                raise ValueError("too much waits for the end of a tool call")
            block.held.append(text)

    def _open_ready(self, out: list[bytes]) -> None:
        """Open the queued blocks as far as possible."""
        while self._queue and self._queue[0].can_open and (self._open is None or self._open.is_complete):
            self._open_next(out)

    def _close_all(self, out: list[bytes]) -> None:
        """Open and close all queued blocks, as no more deltas will come."""
        self._add_parts(out, self._thoughts.flush())
        while self._queue:
            self._open_next(out)
        self._close_open(out)

    def _open_next(self, out: list[bytes]) -> None:
        """Close the open block, and open the next."""
        self._close_open(out)
        block = self._open = self._queue.popleft()
        self._index += 1
        if block.type == TOOL:
            use_id = self._thoughts.packed_call(block.id, block.extra) or encode_tool_id(block.id)
            name = self._tool_names.get(block.name, block.name)
            content = _encode({"type": TOOL, "id": use_id, "caller": CALLER, "name": name, "input": {}})
        else:
            content = _EMPTY_BLOCKS[block.type]
        start = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (self._index, content)
        out.append(encode_event(b"content_block_start", start))
        self._delta_prefix = _DELTA_PREFIX % (self._index, _DELTA[block.type])
        if block.held:
            self._write_delta(out, block, "".join(block.held))
            block.held = []

    def _close_open(self, out: list[bytes]) -> None:
        block, self._open = self._open, None
        if block is not None:
            block.is_closed = True
            if block.type == THINKING:
                signature = _encode(self._thoughts.signature(block.length))
                out.append(encode_event(b"content_block_delta", _SIGNATURE % (self._index, signature)))
            out.append(encode_event(b"content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index))

    def _write_start(self, out: list[bytes], message_id: str) -> None:
        self._message_id = message_id
        message = message_object(message_id, self._public_model, self._usage, [])
        out.append(encode_event(b"message_start", _encode({"type": "message_start", "message": message})))

    def _write_end(self, out: list[bytes]) -> None:
        """Write the end of a complete answer, with its usage if that was reported."""
        self._is_over = True
        if not self._message_id:
            self._write_start(out, make_message_id(None, None))
        self._close_all(out)
        reason, sequence = stop_reason(
            self._finish_reason, self._stop_sequence, self._stop_sequences,
            has_calls=self._call_count > 0, has_refusal=self._has_refusal,
        )  # fmt: skip
        delta = {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None, "container": None}
        event = {"type": "message_delta", "delta": delta, "usage": usage_at_end(self._usage)}
        out.append(encode_event(b"message_delta", _encode(event)))
        out.append(_STOP)

    def _write_error(self, out: list[bytes], error: SourceError) -> None:
        """Write an error event, after which the answer stays incomplete."""
        self._is_over = self.has_failed = True
        self._is_done = False
        out.append(encode_event(b"error", error_body(error, self._request_id)))
