"""The provider that is never the bottleneck: it plays the script that a request's model id names.

Answers are prepared once a script. Streams share one timer a gap: a wheel, whose tick sends the next event of every
stream on the spoke at hand. Each event carries the time at which it was sent, on the clock that all processes of a
machine share (`time.monotonic_ns`), so that whoever receives it knows its delay.

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

_KEPT_BYTES: Final = 4096
_BACKLOG: Final = 4096
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"]+)"')
_INCLUDES_USAGE: Final = re.compile(rb'"include_usage"\s*:\s*true')
_UNKNOWN: Final = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Stream:
    """One streamed answer under way."""

    __slots__ = ("answer", "left", "transport", "usage")

    def __init__(self, transport: asyncio.Transport, answer: Answer, *, usage: bool) -> None:
        self.transport = transport
        self.answer = answer
        self.usage = usage
        self.left = answer.script.events

    def send(self, prefix: bytes = b"") -> bool:
        """Send the next event, and the end after the last one; says whether there is more to come."""
        answer = self.answer
        self.left -= 1
        event = b"%s%s%019d%s" % (prefix, answer.before, time.monotonic_ns(), answer.after)
        if self.left:
            self.transport.write(event)
            return True
        if answer.script.end == "done":
            event += answer.finish + (answer.usage if self.usage else b"") + answer.end
        self.transport.write(event)
        if answer.script.end == "cut":
            self.transport.close()
        return False


class Wheel:
    """All streams of one gap. A tick serves one spoke; a stream is on one spoke, so it is served once a turn."""

    def __init__(self, gap_ms: int, tick_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._spokes: list[set[Stream]] = [set() for _ in range(max(1, gap_ms // tick_ms))]
        self._tick_s = gap_ms / len(self._spokes) / 1000
        self._at = 0
        self._due_s = 0.0
        self._turning = False

    def add(self, stream: Stream) -> set[Stream]:
        """Put the stream on the emptiest spoke, and start to turn; returns the spoke, to be left on the way out."""
        spoke = min(self._spokes, key=len)
        spoke.add(stream)
        if not self._turning:
            self._turning = True
            self._due_s = self._loop.time() + self._tick_s
            self._loop.call_at(self._due_s, self._tick)
        return spoke

    def _tick(self) -> None:
        spoke = self._spokes[self._at]
        self._at = (self._at + 1) % len(self._spokes)
        spoke.difference_update([stream for stream in spoke if not stream.send()])
        self._turning = any(self._spokes)
        if self._turning:
            self._due_s += self._tick_s
            self._loop.call_at(self._due_s, self._tick)


class Provider(asyncio.Protocol):
    """One connection. Of a body only the two ends are kept: the model's name is there, and 10 MB cost nothing."""

    answers: Final[dict[bytes, Answer | None]] = {}

    def __init__(self, wheels: dict[tuple[int, int], Wheel]) -> None:
        self._wheels = wheels
        self._parser = httptools.HttpRequestParser(self)
        self._first = self._last = b""
        self._stream: Stream | None = None
        self._spoke: set[Stream] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the stream off the wheel."""
        if self._stream is not None:
            self._spoke.discard(self._stream)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls what follows."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        """Forget the last request."""
        self._first = self._last = b""

    def on_body(self, body: bytes) -> None:
        """Keep the two ends of the body."""
        if not self._first:
            self._first = body[:_KEPT_BYTES]
        self._last = (self._last + body[-_KEPT_BYTES:])[-_KEPT_BYTES:]

    def on_message_complete(self) -> None:
        """Answer, now or after the script's wait."""
        match = _MODEL.search(self._last) or _MODEL.search(self._first)
        answer = self._answer(match[1] if match else b"")
        if answer is None:
            self._transport.write(_UNKNOWN)
        elif answer.script.first_ms:
            asyncio.get_running_loop().call_later(answer.script.first_ms / 1000, self._begin, answer)
        else:
            self._begin(answer)

    def _answer(self, model: bytes) -> Answer | None:
        if model not in self.answers:
            script = parse(model.decode("latin-1"))
            self.answers[model] = Answer(script) if script is not None else None
        return self.answers[model]

    def _begin(self, answer: Answer) -> None:
        script = answer.script
        if self._transport.is_closing():
            return
        if not script.events:
            if script.end != "stall":
                self._transport.write(answer.whole)
            return
        usage = bool(_INCLUDES_USAGE.search(self._last) or _INCLUDES_USAGE.search(self._first))
        self._stream = Stream(self._transport, answer, usage=usage)
        if self._stream.send(answer.head):
            turn = (script.gap_ms, script.tick_ms)
            wheel = self._wheels.get(turn) or self._wheels.setdefault(turn, Wheel(*turn))
            self._spoke = wheel.add(self._stream)


async def listen(port: int, tls: ssl.SSLContext | None = None) -> asyncio.Server:
    """Listen on 127.0.0.1; port 0 is any free one."""
    wheels: dict[tuple[int, int], Wheel] = {}
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
