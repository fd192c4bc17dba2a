"""What Linux tells of a process and its children, and how the bench starts and ends them.

Processor time is taken from `schedstat`, in nanoseconds; `/proc/PID/stat`, the fallback, counts in steps of 10 ms.
Memory is the proportional set size: what a master and its workers share is counted once.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_PROC: Final = Path("/proc")
_SET_PDEATHSIG: Final = 1
_GRACE_S: Final = 3.0
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_libc: Final = ctypes.CDLL(None)


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in (_PROC / str(parent) / "task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def cpu_ns(pid: int) -> int:
    """Processor time of the tree since its start; 0 for one that is gone."""
    return sum(map(_cpu_ns, tree(pid)))


def _cpu_ns(pid: int) -> int:
    try:
        threads = [path.read_text() for path in (_PROC / str(pid) / "task").glob("*/schedstat")]
        if threads:
            return sum(int(line.split()[0]) for line in threads)
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_NS
    except OSError:
        return 0


def memory_bytes(pid: int) -> int:
    """Proportional set size of the tree."""
    return sum(map(_memory_bytes, tree(pid)))


def _memory_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, request: bytes, timeout_s: float = 5.0) -> bool:
    """Whether the request is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(request)
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def most_files() -> int:
    """How many descriptors a process may have at most; this one, and its children with it, now may have them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Process:
    """A child in a session of its own, so that Ctrl-C reaches only the bench; it ends when the bench ends."""

    def __init__(
        self, arguments: Sequence[str], log: Path, core: int | None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        self.started_ns = time.monotonic_ns()
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
                preexec_fn=before_exec(core),  # noqa: PLW1509  the bench has no threads
            )
        self.pid = self._child.pid

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Return once it is ready. Raises RuntimeError, with its last words, where it ends or takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            if not self.alive():
                raise RuntimeError(f"it ended with {self._child.returncode}: {self.last_words()}")
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"it did not answer within {timeout_s:g} s: {self.last_words()}")
            time.sleep(0.002)

    def age_s(self) -> float:
        """How long ago it was started."""
        return (time.monotonic_ns() - self.started_ns) / 1e9

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.poll() is None

    def last_words(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text(errors="replace").strip()[-400:] or "it printed nothing"

    def stop(self) -> None:
        """End it and all that it has started: politely, then not."""
        for asked in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, asked)
            except ProcessLookupError:
                break
            try:
                self._child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        self._child.wait(_GRACE_S)


def before_exec(core: int | None) -> Callable[[], None]:
    """What a child does before it becomes another program: take its core, and agree to die with its parent."""

    def prepare() -> None:
        _libc.prctl(_SET_PDEATHSIG, signal.SIGTERM)
        if core is not None:
            os.sched_setaffinity(0, {core})

    return prepare
