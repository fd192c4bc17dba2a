"""This file turns a stream of Anthropic's into one of OpenAI's, event by event. (Contract §4)

Text, thinking and the arguments of tools go out as they come. A block of thinking that a later request must bring back goes out
once more, whole, when it has ended. A ping becomes a comment: during long thinking it is all that keeps a connection warm.

`[DONE]` goes out for `message_stop` and for nothing else. After an error, or an event that can't be read (what it said is
lost), the caller is told and nothing more goes out: such a stream is not finished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.dialect.openai_to_anthropic.answer import (
    ContentBlock,
    Fault,
    Shown,
    StopDetails,
    Tokens,
    arguments_of,
    block_of,
    fault_of,
    finish_reason,
    made_id,
    thinking_of,
    tokens_of,
    told_error,
    told_usage,
    usage_of,
)
from kyma_proxy.dialect.sse import Splitter, SseEvent

_PING: Final = b": ping\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_CALL: Final = b'"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":""}}]'
_UNREADABLE: Final = Fault("api_error", "The provider sent an event that can't be read; the answer is not whole. Ask again.")
_NULL: Final = msgspec.Raw(b"null")
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


class _Opening(msgspec.Struct, gc=False):
    id: str = ""
    usage: msgspec.Raw = _NULL


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: msgspec.Raw = _NULL
    message: _Opening | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Typed(msgspec.Struct, gc=False):
    type: str = ""
    delta: msgspec.Raw = _NULL


_event: Final = msgspec.json.Decoder(_Event).decode
_typed: Final = msgspec.json.Decoder(_Typed).decode
_NO_DELTA: Final = _Delta()
_BEFORE_IT_BEGINS: Final = ("message_start", "ping")


class _Call:
    """A call whose arguments are coming; `opening` and `close` are what stands around each piece of them."""

    __slots__ = ("arguments", "close", "opening")

    def __init__(self, opening: bytes, close: bytes, arguments: str) -> None:
        self.opening = opening
        self.close = close
        self.arguments: str | None = arguments
        """What they are if no piece comes; None since one has."""


class _Thinking:
    """A block of thinking that is coming."""

    __slots__ = ("signature", "texts")

    def __init__(self, block: ContentBlock) -> None:
        self.texts = [block.thinking]
        self.signature = [block.signature or ""]


class ChunkStream:
    """One stream's translation; a `StreamTranslation`."""

    __slots__ = (
        "_calls",
        "_content",
        "_delta",
        "_end",
        "_first",
        "_has_begun",
        "_has_finished",
        "_head",
        "_is_over",
        "_last",
        "_number",
        "_reasoning",
        "_shown",
        "_splitter",
        "_thinking",
        "_thoughts",
        "_unplaced",
        "is_finished",
    )  # fmt: skip

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._splitter = Splitter()
        self._calls: dict[int, _Call] = {}
        self._thinking: dict[int, _Thinking] = {}
        self._unplaced: set[int] = set()  # the blocks that are left out, with all that they hold
        self._number = 0
        self._thoughts = 0
        self._first: Tokens | None = None
        self._last: Tokens | None = None
        self._has_begun = self._has_finished = self._is_over = False
        self.is_finished = False
        self._end = b',"usage":null}\n\n' if shown.wants_usage else b"}\n\n"
        self._name("")

    def _name(self, message_id: str) -> None:
        """Make the bytes that every chunk of this answer begins with."""
        words = (_encode(message_id), self._shown.created, _encode(self._shown.model))
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % words
        self._delta = self._head + b'{"index":0,"delta":{'
        self._content = self._delta + b'"content":'
        self._reasoning = self._delta + b'"reasoning_content":'

    @property
    def usage(self) -> Usage:
        """What the source has reported so far."""
        return usage_of(self._first, self._last)

    @property
    def has_failed(self) -> bool:
        """Whether the caller has been told of an error."""
        return self._is_over and not self.is_finished

    def feed(self, piece: bytes) -> bytes:
        """The chunks that a piece of the source's stream makes ready."""
        if self._is_over:
            return b""
        try:
            events = self._splitter.feed(piece)
        except ValueError:  # one is too long to be held
            return self._break(_UNREADABLE)
        if len(events) == 1:
            return self._take(events[0])
        return b"".join([self._take(event) for event in events])

    def flush(self) -> bytes:
        """The chunks of a last event that came without its blank line. One that was cut off says nothing."""
        if self._is_over:
            return b""
        return b"".join([self._take(event, is_cut=True) for event in self._splitter.flush()])

    def _take(self, read: SseEvent, *, is_cut: bool = False) -> bytes:
        name, data = read
        if self._is_over:
            return b""
        if name == b"error" and not is_cut:
            return self._break(fault_of(data))
        try:
            event = _event(data)
            if event.type == "error" or bytes(event.error) != b"null":
                return self._break(fault_of(data))
            take = _TAKES.get(event.type)
            if take is None:
                return b""
            if not self._has_begun and event.type not in _BEFORE_IT_BEGINS:
                return self._begin(made_id(self._shown), _NULL) + take(self, event)
            return take(self, event)
        except (ValueError, RecursionError):
            if is_cut or _has_no_place(data):
                return b""
            return self._break(_UNREADABLE)

    def _chunk(self, delta: bytes, finished: bytes = b"null") -> bytes:
        return b'%b%b},"finish_reason":%b}]%b' % (self._delta, delta, finished, self._end)

    def _take_delta(self, event: _Event) -> bytes:
        delta = event.delta or _NO_DELTA
        kind = delta.type
        if self._unplaced and event.index in self._unplaced:
            return b""
        if kind == "text_delta":
            return self._text(self._content, delta.text)
        if kind == "input_json_delta":
            return self._arguments(event.index, delta.partial_json)
        if kind == "thinking_delta":
            thinking = self._thinking.get(event.index)
            if thinking is not None:
                thinking.texts.append(delta.thinking)
            return self._text(self._reasoning, delta.thinking)
        if kind == "signature_delta" and (thinking := self._thinking.get(event.index)) is not None:
            thinking.signature.append(delta.signature)
        return b""

    def _text(self, opening: bytes, text: str) -> bytes:
        return b'%b%b},"finish_reason":null}]%b' % (opening, _encode(text), self._end) if text else b""

    def _arguments(self, index: int, piece: str) -> bytes:
        call = self._calls.get(index)
        if call is None or not piece:
            return b""
        call.arguments = None
        return b'%b%b%b},"finish_reason":null}]%b' % (call.opening, _encode(piece), call.close, self._end)

    def _take_start(self, event: _Event) -> bytes:
        block = block_of(event.content_block)
        if block is None:
            self._unplaced.add(event.index)
            return b""
        if block.type == "tool_use":
            return self._open_call(event.index, block)
        if block.type == "thinking":
            self._thinking[event.index] = _Thinking(block)
            return self._text(self._reasoning, block.thinking)
        if block.type == "redacted_thinking":
            return self._thought(block)
        return self._text(self._content, block.text)

    def _open_call(self, index: int, block: ContentBlock) -> bytes:
        number = self._number
        self._number += 1
        name = _encode(block.name)
        arguments = arguments_of(block)
        if self._shown.is_legacy:
            if number:
                return b""  # there is a place for one
            self._calls[index] = _Call(self._delta + b'"function_call":{"arguments":', b"}", arguments)
            return self._chunk(b'"function_call":{"name":%b,"arguments":""}' % name)
        opening = b'%b"tool_calls":[{"index":%d,"function":{"arguments":' % (self._delta, number)
        self._calls[index] = _Call(opening, b"}}]", arguments)
        words = (number, _encode(block.id), name)
        return self._chunk(_CALL % words)

    def _take_stop(self, event: _Event) -> bytes:
        self._unplaced.discard(event.index)
        return self._close(event.index)

    def _take_ping(self, event: _Event) -> bytes:
        return _PING

    def _close(self, index: int) -> bytes:
        """A block has ended: the arguments of a call that came without any, or thinking to be brought back."""
        call = self._calls.get(index)
        if call is not None:
            arguments = call.arguments
            out = b"" if arguments is None else self._arguments(index, arguments)
            del self._calls[index]
            return out
        thinking = self._thinking.pop(index, None)
        if thinking is None:
            return b""
        signature = "".join(thinking.signature)
        return self._thought(ContentBlock("thinking", thinking="".join(thinking.texts), signature=signature))

    def _thought(self, block: ContentBlock) -> bytes:
        told = thinking_of(block)
        if told is None:
            return b""
        words = _encode({"index": self._thoughts, **told})  # without an index OpenAI's SDK fails to put them together
        self._thoughts += 1
        return self._chunk(b'"thinking_blocks":[%b]' % words)

    def _take_message_start(self, event: _Event) -> bytes:
        if event.message is None or self._first is not None:
            return b""
        if self._has_begun:
            self._first = tokens_of(event.message.usage)
            return b""
        return self._begin(event.message.id or made_id(self._shown), event.message.usage)

    def _begin(self, ident: str, usage: msgspec.Raw) -> bytes:
        """The first chunk, which tells the role; a source may fail to say that it begins."""
        self._has_begun = True
        self._name(ident)
        self._first = tokens_of(usage)
        return self._chunk(b'"role":"assistant","content":""')

    def _take_message_delta(self, event: _Event) -> bytes:
        self._last = tokens_of(event.usage) or self._last
        delta = event.delta or _NO_DELTA
        return b"" if delta.stop_reason is None else self._finish(delta)

    def _finish(self, delta: _Delta) -> bytes:
        """The chunk that says why the answer ended, after what is left of blocks that were not ended."""
        if self._has_finished:
            return b""
        self._has_finished = True
        out = [self._close(index) for index in sorted({*self._calls, *self._thinking})]
        refusal = b""
        if delta.stop_reason == "refusal" and delta.stop_details is not None and delta.stop_details.explanation:
            refusal = b'"refusal":' + _encode(delta.stop_details.explanation)
        out.append(self._chunk(refusal, _encode(finish_reason(delta.stop_reason, self._shown))))
        return b"".join(out)

    def _take_message_stop(self, event: _Event) -> bytes:
        out = self._finish(_NO_DELTA)
        last = self._last or self._first
        if self._shown.wants_usage and last is not None:
            out += b'%b],"usage":%b}\n\n' % (self._head, _encode(told_usage(self._first or last, last)))
        self._is_over = self.is_finished = True
        return out + _DONE

    def _break(self, fault: Fault) -> bytes:
        self._is_over = True
        return b'data: {"error":%b}\n\n' % _encode(told_error(fault, 502))


_TAKES: Final[dict[str, Callable[[ChunkStream, _Event], bytes]]] = {
    "content_block_delta": ChunkStream._take_delta,
    "content_block_start": ChunkStream._take_start,
    "content_block_stop": ChunkStream._take_stop,
    "message_delta": ChunkStream._take_message_delta,
    "message_start": ChunkStream._take_message_start,
    "message_stop": ChunkStream._take_message_stop,
    "ping": ChunkStream._take_ping,
}


def _has_no_place(data: bytes) -> bool:
    """Whether an event that is not as the known ones are is of a type that is left out anyhow, or OpenAI's own end."""
    try:
        event = _typed(data)
        if event.type == "content_block_delta":
            return _typed(event.delta).type not in _DELTAS
    except (ValueError, RecursionError):
        return data.strip() in (b"", b"[DONE]")
    return event.type not in _TAKES
