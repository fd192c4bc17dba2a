"""A provider and a client that go in step with the system between them: both send only when it waits."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Final

from bench.answer import STAMP, STAMP_DIGITS, Answer
from bench.script import parse

_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"]+)"')
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_WAITING: Final = ("232 ", "281 ", "441 ")
"""epoll_wait, epoll_pwait and epoll_pwait2 of x86-64."""
_LOOKS, _LOOK_S, _BLIND_S = 30_000, 0.0002, 0.003
_PATIENCE_S: Final = 60.0
_END: Final = b"0\r\n\r\n"


class Busy(RuntimeError):
    """The system never waits, or does not answer."""


class Watch:
    """Knows whether a process waits for something."""

    def __init__(self) -> None:
        self.pid = 0

    async def waits(self) -> None:
        """Return once its first thread waits; after 3 ms where /proc does not tell. Raises Busy."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/syscall")
        for _ in range(_LOOKS):
            try:
                text = path.read_text()  # noqa: ASYNC240  (of memory)
            except OSError:
                await asyncio.sleep(_BLIND_S)
                return
            if text.startswith(_WAITING):
                return
            await asyncio.sleep(_LOOK_S)
        raise Busy("it never waits")


class Provider:
    """Answers by the script that the model's id names, an event at a time."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._answers: dict[bytes, Answer] = {}
        self.taken = asyncio.Event()
        """The client has what was sent last."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the system."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                _, body = await read_message(reader)
                answer = self._answer(body)
                await self._watch.waits()
                if answer.script.events:
                    await self._stream(writer, answer, has_usage=b'"include_usage":true' in body.replace(b": ", b":"))
                else:
                    writer.write(answer.whole)
        writer.close()

    def _answer(self, body: bytes) -> Answer:
        match = _MODEL.search(body[-4096:]) or _MODEL.search(body)
        model = match[1] if match else b"short"
        if model not in self._answers:
            script = parse(model.decode())
            assert script is not None
            self._answers[model] = Answer(script)
        return self._answers[model]

    async def _stream(self, writer: asyncio.StreamWriter, answer: Answer, *, has_usage: bool) -> None:
        event = answer.before + b"0" * STAMP_DIGITS + answer.after
        for at in range(answer.script.events):
            await self._watch.waits()
            self.taken.clear()
            writer.write(event if at else answer.head + event)
            await asyncio.wait_for(self.taken.wait(), _PATIENCE_S)
        await self._watch.waits()
        writer.write(answer.finish + (answer.usage if has_usage else b"") + answer.end)


class Client:
    """One connection to the system."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, provider: Provider, watch: Watch) -> None:
        self._reader = reader
        self._writer = writer
        self._provider = provider
        self._watch = watch

    async def ask(self, request: bytes, count: int) -> None:
        """Send a request so many times, one after the other. Raises Busy if an answer is not as expected."""
        for _ in range(count):
            await self._watch.waits()
            self._writer.write(request)
            head, body = await asyncio.wait_for(read_message(self._reader), _PATIENCE_S)
            if not head.startswith(b"HTTP/1.1 200") or b"All is well" not in body:
                raise Busy(f"not as expected: {(head + body)[:300]!r}")

    async def stream(self, request: bytes, events: int) -> None:
        """Have one stream of so many events. Raises Busy if it is not as expected."""
        await self._watch.waits()
        self._writer.write(request)
        seen, tail = 0, b""
        while not tail.endswith(_END):
            data = await asyncio.wait_for(self._reader.read(65_536), _PATIENCE_S)
            if not data or not (seen or data.startswith(b"HTTP/1.1 200")):
                raise Busy(f"not as expected: {data[:300]!r}")
            tail = (tail + data)[-len(_END) :]
            came = data.count(STAMP)
            seen += came
            if came:
                self._provider.taken.set()
        if seen != events:
            raise Busy(f"{seen} events of {events}")

    def close(self) -> None:
        """Leave."""
        self._writer.close()


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A head, and the body that its Content-Length names; also one in chunks, whose end is then the end of what has come."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if length is not None:
        return head, await reader.readexactly(int(length[1]))
    return head, (await reader.readuntil(_END) if b"chunked" in head.lower() else b"")
