"""Runs a gateway that tells what it holds: for each line that it reads, it writes its state as a line of JSON.

    python -m tests.faults.observed_gateway DIRECTORY

The directory has its configuration, `gateway.yaml`. The first line that it writes is its port; it ends with its input.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import msgspec
import uvloop

from bench.processes import process_tree
from kyma_proxy.ops import memory
from tests.harness import Gateway, gateway


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The things that a gateway holds, as numbers; `held` is in nano-dollars, `memory_mib` of its own process alone."""

    memory_mib: float
    tasks: int
    sockets: int
    connections: int
    in_flight: int
    held: int
    buffered: int
    threads: int
    children: int
    waiting: int


def state_of(running: Gateway) -> State:
    """The present state of a gateway in this process."""
    app, service = running.app, running.app.account_service
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return State(
        memory_mib=round(int(resident.split()[1]) / 1024, 1),
        tasks=len(asyncio.all_tasks()),
        sockets=_sockets(),
        connections=len(app.listener.connections) + app.listener.waiting,
        in_flight=app.gateway.in_flight,
        held=sum(one.held + one.unheld for one in service.accounts) if service is not None else 0,
        buffered=app.listener.buffered,
        threads=threading.active_count(),
        children=len(process_tree(_own_pid())) - 1,
        waiting=app.worker.waiting,
    )


def _own_pid() -> int:
    return int(Path("/proc/self").resolve().name)


def _sockets() -> int:
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except OSError:  # the descriptor of the listing itself
            continue
    return count


async def main(directory: Path) -> None:
    """Serve until the standard input ends."""
    text = (directory / "gateway.yaml").read_text()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with gateway(text, directory) as running:
        memory.freeze_collector()
        print(running.port, flush=True)
        while await reader.readline():
            print(msgspec.json.encode(state_of(running)).decode(), flush=True)


if __name__ == "__main__":
    memory.keep_freed_memory()
    uvloop.run(main(Path(sys.argv[1])))
