"""Runs the commands that print keys: side by side, each with a time limit, and without its output ever being shown.

It blocks, so it is called in a thread.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Final

from kyma_proxy.loading.outside_values import Command, Unavailable

_MAX_OUTPUT_BYTES: Final = 16 * 1024
"""More than any header may have; a token of Google's or Amazon's has some 2,000 bytes."""


class KeyCommands:
    """Runs commands. `stop` ends those that run, and lets none begin."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = False
        self._lock = threading.Lock()  # else one could begin in the moment of `stop`, and be waited for

    def run(self, commands: Iterable[Command]) -> dict[Command, str | Unavailable]:
        """The output of each command, or why there is none."""
        started: dict[Command, subprocess.Popen[bytes] | Unavailable] = {one: self._start(one) for one in commands}
        began = monotonic()
        results: dict[Command, str | Unavailable] = {}
        for command, process in started.items():
            results[command] = process if isinstance(process, Unavailable) else self._finish(process, command, began)
        return results

    def stop(self) -> None:
        """End what runs, so that the threads that wait for it end."""
        with self._lock:
            self._is_stopped = True
            for process in self._running:
                _kill_group(process)

    def _start(self, command: Command) -> subprocess.Popen[bytes] | Unavailable:
        with self._lock:
            return self._started(command)

    def _started(self, command: Command) -> subprocess.Popen[bytes] | Unavailable:
        if self._is_stopped:
            return Unavailable("was not run, as the gateway stops")
        try:
            # In a session of its own, so that it ends with everything that it has started, and has no terminal to ask.
            process = subprocess.Popen(  # noqa: S603  (the operator's own command, without a shell)
                command.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "not a command"
            return Unavailable(f"can't be run: {reason}")
        self._running.add(process)
        return process

    def _finish(self, process: subprocess.Popen[bytes], command: Command, began: float) -> str | Unavailable:
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        try:
            output = _read(process, began + command.timeout_s)
            if output is None:
                return Unavailable(f"did not end within {command.timeout_s:g} s")
            if len(output) > _MAX_OUTPUT_BYTES:
                return Unavailable(f"printed more than {_MAX_OUTPUT_BYTES // 1024} KiB")
            try:
                status = process.wait(max(0.0, began + command.timeout_s - monotonic()))
            except subprocess.TimeoutExpired:
                return Unavailable(f"did not end within {command.timeout_s:g} s")
            if status:
                how = f"was ended by signal {-status}" if status < 0 else f"failed with exit status {status}"
                return Unavailable(f"{how}; run it by hand to see why")
            return output.decode("utf-8", "replace")
        finally:
            with self._lock:
                self._running.discard(process)
                _kill_group(process)
            process.stdout.close()
            process.wait()


def _read(process: subprocess.Popen[bytes], due: float) -> bytes | None:
    """The standard output to its end, or a little more than may be; None if the time is over before."""
    assert process.stdout is not None  # noqa: S101  (it is a pipe)
    output = bytearray()
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    while len(output) <= _MAX_OUTPUT_BYTES:
        if not poll.poll(max(0.0, due - monotonic()) * 1000):
            return None
        piece = os.read(process.stdout.fileno(), _MAX_OUTPUT_BYTES)
        if not piece:
            break
        output += piece
    return bytes(output)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a command with everything that it has started, unless it has ended: its number could be another's by now."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
