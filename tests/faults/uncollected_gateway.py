"""Runs a gateway without the garbage collector: for each line that it reads, it writes what only the collector would free.

    python -m tests.faults.uncollected_gateway DIRECTORY

The directory has its configuration, `gateway.yaml`. The first line that it writes is its port; each later one is a JSON object,
from the name of a type to the number of its objects that were left in cycles since the line before. It ends with its input.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import sys
from pathlib import Path

import msgspec
import uvloop

from tests.harness import gateway


async def main(directory: Path) -> None:
    """Serve until the standard input ends."""
    text = (directory / "gateway.yaml").read_text()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with gateway(text, directory) as running:
        gc.collect()
        gc.freeze()  # what is there now lasts, and a run need not look at it
        print(running.port, flush=True)
        while await reader.readline():
            await running.is_at_rest()
            for _ in range(20):  # what has ended is let go of in the turns that follow
                await asyncio.sleep(0)
            print(msgspec.json.encode(_collected()).decode(), flush=True)


def _collected() -> dict[str, int]:
    """The objects that a run of the collector finds in cycles, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    counts = collections.Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    return dict(counts)


if __name__ == "__main__":
    gc.disable()
    uvloop.run(main(Path(sys.argv[1])))
