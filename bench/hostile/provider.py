"""A provider that gives the hostile answers. It goes on with an endless one until the connection is closed.

python -m bench.hostile.provider PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from typing import Final

import uvloop

from bench.hostile.answers import of_model

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"]+)"')
_MAX_BYTES: Final = 256 * 2**20
_LOWEST_PRIORITY: Final = 19


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            model = _MODEL.search(await reader.readexactly(int(length[1]) if length else 0))
            answer = of_model(model[1].decode()) if model else None
            if answer is None:
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                continue
            writer.write(answer.start)
            await writer.drain()
            sent = 0
            while answer.more and sent < _MAX_BYTES:
                writer.write(answer.more)
                await writer.drain()
                sent += len(answer.more)
            if answer.more:
                break
    writer.close()


async def listen(port: int) -> asyncio.Server:
    """Listen on 127.0.0.1; port 0 is any free one."""
    return await asyncio.start_server(_serve, "127.0.0.1", port)


async def main(port: int) -> None:
    """Serve until the process is ended."""
    await (await listen(port)).serve_forever()


if __name__ == "__main__":
    os.nice(_LOWEST_PRIORITY)  # the neighbour's provider and client come first, so that only the gateway is measured
    uvloop.run(main(int(sys.argv[1])))
