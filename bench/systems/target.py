"""Starts a system, waits for the first answer through it, and ends it with all its child processes.

Its configuration and its output are in a directory of its own, which is removed at the end.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from bench.client import Headers, request_bytes
from bench.processes import Process, free_port, is_answering
from bench.systems.contract import Deployment, System


class Target(msgspec.Struct, kw_only=True):
    """A running system: its port, the further headers of a request, and its process (`direct` has none).

    `log` is an access log that contains the system's own overhead. Only the gateway writes one.
    """

    name: str
    port: int
    headers: Headers = ()
    process: Process | None = None
    home: Path | None = None
    log: Path | None = None
    start_s: float | None = None

    @classmethod
    def direct(cls, deployment: Deployment) -> Target:
        """The provider itself, without a system in front of it: the control."""
        return cls(name="direct", port=deployment.provider_port)

    @property
    def pid(self) -> int | None:
        """The root of the system's process tree."""
        return self.process.pid if self.process is not None else None

    def is_alive(self) -> bool:
        """True while it runs."""
        return self.process is None or self.process.is_alive()

    def ends_within(self, timeout_s: float) -> bool:
        """Wait for the end of its process; returns True if it has ended."""
        return self.process is not None and self.process.ends_within(timeout_s)

    def output_tail(self) -> str:
        """The end of its output."""
        return self.process.output_tail() if self.process is not None else ""

    def stop(self) -> None:
        """End the process and remove its directory."""
        if self.process is not None:
            self.process.stop()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)


def start(system: System, deployment: Deployment) -> Target:
    """Start a system and wait for the first answer through it. Raises RuntimeError, with the end of its output."""
    command = system.command()
    if command is None:
        raise RuntimeError(f"{system.title} is not installed: {system.install_hint}")
    home = Path(tempfile.mkdtemp(prefix=f"bench-{system.name}-"))
    target = Target(name=system.name, port=free_port(), headers=system.headers(deployment), home=home)
    try:
        arguments = system.prepare(home, target.port, deployment)
        process = Process([*command, *arguments], home / "output", deployment.core, system.environment(deployment))
        target.process = process
        request = request_bytes(target.port, "short", stream=False, headers=target.headers)
        process.wait_until(lambda: is_answering(target.port, request), system.start_timeout_s)
        target.start_s = process.age_s()
        if system.log is not None and (home / system.log).exists():
            target.log = home / system.log
    except BaseException:
        target.stop()
        raise
    return target
