"""The run as a whole: the provider, the systems that stay up, and the load generator, each on its core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec
import trustme

from bench.client import request_bytes
from bench.load import Order, Result
from bench.processes import ROOT, Process, answers, before_exec, free_port, most_files
from bench.results import Roles
from bench.scenario import Point
from bench.systems.contract import Place, System
from bench.systems.target import Target, start

_PATIENCE_S: Final = 15.0


def roles(*, pin: bool) -> Roles:
    """The system under test has the last core for itself; provider and load share the others."""
    cores = sorted(os.sched_getaffinity(0))
    if not pin or len(cores) < 2:
        return Roles()
    return Roles(system=cores[-1], provider=cores[0], load=cores[1] if len(cores) > 2 else cores[0])


class Bench:
    """`with Bench(…) as bench` starts the provider; on the way out everything is ended and removed."""

    def __init__(self, systems: Mapping[str, System], cores: Roles, points: Sequence[Point]) -> None:
        most_files()
        self._systems = systems
        self._cores = cores
        self._models = tuple(dict.fromkeys(("short", *(point.provider.model for point in points))))
        self._home = Path(tempfile.mkdtemp(prefix="bench-"))
        self._targets: dict[tuple[str, bool], Target] = {}
        self._port, self._tls_port = free_port(), free_port()
        certificate = self._certify()
        command = [sys.executable, "-m", "bench.provider", str(self._port), str(self._tls_port), str(certificate)]
        self._provider = Process(command, self._home / "provider", cores.provider)

    def __enter__(self) -> Bench:
        request = request_bytes(self._port, "short", stream=False)
        try:
            self._provider.wait_until(lambda: answers(self._port, request))
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

    def target(self, name: str, point: Point) -> Target:
        """The system that stays up; started where it is not there or has ended. Raises RuntimeError."""
        target = self._targets.get((name, point.tls))
        if target is None or not target.is_alive():
            if target is not None:
                target.stop()
            target = self._targets[name, point.tls] = self.fresh(name, point)
        return target

    def retire(self, names: Container[str]) -> None:
        """End those of these names, and all that speak TLS: their timers would wake on the core that is measured."""
        for key in [key for key in self._targets if key[0] in names or key[1]]:
            self._targets.pop(key).stop()

    def fresh(self, name: str, point: Point) -> Target:
        """The system as the point wants it, just started; whoever asked ends it. Raises RuntimeError."""
        place = Place(
            provider_port=self._tls_port if point.tls else self._port,
            core=self._cores.system,
            models=self._models,
            bytecode=self._home / "bytecode",
            tls=self._home / "authority.pem" if point.tls else None,
            more_models=point.more_models,
            accounts=point.accounts,
            gateway=point.gateway,
        )
        return Target.direct(place) if name == "direct" else start(self._systems[name], place)

    def play(self, target: Target, order: Order) -> Result:
        """Play a load against a system, from a process of its own. Raises RuntimeError where anything is wrong."""
        order = msgspec.structs.replace(order, pid=target.pid, headers=target.headers)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.load", msgspec.json.encode(order).decode()],
                capture_output=True,
                text=True,
                timeout=order.load.timeout_s + _PATIENCE_S,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=before_exec(self._cores.load),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError("the load generator hangs") from None
        if done.returncode:
            raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-300:]}")
        result = msgspec.json.decode(done.stdout, type=Result)
        if result.failed is None:
            return result
        if not target.is_alive():
            raise RuntimeError(f"it died: {target.last_words()}")
        raise RuntimeError(f"{result.failed} ({result.errors} in all)")

    def _certify(self) -> Path:
        """A certificate for the provider, and its authority beside it."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._home / "authority.pem"))
        certificate = self._home / "provider.pem"
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        return certificate
