"""A scripted provider, fast enough never to be the bottleneck. A request's model id names the script of its answer.

The bytes of a script's answers are prepared once. All streams with the same gap share one timer wheel: each tick sends the next
event of every stream in one slot. Each event carries its sending time on the clock that all processes of a machine share
(`time.monotonic_ns`), so that the receiver knows its delay.

    python -m bench.provider PORT [TLS_PORT CERTIFICATE]
"""

from __future__ import annotations

import asyncio
import gc
import re
import ssl
import sys
import time
from typing import Final, cast

import httptools
import uvloop

from bench.answer import Answer
from bench.script import parse

_KEPT_BODY_BYTES: Final = 4096
_BACKLOG: Final = 4096
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"]+)"')
_INCLUDES_USAGE: Final = re.compile(rb'"include_usage"\s*:\s*true')
_UNKNOWN: Final = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Stream:
    """One streamed answer in flight."""

    __slots__ = ("answer", "events_left", "transport", "usage")

    def __init__(self, transport: asyncio.Transport, answer: Answer, *, usage: bool) -> None:
        self.transport = transport
        self.answer = answer
        self.usage = usage
        self.events_left = answer.script.events

    def send(self, prefix: bytes = b"") -> bool:
        """Send the next event, and the end after the last one. Returns True if more events follow."""
        answer = self.answer
        self.events_left -= 1
        event = b"%s%s%019d%s" % (prefix, answer.before, time.monotonic_ns(), answer.after)
        if self.events_left:
            self.transport.write(event)
            return True
        if answer.script.end == "done":
            event += answer.finish + (answer.usage if self.usage else b"") + answer.end
        self.transport.write(event)
        if answer.script.end == "cut":
            self.transport.close()
        return False


class TimerWheel:
    """The streams of one gap. Each tick serves one slot; a stream is in one slot, so it is served once per gap."""

    def __init__(self, gap_ms: int, tick_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots: list[set[Stream]] = [set() for _ in range(max(1, gap_ms // tick_ms))]
        self._tick_s = gap_ms / len(self._slots) / 1000
        self._at = 0
        self._due_s = 0.0
        self._is_running = False

    def add(self, stream: Stream) -> set[Stream]:
        """Put the stream into the emptiest slot and start the timer. Returns the slot; a stream that is lost leaves it."""
        slot = min(self._slots, key=len)
        slot.add(stream)
        if not self._is_running:
            self._is_running = True
            self._due_s = self._loop.time() + self._tick_s
            self._loop.call_at(self._due_s, self._tick)
        return slot

    def _tick(self) -> None:
        slot = self._slots[self._at]
        self._at = (self._at + 1) % len(self._slots)
        slot.difference_update([stream for stream in slot if not stream.send()])
        self._is_running = any(self._slots)
        if self._is_running:
            self._due_s += self._tick_s
            self._loop.call_at(self._due_s, self._tick)


class Provider(asyncio.Protocol):
    """One connection. Only the two ends of a request's body are kept: `model` is there, and 10 MB cost nothing."""

    answers: Final[dict[bytes, Answer | None]] = {}

    def __init__(self, wheels: dict[tuple[int, int], TimerWheel]) -> None:
        self._wheels = wheels
        self._parser = httptools.HttpRequestParser(self)
        self._body_start = self._body_end = b""
        self._stream: Stream | None = None
        self._slot: set[Stream] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the stream off the timer wheel."""
        if self._stream is not None:
            self._slot.discard(self._stream)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        """Reset the state of the previous request."""
        self._body_start = self._body_end = b""

    def on_body(self, body: bytes) -> None:
        """Keep the two ends of the body."""
        if not self._body_start:
            self._body_start = body[:_KEPT_BODY_BYTES]
        self._body_end = (self._body_end + body[-_KEPT_BODY_BYTES:])[-_KEPT_BODY_BYTES:]

    def on_message_complete(self) -> None:
        """Answer at once, or after the script's delay."""
        match = _MODEL.search(self._body_end) or _MODEL.search(self._body_start)
        answer = self._answer(match[1] if match else b"")
        if answer is None:
            self._transport.write(_UNKNOWN)
        elif answer.script.first_ms:
            asyncio.get_running_loop().call_later(answer.script.first_ms / 1000, self._start, answer)
        else:
            self._start(answer)

    def _answer(self, model: bytes) -> Answer | None:
        if model not in self.answers:
            script = parse(model.decode("latin-1"))
            self.answers[model] = Answer(script) if script is not None else None
        return self.answers[model]

    def _start(self, answer: Answer) -> None:
        script = answer.script
        if self._transport.is_closing():
            return
        if not script.events:
            if script.end != "stall":
                self._transport.write(answer.whole)
            return
        usage = bool(_INCLUDES_USAGE.search(self._body_end) or _INCLUDES_USAGE.search(self._body_start))
        self._stream = Stream(self._transport, answer, usage=usage)
        if self._stream.send(answer.head):
            key = (script.gap_ms, script.tick_ms)
            wheel = self._wheels.get(key) or self._wheels.setdefault(key, TimerWheel(*key))
            self._slot = wheel.add(self._stream)


async def listen(port: int, tls: ssl.SSLContext | None = None) -> asyncio.Server:
    """Listen on 127.0.0.1; port 0 is any free one."""
    wheels: dict[tuple[int, int], TimerWheel] = {}
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Provider(wheels), "127.0.0.1", port, backlog=_BACKLOG, ssl=tls)


async def _serve(port: int, tls_port: str = "", certificate: str = "") -> None:
    servers = [await listen(port)]
    if tls_port:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        servers.append(await listen(int(tls_port), context))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    gc.disable()
    uvloop.run(_serve(int(sys.argv[1]), *sys.argv[2:]))
