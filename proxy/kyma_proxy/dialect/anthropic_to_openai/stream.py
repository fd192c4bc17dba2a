"""This file turns a stream of OpenAI's into one of Anthropic's, event by event. (Contract §4.)

Anthropic's blocks come one after the other, while OpenAI's tool calls may come at once. The block that is open streams; it
gives way to another as soon as it may: a text or a thought at once, a call when its arguments are a whole JSON value. Until
then what belongs to others is held. So calls that come one after the other, as nearly all do, are not.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.dialect.anthropic_to_openai.answer import (
    BROKEN_OFF,
    Function,
    Reported,
    Said,
    ToolCall,
    arguments_of,
    decoded,
    error_in_stream,
    error_json,
    message_id,
    reported_by,
    stop_reason,
    text_of,
    thinking_of,
    tool_id,
    usage_json,
    usage_of,
)
from kyma_proxy.dialect.anthropic_to_openai.messages import Json
from kyma_proxy.dialect.sse import COMMENT, Splitter, SseEvent, emitted
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.tool_ids import fit_id

_encode: Final = msgspec.json.encode
_UNREADABLE: Final = "The source sent an event that can't be read; send the request again."
_BROKEN_OFF: Final = "The source broke its answer off; send the request again."
_DONE: Final = b"[DONE]"
_NULL: Final = b"null"
_PING: Final = emitted(b"ping", b'{"type":"ping"}')
_LIFE: Final = b":\n\n"
_STOP: Final = emitted(b"message_stop", b'{"type":"message_stop"}')
_TEXT: Final = "text"
_THINKING: Final = "thinking"
_TOOL: Final = "tool_use"
_EMPTY: Final = {_TEXT: b'{"type":"text","text":""}', _THINKING: b'{"type":"thinking","thinking":"","signature":""}'}
_BEFORE: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b:'
_DELTA: Final = {
    _TEXT: b'"text_delta","text"',
    _THINKING: b'"thinking_delta","thinking"',
    _TOOL: b'"input_json_delta","partial_json"',
}
_SIGNATURE: Final = b'{"type":"content_block_delta","index":%%d,"delta":{"type":"signature_delta","signature":%b}}' % _encode(
    UNSIGNED
)
_MARK: Final = re.compile(r'\\.|["{}\[\]\\]', re.DOTALL)
_OPENS: Final = ("{", "[")
_CLOSES: Final = ("}", "]")


class _Choice(msgspec.Struct, gc=False):
    delta: Said | None = None
    index: int | None = None
    finish_reason: str | None = None
    stop_reason: Any = None


class _Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    object: str | None = None
    created: Any = None
    choices: list[_Choice] | None = None
    usage: Raw = Raw(_NULL)
    error: Raw = Raw(_NULL)


_chunk: Final = msgspec.json.Decoder(_Chunk).decode
_anything: Final = msgspec.json.Decoder().decode


class _Block:
    """A block of the message: what it is, and what is held of it until it is opened."""

    __slots__ = (
        "_depth", "_in_string", "_is_escaped", "content", "held", "ident", "is_closed", "is_named", "is_whole", "kind", "name",
    )  # fmt: skip

    def __init__(self, kind: str, ident: str = "") -> None:
        self.kind = kind
        self.ident = ident
        self.name = ""
        self.held: list[str] = []
        self.is_closed = False
        self.is_named = False
        """Whether the name of a call is whole: some sources cut it, and only what follows it shows its end."""
        self.is_whole = kind != _TOOL
        """Whether another may follow: of a call, whether its arguments are a whole JSON value."""
        self._depth = 0
        self._in_string = self._is_escaped = False

    @property
    def may_open(self) -> bool:
        """Whether what its first event says is known."""
        return self.kind != _TOOL or (self.is_named and bool(self.name))

    def follow(self, arguments: str) -> None:
        """See whether these arguments end the value that has begun."""
        if self.is_whole:
            return
        position = 1 if self._is_escaped else 0
        self._is_escaped = False
        for found in _MARK.finditer(arguments, position):
            mark = found[0]
            if mark == "\\":
                self._is_escaped = True  # and what it escapes is still to come
            elif mark == '"':
                self._in_string = not self._in_string
            elif self._in_string:
                continue
            elif mark in _OPENS:
                self._depth += 1
            elif mark in _CLOSES:
                self._depth -= 1
                if self._depth == 0:
                    self.is_whole = True
                    return


class MessageStream:
    """One stream's way from OpenAI's dialect into Anthropic's. `stops` are the request's stop sequences.

    Its errors bear the `request_id`, where there is one. It raises nothing: what can't be read ends it with an error event,
    after which nothing more comes.
    """

    __slots__ = (
        "_at", "_before", "_calls", "_count", "_finish", "_ident", "_is_done", "_is_over", "_open", "_refuses", "_reported",
        "_request_id", "_shown_model", "_splitter", "_stop", "_stops", "_waiting", "has_failed",
    )  # fmt: skip

    def __init__(self, shown_model: str, stops: frozenset[str], request_id: str = "") -> None:
        self._shown_model = shown_model
        self._request_id = request_id
        self._stops = stops
        self._splitter = Splitter(keeps_comments=True)
        self._reported: Reported | None = None
        self._ident = ""
        self._finish: str | None = None
        self._stop: object = None
        self._refuses = False
        self._is_done = self._is_over = False
        self.has_failed = False
        """Whether the caller has been told of an error."""
        self._at = -1
        self._before = b""
        self._open: _Block | None = None
        self._waiting: deque[_Block] = deque()
        self._calls: dict[int, _Block] = {}
        self._count = 0

    @property
    def usage(self) -> Usage:
        """What the source has reported so far."""
        return usage_of(self._reported)

    @property
    def is_finished(self) -> bool:
        """Whether the source has said why it stopped, or that it is done."""
        return self._is_done

    def feed(self, piece: bytes) -> bytes:
        """The caller's bytes that a piece of the source's stream makes ready."""
        if self._is_over:
            return b""
        out: list[bytes] = []
        try:
            for event in self._splitter.feed(piece):
                self._take(out, event)
        except ValueError:
            self._break(out, error_json(502, _UNREADABLE, self._request_id))
        return b"".join(out)

    def flush(self) -> bytes:
        """The caller's bytes that are left when the source's stream has ended; nothing ends a stream that was cut."""
        out: list[bytes] = []
        try:
            for event in self._splitter.flush():
                self._take(out, event)
        except ValueError:
            self._is_over = True  # the event was cut, and the stream with it
            self._is_done = False
        if self._is_done and not self._is_over:
            self._end(out)
        return b"".join(out)

    def _take(self, out: list[bytes], event: SseEvent) -> None:
        """One event. Raises ValueError where it can't be read."""
        name, data = event
        if self._is_over or (not data and name != COMMENT):
            return
        if name == COMMENT:
            out.append(_PING if self._ident else _LIFE)
        elif data == _DONE:
            self._is_done = True
            self._end(out)
        elif name == b"error":
            self._break(out, error_in_stream(decoded(_anything, data), self._request_id))
        else:
            self._chunk(out, data)

    def _chunk(self, out: list[bytes], data: bytes) -> None:
        chunk = decoded(_chunk, data)
        if bytes(chunk.error) != _NULL or chunk.object == "error":
            whole = decoded(_anything, data)
            self._break(out, error_in_stream(whole.get("error") or whole, self._request_id))
            return
        if bytes(chunk.usage) != _NULL:
            self._reported = reported_by(chunk.usage) or self._reported
        if not self._ident and (chunk.id or chunk.choices):
            self._begin(out, message_id(chunk.id, chunk.created))
        for choice in chunk.choices or ():
            if choice.index:
                continue
            if choice.delta is not None:
                self._add(out, choice.delta)
            if choice.finish_reason in BROKEN_OFF:
                self._break(out, error_json(502, _BROKEN_OFF, self._request_id))
                return
            if choice.finish_reason:
                self._finish = choice.finish_reason
                self._stop = choice.stop_reason
                self._is_done = True
                self._close_all(out)

    def _add(self, out: list[bytes], said: Said) -> None:
        if thought := thinking_of(said):
            self._say(out, _THINKING, thought)
        if text := text_of(said):
            self._say(out, _TEXT, text)
        if said.refusal:
            self._refuses = True
            self._say(out, _TEXT, said.refusal)
        for call in said.calls:
            self._call(out, call)

    def _say(self, out: list[bytes], kind: str, text: str) -> None:
        block = self._waiting[-1] if self._waiting else self._open
        if block is None or block.kind != kind:
            block = _Block(kind)
            self._wait(block)
            self._advance(out)
        self._put(out, block, text)

    def _call(self, out: list[bytes], call: ToolCall) -> None:
        function = call.function or Function()
        block = self._block_of(call, function)
        if function.name and (not block.name or not (block.is_named or block.name == function.name)):
            block.name += function.name  # some say it with every event
        arguments = arguments_of(function)
        if arguments and not block.is_closed:  # after a whole value and another block nothing of sense can come
            block.is_named = True
            block.follow(arguments)
            self._put(out, block, arguments)
        if self._waiting:
            self._advance(out)

    def _block_of(self, call: ToolCall, function: Function) -> _Block:
        """The call that is meant: that of the index, or the last. Another id under another name begins the next one.

        Some sources give all calls one index, or none; what is followed by another of its index is whole.
        """
        calls = self._calls
        index = next(reversed(calls), 0) if call.index is None else call.index
        block = calls.get(index)
        if block is not None and block.name and function.name:
            is_another = call.id != block.ident if call.id else call.index is None
            if is_another:
                block.is_whole = True
                block = None
        if block is None:
            block = calls[index] = _Block(_TOOL, call.id or tool_id(self._ident, self._count))
            self._count += 1
            self._wait(block)
        return block

    def _wait(self, block: _Block) -> None:
        """Let a new block wait for its turn; of a call before it the name is whole."""
        if self._waiting:
            self._waiting[-1].is_named = True
        self._waiting.append(block)

    def _put(self, out: list[bytes], block: _Block, text: str) -> None:
        if block is self._open:
            out.append(b"%b%b}}\n\n" % (self._before, _encode(text)))
        else:
            block.held.append(text)

    def _advance(self, out: list[bytes]) -> None:
        """Let those that wait have their turn, as far as they may."""
        while self._waiting and self._waiting[0].may_open and (self._open is None or self._open.is_whole):
            self._turn(out)

    def _close_all(self, out: list[bytes]) -> None:
        """Nothing more will come: let all have their turn."""
        while self._waiting:
            self._turn(out)
        self._close(out)

    def _turn(self, out: list[bytes]) -> None:
        """Close the block that is open, and open the next."""
        self._close(out)
        block = self._open = self._waiting.popleft()
        self._at += 1
        if block.kind == _TOOL:
            content = _encode({"type": _TOOL, "id": fit_id(block.ident), "name": block.name, "input": {}})
        else:
            content = _EMPTY[block.kind]
        start = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (self._at, content)
        out.append(emitted(b"content_block_start", start))
        self._before = _BEFORE % (self._at, _DELTA[block.kind])
        if block.held:
            self._put(out, block, "".join(block.held))
            block.held = []

    def _close(self, out: list[bytes]) -> None:
        block, self._open = self._open, None
        if block is not None:
            block.is_closed = True
            if block.kind == _THINKING:
                out.append(emitted(b"content_block_delta", _SIGNATURE % self._at))
            out.append(emitted(b"content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._at))

    def _begin(self, out: list[bytes], ident: str) -> None:
        self._ident = ident
        message: Json = {
            "id": ident, "type": "message", "role": "assistant", "model": self._shown_model, "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": usage_json(self._reported),
        }  # fmt: skip
        out.append(emitted(b"message_start", _encode({"type": "message_start", "message": message})))

    def _end(self, out: list[bytes]) -> None:
        """The answer is whole, and its usage known if it ever will be."""
        self._is_over = True
        if not self._ident:
            self._begin(out, message_id(None, None))
        self._close_all(out)
        reason, sequence = stop_reason(self._finish, self._stop, self._stops, calls=self._count > 0, refuses=self._refuses)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        last = {"type": "message_delta", "delta": delta, "usage": usage_json(self._reported)}
        out.append(emitted(b"message_delta", _encode(last)))
        out.append(_STOP)

    def _break(self, out: list[bytes], error: bytes) -> None:
        """The answer will never be whole."""
        self._is_over = self.has_failed = True
        self._is_done = False
        out.append(emitted(b"error", error))
