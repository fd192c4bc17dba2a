"""A provider that records what arrives, reads it strictly, and repeats each request's tag in its answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import NamedTuple

from tests.harness import whole

ANSWER = (
    b'{"id":"%b","object":"chat.completion","choices":[{"message":{"content":"a"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
_LINE = re.compile(rb"[A-Z-]+ [^ ?]*(?:\?(?:c=([0-9a-z-]+))?[!-~]*)? HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")


class Arrival(NamedTuple):
    """A request that has arrived; `tag` is empty if it has none."""

    tag: str
    head: bytes
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of a field; `name` in lower case."""
        return [value for key, value in self.fields if key == name]


class Recorder:
    """The provider. `malformed` has what arrived that it can't read."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.malformed: list[bytes] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while (arrival := self._read(await reader.readuntil(b"\r\n\r\n"))) is not None:
                    lengths = arrival.values("content-length")
                    body = await reader.readexactly(int(lengths[0]) if lengths else 0)
                    self.arrivals.append(arrival._replace(body=body))
                    writer.write(whole(ANSWER % arrival.tag.encode()))
        finally:
            writer.close()

    def _read(self, head: bytes) -> Arrival | None:
        line, *lines = head[:-4].split(b"\r\n")
        request, fields = _LINE.fullmatch(line), [_FIELD.fullmatch(one) for one in lines]
        if request is None or None in fields:
            self.malformed.append(head)
            return None
        named = [(one[1].decode().lower(), one[2].decode("latin-1")) for one in fields if one is not None]
        return Arrival((request[1] or b"").decode(), head, named, b"")

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    """A recorder on a port of the kernel's choice."""
    made = Recorder()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=2**20)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
