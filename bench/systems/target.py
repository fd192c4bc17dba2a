"""Starting a system, until the provider's first answer comes through it, and ending it with all that it has started.

What it needs and what it prints lies in a directory of its own, which is removed with it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from bench.client import Headers, request_bytes
from bench.processes import Process, answers, free_port
from bench.systems.contract import Place, System


class Target(msgspec.Struct, kw_only=True):
    """A system that answers: where, what a request needs beside an OpenAI client's, and its process (`direct` has none).

    `log` is an access log that says what the system took of the time itself: the gateway's, where it writes one.
    """

    name: str
    port: int
    headers: Headers = ()
    process: Process | None = None
    home: Path | None = None
    log: Path | None = None
    start_s: float | None = None

    @classmethod
    def direct(cls, place: Place) -> Target:
        """No system at all: the provider itself, which the others are compared with."""
        return cls(name="direct", port=place.provider_port)

    @property
    def pid(self) -> int | None:
        """The process whose tree is the system."""
        return self.process.pid if self.process is not None else None

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.process is None or self.process.alive()

    def last_words(self) -> str:
        """The end of what it has printed."""
        return self.process.last_words() if self.process is not None else ""

    def stop(self) -> None:
        """End the process and remove its directory."""
        if self.process is not None:
            self.process.stop()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)


def start(system: System, place: Place) -> Target:
    """Start a system and wait until the provider's first answer comes through it. Raises RuntimeError, with its last words."""
    command = system.command()
    if command is None:
        raise RuntimeError(f"{system.title} is not installed: {system.how_to_get}")
    home = Path(tempfile.mkdtemp(prefix=f"bench-{system.name}-"))
    target = Target(name=system.name, port=free_port(), headers=system.headers(place), home=home)
    try:
        arguments = system.prepare(home, target.port, place)
        process = Process([*command, *arguments], home / "output", place.core, system.environment(place))
        target.process = process
        request = request_bytes(target.port, "short", stream=False, headers=target.headers)
        process.wait_until(lambda: answers(target.port, request), system.patience_s)
        target.start_s = process.age_s()
        if system.log is not None and (home / system.log).exists():
            target.log = home / system.log
    except BaseException:
        target.stop()
        raise
    return target
