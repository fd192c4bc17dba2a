"""A caller who sends hostile requests, or asks for hostile answers, one after the other. It prints each ending on a line.

    python -m bench.hostile.caller PORT KEY PAUSE_S MAX_S NAME …

A name is that of a body or of an answer; KEY may be empty; an answer is read for MAX_S at most. It goes on until the process is
ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from typing import Final

import uvloop

from bench.hostile.answers import ANSWERS, model_of
from bench.hostile.bodies import BODIES

_LOWEST_PRIORITY: Final = 19


def request_of(name: str, key: str) -> bytes:
    """The request of a body's or an answer's name. Raises KeyError."""
    if name in BODIES:
        endpoint, make = BODIES[name]
        body = make()
    else:
        answer = ANSWERS[name]
        endpoint = answer.endpoint
        document = {
            "model": model_of(name), "stream": answer.is_stream, "max_tokens": 5,
            "messages": [{"role": "user", "content": "x"}],
        }  # fmt: skip
        body = json.dumps(document).encode()
    credential = f"x-api-key: {key}\r\n" if key else ""
    head = (
        f"POST /v1/{endpoint} HTTP/1.1\r\nhost: 127.0.0.1\r\n{credential}connection: close\r\ncontent-length: {len(body)}\r\n"
    )
    return f"{head}\r\n".encode() + body


async def ending_of(port: int, request: bytes, max_s: float) -> str:
    """Send a request and read its answer to the end; returns the status, or `no answer`."""
    status = "no answer"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(max_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            line = await reader.readline()
            status = line.decode("latin-1").split(" ")[1] if line else status
            while await reader.read(2**18):
                pass
    except (OSError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.close()
    return status


async def main(port: int, key: str, pause_s: float, max_s: float, names: list[str]) -> None:
    """Send the requests again and again."""
    only = request_of(names[0], key) if len(names) == 1 else None
    for name in itertools.cycle(names):
        request = request_of(name, key) if only is None else only
        print(f"{name}: begun", flush=True)
        print(f"{name}: {await ending_of(port, request, max_s)}", flush=True)
        await asyncio.sleep(pause_s)


if __name__ == "__main__":
    os.nice(_LOWEST_PRIORITY)
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]))
