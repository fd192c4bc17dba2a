"""Starts and ends processes, and reads the CPU time and memory of a process tree from `/proc`.

CPU time comes from `schedstat`, in nanoseconds; the fallback, `/proc/PID/stat`, counts in steps of 10 ms.
Memory is the proportional set size (PSS): pages that a master and its workers share are counted once.
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


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    pids = [pid]
    for parent in pids:
        for children in (_PROC / str(parent) / "task").glob("*/children"):
            try:
                pids += map(int, children.read_text().split())
            except OSError:
                continue
    return pids


def cpu_ns(pid: int) -> int:
    """The CPU time of the process tree since its start; 0 if the process is gone."""
    return sum(map(_cpu_ns, process_tree(pid)))


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
    """The proportional set size of the process tree."""
    return sum(map(_memory_bytes, process_tree(pid)))


def _memory_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def is_answering(port: int, request: bytes, timeout_s: float = 5.0) -> bool:
    """True if the request is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(request)
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def raise_file_limit() -> int:
    """Raise the limit of open files to its maximum, for this process and its children; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Process:
    """A child process in a session of its own, so that Ctrl-C reaches only the bench. It ends when the bench ends."""

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
                preexec_fn=preexec(core),  # noqa: PLW1509  the bench has no threads
            )
        self.pid = self._child.pid

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Return once it is ready. Raises RuntimeError, with the end of its output, if it ends or takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            if not self.is_alive():
                raise RuntimeError(f"the process ended with {self._child.returncode}: {self.output_tail()}")
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"the process did not answer within {timeout_s:g} s: {self.output_tail()}")
            time.sleep(0.002)

    def age_s(self) -> float:
        """Seconds since its start."""
        return (time.monotonic_ns() - self.started_ns) / 1e9

    def is_alive(self) -> bool:
        """True while it runs."""
        return self._child.poll() is None

    def ends_within(self, timeout_s: float) -> bool:
        """Wait for its end; returns True if it has ended. A dying process closes its connections a moment before it ends."""
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def output_tail(self) -> str:
        """The end of its output."""
        return self._log.read_text(errors="replace").strip()[-400:] or "(no output)"

    def stop(self) -> None:
        """End it and its children with SIGTERM, then with SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            try:
                self._child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        self._child.wait(_GRACE_S)


def preexec(core: int | None) -> Callable[[], None]:
    """Returns the function that a child runs before exec: it pins the core and makes the child die with its parent."""

    def prepare() -> None:
        _libc.prctl(_SET_PDEATHSIG, signal.SIGTERM)
        if core is not None:
            os.sched_setaffinity(0, {core})

    return prepare
