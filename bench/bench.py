"""The run as a whole: the provider, the systems that stay up, and the load generator, each on its core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from bench.client import request_bytes
from bench.configurations import Place
from bench.load import Load, Result
from bench.processes import ROOT, Process, answers, before_exec, free_port, most_files
from bench.rows import Plan
from bench.systems import Target, start

_PATIENCE_S: Final = 15.0


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """Which core does what; None: whichever the kernel likes."""

    system: int | None = None
    provider: int | None = None
    load: int | None = None


def roles(*, pin: bool) -> Roles:
    """The system under test has the last core for itself; provider and load share the others."""
    cores = sorted(os.sched_getaffinity(0))
    if not pin or len(cores) < 2:
        return Roles()
    return Roles(system=cores[-1], provider=cores[0], load=cores[1] if len(cores) > 2 else cores[0])


class Bench:
    """`with Bench(…) as bench` starts the provider; on the way out everything is ended and removed."""

    def __init__(self, plan: Plan, cores: Roles, models: tuple[str, ...]) -> None:
        most_files()
        self.plan = plan
        self._load_core = cores.load
        self._home = Path(tempfile.mkdtemp(prefix="bench-"))
        self._targets: dict[str, Target] = {}
        port = free_port()
        self.place = Place(provider_port=port, core=cores.system, models=models, bytecode=self._home / "bytecode")
        command = [sys.executable, "-m", "bench.provider", str(port)]
        self._provider = Process(command, self._home / "provider", cores.provider)

    def __enter__(self) -> Bench:
        request = request_bytes(self.place.provider_port, "short", stream=False)
        try:
            self._provider.wait_until(lambda: answers(self.place.provider_port, request))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for target in self._targets.values():
            target.stop()
        self._provider.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def target(self, name: str) -> Target:
        """The system that stays up; started where it is not there or has ended. Raises RuntimeError."""
        target = self._targets.get(name)
        if target is not None and (target.process is None or target.process.alive()):
            return target
        if target is not None:
            target.stop()
        self._targets[name] = start(name, self.place)
        return self._targets[name]

    def play(self, target: Target, load: Load) -> Result:
        """Play a load against a system, from a process of its own. Raises RuntimeError where anything is wrong."""
        load = msgspec.structs.replace(load, port=target.port, pid=target.process.pid if target.process else None)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.load", msgspec.json.encode(load).decode()],
                capture_output=True,
                text=True,
                timeout=load.timeout_s + _PATIENCE_S,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=before_exec(self._load_core),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError("the load generator hangs") from None
        if done.returncode:
            raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-300:]}")
        result = msgspec.json.decode(done.stdout, type=Result)
        if result.failed is not None:
            raise RuntimeError(f"{result.failed} ({result.errors} in all)")
        return result
