"""Reloads a gateway's configuration again and again, at equal distances in time, while the events of its streams are measured.

python -m bench.reloads PID CONFIGURATION OUTPUT NUMBER INTERVAL_S
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import Process
from bench.systems.target import Target

_MAX_RELOAD_S: Final = 30.0
_MAX_REST_S: Final = 180.0
"""For those reloads that a slow machine has not done within the window."""
_LOOK_S: Final = 0.02
_DONE: Final = b"reload (SIGHUP)"
_IN_FORCE: Final = b"is in force"


@contextmanager
def reloading(target: Target, number: int, window_s: float, log: Path, core: int | None) -> Iterator[None]:
    """Reload the system's configuration so many times during the block. Raises RuntimeError if one fails or is late."""
    if not number or target.home is None or target.pid is None:
        yield
        return
    paths = (str(target.home / "gateway.yaml"), str(target.home / "output"))
    line = [sys.executable, "-m", "bench.reloads", str(target.pid), *paths, str(number), str(window_s / number)]
    process = Process(line, log, core)
    try:
        yield
        process.wait_until(lambda: b"all done" in log.read_bytes(), _MAX_REST_S)
    finally:
        process.stop()


def main(arguments: list[str]) -> None:
    """Do it, and say so at the end. Raises RuntimeError if a reload fails."""
    pid, path, output, number, interval_s = (
        int(arguments[0]),
        Path(arguments[1]),
        Path(arguments[2]),
        *map(float, arguments[3:]),
    )
    text = path.read_text()
    started = time.monotonic()
    for at in range(round(number)):
        time.sleep(max(0.0, started + at * interval_s - time.monotonic()))
        _reload(pid, path, f"{text}{' ' * at}\n", output)
    sys.stdout.write("all done\n")
    sys.stdout.flush()
    time.sleep(_MAX_RELOAD_S)


def _reload(pid: int, path: Path, text: str, output: Path) -> None:
    begun = len(output.read_bytes())
    path.write_text(text)
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + _MAX_RELOAD_S
    while True:
        lines = [line for line in output.read_bytes()[begun:].splitlines() if _DONE in line]
        if lines:
            break
        if time.monotonic() > deadline:
            raise RuntimeError("a reload does not end")
        time.sleep(_LOOK_S)
    if not any(_IN_FORCE in line for line in output.read_bytes()[begun:].splitlines()):
        raise RuntimeError(f"a reload has failed: {lines[0].decode(errors='replace')}")


if __name__ == "__main__":
    main(sys.argv[1:])
