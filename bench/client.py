"""The HTTP client of the load generator: one request at a time on each connection, with its timing."""

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
_RESPONSES_INPUT: Final = '{{"instructions":"You are a helpful assistant.","input":"{prompt}","store":false,'
_MEMBERS: Final = '"model":"{model}",{max_tokens}"temperature":0.2{stream}}}'


def request_bytes(
    port: int, model: str, *, stream: bool, prompt_bytes: int = 64, max_tokens: bool = True, headers: Headers = (),
    endpoint: str = "chat/completions",
) -> bytes:  # fmt: skip
    """Returns a request as the OpenAI SDK sends it, with a prompt of this size.

    A request to an Anthropic endpoint has Anthropic's members, one to `responses` those of Responses.
    """
    phrase = "Tell me of the sea, "
    prompt = (phrase * (prompt_bytes // len(phrase) + 1))[:prompt_bytes]
    is_responses = endpoint == "responses"
    messages = _RESPONSES_INPUT if is_responses else _ANTHROPIC_MESSAGES if endpoint.startswith("messages") else _MESSAGES
    body = (messages + _MEMBERS).format(
        prompt=prompt,
        model=model,
        stream=',"stream":true' if stream else "",
        max_tokens=f'"{"max_output_tokens" if is_responses else "max_tokens"}":500,' if max_tokens else "",
    )
    more = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return (_HEAD.format(endpoint=endpoint, port=port, more=more, length=len(body)) + body).encode()


class RequestTiming:
    """The timing of one request: when it was due, when its first byte came, and the delay of each event.

    The first `delays_before_window` delays belong to the warm-up.
    """

    __slots__ = ("delays_before_window", "delays_ns", "due_ns", "error", "first_byte_ns")

    def __init__(self, due_ns: int) -> None:
        self.due_ns = due_ns
        self.first_byte_ns = 0
        self.delays_ns: list[int] = []
        self.delays_before_window = 0
        self.error: str | None = None


class Connection(asyncio.Protocol):
    """Calls `on_first_byte` at the first byte of an answer, and `on_end` when the answer has ended or failed.

    `end` is the last bytes of a complete stream.
    """

    def __init__(
        self, on_first_byte: Callable[[Connection], None], on_end: Callable[[Connection, RequestTiming], None], end: bytes
    ) -> None:
        self._end = end
        self._on_first_byte = on_first_byte
        self._on_end = on_end
        self._parser = httptools.HttpResponseParser(self)
        self.timing: RequestTiming | None = None
        self._events = 0
        self._unparsed = b""
        self._now_ns = 0
        self.events_seen = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, events: int, due_ns: int) -> None:
        """Send a request whose answer has this many events (0: not streamed). Its time counts from `due_ns`."""
        self.timing = RequestTiming(due_ns)
        self._events = events
        self._unparsed = b""
        if self.transport.is_closing():
            self._finish("the connection was closed while it was idle")
        else:
            self.transport.write(request)

    def start_window(self) -> None:
        """Exclude the events that have come so far."""
        if self.timing is not None:
            self.timing.delays_before_window = len(self.timing.delays_ns)

    def data_received(self, data: bytes) -> None:
        """Note the time and feed the parser, which calls the methods below."""
        self._now_ns = time.monotonic_ns()
        if self.timing is not None and not self.timing.first_byte_ns:
            self.timing.first_byte_ns = self._now_ns
            self._on_first_byte(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish(f"not HTTP: {error}")

    def on_body(self, body: bytes) -> None:
        """Note the delay of each event in the block. A timestamp may be split between two blocks."""
        timing = self.timing
        if timing is None or not self._events:
            return
        data = self._unparsed + body
        at, end = data.find(STAMP), 0
        while at >= 0 and at + _STAMPED_BYTES <= len(data):
            end = at + _STAMPED_BYTES
            timing.delays_ns.append(self._now_ns - int(data[at + len(STAMP) : end]))
            self.events_seen += 1
            at = data.find(STAMP, end)
        self._unparsed = data[max(end, len(data) - _STAMPED_BYTES + 1) :]

    def on_message_complete(self) -> None:
        """Check the answer: its status, the number of its events, and its last bytes."""
        if self.timing is None:
            return
        status = self._parser.get_status_code()
        if status != 200:
            self._finish(f"status {status}")
        elif self._events and (len(self.timing.delays_ns) != self._events or not self._unparsed.endswith(self._end)):
            self._finish(f"incomplete stream: {len(self.timing.delays_ns)} of {self._events} events")
        else:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in flight, if there is one."""
        if self.timing is not None:
            self._finish(f"the connection was closed after {len(self.timing.delays_ns)} events")

    def _finish(self, error: str | None) -> None:
        timing, self.timing = self.timing, None
        if timing is not None:
            timing.error = error
            self._on_end(self, timing)
