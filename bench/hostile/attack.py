"""Starts and ends the processes of an attack: the hostile provider and the hostile caller."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import Process

_MAX_ANSWER_S: Final = "20"


def start_hostile_provider(log: Path, core: int | None, port: int) -> Process:
    """Start the provider of the hostile answers on this port. Raises RuntimeError."""
    provider = Process([sys.executable, "-m", "bench.hostile.provider", str(port)], log, core)
    try:
        provider.wait_until(lambda: _is_listening(port))
    except BaseException:
        provider.stop()
        raise
    return provider


@contextmanager
def attack(port: int, name: str, log: Path, core: int | None) -> Iterator[None]:
    """Send the named hostile request again and again during the block, or nothing if the name is empty. Raises RuntimeError."""
    if not name:
        yield
        return
    caller = Process([sys.executable, "-m", "bench.hostile.caller", str(port), "", "0", _MAX_ANSWER_S, name], log, core)
    try:
        caller.wait_until(lambda: b": begun" in log.read_bytes())
        yield
        if not caller.is_alive():
            raise RuntimeError(f"the hostile caller ended: {caller.output_tail()}")
    finally:
        caller.stop()


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
