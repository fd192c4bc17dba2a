"""Callers who misuse connections, in a process of their own: slow heads, stalled and trickling bodies, floods, slow readers,
and the malformed requests of the corpus.

    python -m tests.faults.hostile_connections PORT KEY SLOW_MODEL
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Coroutine
from typing import cast

import uvloop

from bench.processes import raise_file_limit
from tests.hostile.corpus import CASES

SLOW, STALLED, TRICKLING, READERS = 50, 20, 20, 20
FLOOD = 300
PAUSE_S = 0.2
LOWEST_PRIORITY = 19

Misuse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


def post(key: str, length: int) -> bytes:
    """The head of a request with a body of this length."""
    return f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n".encode()


async def again(port: int, misuse: Misuse) -> None:
    """Misuse one connection after the other."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(OSError):
                await misuse(reader, writer)
            writer.transport.abort()
        await asyncio.sleep(PAUSE_S)


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, size: int) -> None:
    """Send a few bytes now and then, until the gateway ends it."""
    ended = asyncio.ensure_future(reader.read())
    for at in range(0, len(data), size):
        if ended.done():
            break
        writer.write(data[at : at + size])
        await asyncio.sleep(PAUSE_S)
    ended.cancel()


async def flood(port: int) -> None:
    """Open many connections at once, and leave without a word."""
    while True:
        opened = await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", port) for _ in range(FLOOD)), return_exceptions=True
        )
        await asyncio.sleep(PAUSE_S)
        for one in opened:
            if not isinstance(one, BaseException):
                one[1].transport.abort()
        await asyncio.sleep(PAUSE_S)


async def send_malformed(port: int) -> None:
    """Send the requests of the corpus in turn."""
    for number, case in enumerate(itertools.cycle(CASES)):
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(case.wire(str(number)))
            async with asyncio.timeout(PAUSE_S):
                await reader.read()
            writer.transport.abort()


async def main(port: int, key: str, slow_model: str) -> None:
    """Misuse the gateway until the process is ended."""
    slow_body = f'{{"model":"{slow_model}","stream":true,"messages":[{{"role":"user","content":"x"}}]}}'.encode()

    async def slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await trickle(reader, writer, post(key, 2) * 10, 1)

    async def stalled_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post(key, 33_000_000) + b"x" * 262_144)
        await reader.read()

    async def trickling_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post(key, 33_000_000))
        await trickle(reader, writer, b"x" * 1_000_000, 100)

    async def slow_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post(key, len(slow_body)) + slow_body)
        cast("asyncio.Transport", writer.transport).pause_reading()
        await asyncio.sleep(10.0)

    kinds = ((slow_head, SLOW), (stalled_body, STALLED), (trickling_body, TRICKLING), (slow_reader, READERS))
    await asyncio.gather(flood(port), send_malformed(port), *(again(port, kind) for kind, count in kinds for _ in range(count)))


if __name__ == "__main__":
    os.nice(LOWEST_PRIORITY)
    raise_file_limit()
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
