"""What a run leaves behind: what was measured, of which versions, on which machine, and who disturbed it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import Final

import msgspec

from bench.bench import Roles
from bench.processes import ROOT
from bench.report import Measured
from bench.rows import Plan
from bench.systems import HOW_TO_GET, installed, version

PROXIES: Final = ("gateway", "nginx", "envoy")
_PACKAGES: Final = ("uvloop", "httptools", "aiohttp", "msgspec")


class Run(msgspec.Struct, kw_only=True):
    """What is written to the file: enough to make the table again, and to know what it is of.

    `others_cores` is how many cores everything else on the machine kept busy meanwhile: more than 0.1 disturbs.
    """

    at: str
    commit: str
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    plan: Plan
    cores: Roles
    absent: dict[str, str]
    interrupted: bool = False
    seconds: float = 0.0
    others_cores: float = 0.0
    rows: list[Measured] = []

    def keep(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        draft.replace(path)


class Watch:
    """Tells what the bench has not used of the machine, from here on; its own children must have ended by then."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._others_s = _others_s()

    def seconds(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._start_s

    def others_cores(self) -> float:
        """How many cores all others kept busy, on average."""
        return max(0.0, (_others_s() - self._others_s) / self.seconds())


def _others_s() -> float:
    """Processor time of the whole machine (user to steal, without idle and waiting), less the bench's own."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    busy_s = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return busy_s - sum(use.ru_utime + use.ru_stime for use in own)


def begin(plan: Plan, cores: Roles, names: list[str]) -> Run:
    """A run of these systems, of which nothing is measured yet."""
    present = [name for name in names if installed(name)]
    return Run(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        machine=_machine(),
        versions={name: version(name) for name in present}
        | {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        plan=plan,
        cores=cores,
        absent={name: HOW_TO_GET.get(name, "") for name in names if name not in present},
    )


def _commit() -> str:
    """The commit, marked where files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return said.stdout.strip() or "unknown"


def _machine() -> dict[str, str | int | float]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
    }
