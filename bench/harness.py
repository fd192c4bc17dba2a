"""The harness of a run: starts the provider, the systems under test and the load generator, each on its core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec
import trustme

from bench.client import request_bytes
from bench.hostile.attack import attack, start_hostile_provider
from bench.load import LoadResult, Workload
from bench.processes import ROOT, Process, free_port, is_answering, preexec, raise_file_limit
from bench.reloads import reloading
from bench.results import Cores
from bench.scenario import Point
from bench.systems.contract import Deployment, System
from bench.systems.target import Target, start

_GRACE_S: Final = 15.0
_FILES_A_CONNECTION: Final = 2
"""Of a gateway, which has one to the provider for each."""
_OTHER_FILES: Final = 100
_DYING_S: Final = 0.5

GenerateLoad = Callable[[Workload, int | None], LoadResult]
"""Sends a load from this core, or from any. Raises RuntimeError."""


def assign_cores(*, pin: bool) -> Cores:
    """The system under test has the last core for itself; the provider and the load generator share the others."""
    cores = sorted(os.sched_getaffinity(0))
    if not pin or len(cores) < 2:
        return Cores()
    return Cores(system=cores[-1], provider=cores[0], load=cores[1] if len(cores) > 2 else cores[0])


def start_provider(log: Path, core: int | None, port: int, *tls: str) -> Process:
    """Start the scripted provider on this port; `tls` is a second port and the certificate's file. Raises RuntimeError."""
    provider = Process([sys.executable, "-m", "bench.provider", str(port), *tls], log, core)
    request = request_bytes(port, "short", stream=False)
    try:
        provider.wait_until(lambda: is_answering(port, request))
    except BaseException:
        provider.stop()
        raise
    return provider


def generate_load(workload: Workload, core: int | None) -> LoadResult:
    """Send a load from a process of its own. Raises RuntimeError if that process fails or hangs."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", msgspec.json.encode(workload).decode()],
            capture_output=True,
            text=True,
            timeout=workload.load.timeout_s + _GRACE_S,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=preexec(core),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError("the load generator hangs") from None
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-300:]}")
    return msgspec.json.decode(done.stdout, type=LoadResult)


class Harness:
    """`with Harness(…) as harness` starts the provider; on exit all processes are ended and all files removed."""

    def __init__(self, systems: Mapping[str, System], cores: Cores, points: Sequence[Point], generate: GenerateLoad) -> None:
        self._most_files = raise_file_limit()
        self._systems = systems
        self._cores = cores
        self._generate = generate
        self._models = tuple(dict.fromkeys(("short", *(point.provider.model for point in points))))
        self._home = Path(tempfile.mkdtemp(prefix="bench-"))
        self._targets: dict[tuple[str, bool], Target] = {}
        self._port, self._tls_port = free_port(), free_port()
        self._hostile_port = free_port() if any(point.load.hostile for point in points) else 0
        self._provider: Process | None = None
        self._hostile_provider: Process | None = None

    def __enter__(self) -> Harness:
        try:
            tls = (str(self._tls_port), str(self._write_certificate()))
            self._provider = start_provider(self._home / "provider", self._cores.provider, self._port, *tls)
            if self._hostile_port:
                log = self._home / "hostile-provider"
                self._hostile_provider = start_hostile_provider(log, self._cores.load, self._hostile_port)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and remove all files."""
        for target in self._targets.values():
            target.stop()
        for provider in (self._provider, self._hostile_provider):
            if provider is not None:
                provider.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def target(self, name: str, point: Point) -> Target:
        """The system that keeps running between rounds; started if it does not run. Raises RuntimeError."""
        target = self._targets.get((name, point.tls))
        if target is None or not target.is_alive():
            if target is not None:
                target.stop()
            target = self._targets[name, point.tls] = self.start_target(name, point)
        return target

    def stop_targets(self, names: Container[str]) -> None:
        """End the named systems, and all that speak TLS: their timers would wake on the core that is measured."""
        for key in [key for key in self._targets if key[0] in names or key[1]]:
            self._targets.pop(key).stop()

    def start_target(self, name: str, point: Point) -> Target:
        """Start a system as the point configures it; the caller ends it. Raises RuntimeError."""
        deployment = Deployment(
            provider_port=self._tls_port if point.tls else self._port,
            core=self._cores.system,
            models=self._models,
            bytecode=self._home / "bytecode",
            tls=self._home / "authority.pem" if point.tls else None,
            more_models=point.more_models,
            accounts=point.accounts,
            hostile_port=self._hostile_port if point.load.hostile else 0,
            gateway=point.gateway,
        )
        return Target.direct(deployment) if name == "direct" else start(self._systems[name], deployment)

    def run_load(self, target: Target, workload: Workload) -> LoadResult:
        """Send a load to a system. Raises RuntimeError if anything fails."""
        workload = msgspec.structs.replace(workload, pid=target.pid, headers=target.headers)
        load = workload.load
        files = _FILES_A_CONNECTION * load.connections + _OTHER_FILES
        if files > self._most_files:
            raise RuntimeError(f"{load.connections} connections need {files} open files; a process may have {self._most_files}")
        with (
            attack(target.port, load.hostile, self._home / "attack", self._cores.load),
            reloading(target, load.reloads, load.window_s or 1.0, self._home / "reloads", self._cores.load),
        ):
            result = self._generate(workload, self._cores.load)
        if result.failed is None:
            return result
        if target.ends_within(_DYING_S):
            raise RuntimeError(f"the system died: {target.output_tail()}")
        raise RuntimeError(f"{result.failed} ({result.errors} errors in all)")

    def _write_certificate(self) -> Path:
        """Write a certificate for the provider, and its authority beside it."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._home / "authority.pem"))
        certificate = self._home / "provider.pem"
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        return certificate
