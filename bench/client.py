"""The load generator's side of a connection: one request at a time, and what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

import httptools

from bench.answer import STAMP, STAMP_DIGITS

Headers = tuple[tuple[str, str], ...]

_STAMPED_BYTES: Final = len(STAMP) + STAMP_DIGITS
_HEAD: Final = (
    "POST /v1/{endpoint} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: gzip, deflate\r\n"
    "Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    "User-Agent: OpenAI/Python 2.8.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.0\r\n"
    "X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n"
    "X-Stainless-Runtime-Version: 3.11.7\r\nAuthorization: Bearer none\r\nX-Stainless-Async: false\r\n"
    "x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n{more}Content-Length: {length}\r\n\r\n"
)
_MESSAGES: Final = (
    '{{"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{prompt}"}}],'
)
_ANTHROPIC_MESSAGES: Final = '{{"system":"You are a helpful assistant.","messages":[{{"role":"user","content":"{prompt}"}}],'
_MEMBERS: Final = '"model":"{model}",{max_tokens}"temperature":0.2{stream}}}'


def request_bytes(
    port: int, model: str, *, stream: bool, prompt_bytes: int = 64, max_tokens: bool = True, headers: Headers = (),
    endpoint: str = "chat/completions",
) -> bytes:  # fmt: skip
    """A request as the OpenAI SDK sends it, with a prompt of this size; to an endpoint of Anthropic's with its members."""
    words = "Tell me of the sea, "
    prompt = (words * (prompt_bytes // len(words) + 1))[:prompt_bytes]
    messages = _ANTHROPIC_MESSAGES if endpoint.startswith("messages") else _MESSAGES
    body = (messages + _MEMBERS).format(
        prompt=prompt,
        model=model,
        stream=',"stream":true' if stream else "",
        max_tokens='"max_tokens":500,' if max_tokens else "",
    )
    more = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return (_HEAD.format(endpoint=endpoint, port=port, more=more, length=len(body)) + body).encode()


class Call:
    """One request: when it was due, when its answer began, and its events' delays, the first of which don't count."""

    __slots__ = ("before_window", "delays_ns", "due_ns", "error", "first_ns")

    def __init__(self, due_ns: int) -> None:
        self.due_ns = due_ns
        self.first_ns = 0
        self.delays_ns: list[int] = []
        self.before_window = 0
        self.error: str | None = None


class Connection(asyncio.Protocol):
    """Tells `began` at the first byte of an answer and `ended` at its end, be it good or bad.

    `end` is how a stream ends that is whole.
    """

    def __init__(self, began: Callable[[Connection], None], ended: Callable[[Connection, Call], None], end: bytes) -> None:
        self._end = end
        self._began = began
        self._ended = ended
        self._parser = httptools.HttpResponseParser(self)
        self.call: Call | None = None
        self._events = 0
        self._rest = b""
        self._now_ns = 0
        self.events_seen = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, events: int, due_ns: int) -> None:
        """Send a request whose answer has so many events (0: a whole answer); its time counts from `due_ns`."""
        self.call = Call(due_ns)
        self._events = events
        self._rest = b""
        if self.transport.is_closing():
            self._finish("the connection was closed while it was idle")
        else:
            self.transport.write(request)

    def begin_window(self) -> None:
        """What has come until now doesn't count."""
        if self.call is not None:
            self.call.before_window = len(self.call.delays_ns)

    def data_received(self, data: bytes) -> None:
        """Note the time, and feed the parser, which calls what follows."""
        self._now_ns = time.monotonic_ns()
        if self.call is not None and not self.call.first_ns:
            self.call.first_ns = self._now_ns
            self._began(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish(f"not HTTP: {error}")

    def on_body(self, body: bytes) -> None:
        """Note the delay of each event in the block; a stamp may be split between two blocks."""
        call = self.call
        if call is None or not self._events:
            return
        data = self._rest + body
        at, end = data.find(STAMP), 0
        while at >= 0 and at + _STAMPED_BYTES <= len(data):
            end = at + _STAMPED_BYTES
            call.delays_ns.append(self._now_ns - int(data[at + len(STAMP) : end]))
            self.events_seen += 1
            at = data.find(STAMP, end)
        self._rest = data[max(end, len(data) - _STAMPED_BYTES + 1) :]

    def on_message_complete(self) -> None:
        """Judge the answer: the status, the number of events, and the mark of the end."""
        if self.call is None:
            return
        status = self._parser.get_status_code()
        if status != 200:
            self._finish(f"status {status}")
        elif self._events and (len(self.call.delays_ns) != self._events or not self._rest.endswith(self._end)):
            self._finish(f"a short stream: {len(self.call.delays_ns)} of {self._events} events")
        else:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request under way has failed."""
        if self.call is not None:
            self._finish(f"the connection was closed after {len(self.call.delays_ns)} events")

    def _finish(self, error: str | None) -> None:
        call, self.call = self.call, None
        if call is not None:
            call.error = error
            self._ended(self, call)
