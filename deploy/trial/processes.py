"""Runs what the trial consists of, in empty directories below one private home: commands, the gateway, the application."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 60.0


class Failed(Exception):
    """A step that did not go as it should."""


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until the condition is true. Raises Failed."""
    due = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > due:
            raise Failed(f"after {patience_s:g} s still not: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Home:
    """A directory that nobody else can read, and an environment that knows of nothing but it."""

    def __init__(self, path: Path, registry: Mapping[str, str]) -> None:
        """`registry` are the settings of pip, which only the installation gets."""
        self.path = path
        self._registry = registry
        self._environment = {"HOME": str(path), "PATH": f"{path}/venv/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        self._running: list[Running] = []

    def empty(self, name: str) -> Path:
        """A new directory with nothing in it."""
        made = self.path / name
        made.mkdir()
        return made

    def install(self, python: Path, *packages: str) -> None:
        """Make an environment with these packages. Raises Failed."""
        self.run(self.path, str(python), "-m", "venv", "venv")
        self.run(self.path, "python", "-m", "pip", "--quiet", "install", *packages, **self._registry)
        self.run(self.path, "python", "-m", "pip", "--quiet", "check")

    def run(self, directory: Path, *line: str, code: int = 0, **more: str) -> str:
        """Run a command to its end; returns what it prints. Raises Failed."""
        done = subprocess.run(
            self._line(line), cwd=directory, env={**self._environment, **more}, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        if done.returncode != code:
            raise Failed(f"{' '.join(line)}\nended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def start(self, directory: Path, name: str, *line: str, **more: str) -> Running:
        """Start a process that is ended with the trial; its standard error goes to NAME.err in its directory."""
        started = Running(self._line(line), directory, directory / f"{name}.err", {**self._environment, **more})
        self._running.append(started)
        return started

    def _line(self, line: tuple[str, ...]) -> list[str]:
        """The command, from the environment's own directory if it is there: the path of this process is another."""
        own = self.path / "venv" / "bin" / line[0]
        return [str(own) if own.exists() else line[0], *line[1:]]

    def close(self) -> None:
        """End what still runs."""
        for one in self._running:
            one.kill()


class Running:
    """A process of the trial."""

    def __init__(self, line: list[str], directory: Path, errors: Path, environment: dict[str, str]) -> None:
        self._errors = errors
        self._output = b""
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                line, cwd=directory, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )

    @property
    def errors(self) -> str:
        """The text of its standard error so far."""
        return self._errors.read_text()

    @property
    def has_ended(self) -> bool:
        """True if it has ended."""
        return self.process.poll() is not None

    def line(self) -> str:
        """The next line of its standard output. Raises Failed if it ends without one, or is silent for too long."""
        assert self.process.stdout is not None
        due = time.monotonic() + PATIENCE_S
        while b"\n" not in self._output:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, due - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                raise Failed(f"{self.process.args} says nothing; its errors:\n{self.errors}")
            self._output += piece
        line, _, self._output = self._output.partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """The JSON that it prints at its end, which the end of its standard input brings about. Raises Failed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        found = json.loads(self.line())
        if self.process.wait(PATIENCE_S):
            raise Failed(f"{self.process.args} ended with {self.process.returncode}:\n{self.errors}")
        return dict(found)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
