"""Describes what a run is of: commit, versions, machine, and the load of other processes."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.processes import ROOT
from bench.results import Cores, Run
from bench.scenario import BudgetRow
from bench.systems.contract import System

_PACKAGES: Final = ("uvloop", "httptools", "aiohttp", "msgspec")


class BackgroundLoad:
    """Measures the CPU time of all other processes from here on. The bench's own children must have ended before it is read."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._others_s = _others_s()

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start_s

    def others_cores(self) -> float:
        """The average number of cores that other processes kept busy."""
        return max(0.0, (_others_s() - self._others_s) / self.seconds())


def _others_s() -> float:
    """CPU time of the whole machine (user to steal, without idle and iowait), less the bench's own."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    busy_s = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return busy_s - sum(use.ru_utime + use.ru_stime for use in own)


def new_run(plan: str, cores: Cores, systems: Mapping[str, System], budget: tuple[BudgetRow, ...]) -> Run:
    """Returns a run of these systems without measurements."""
    present = {name: system for name, system in systems.items() if system.command() is not None}
    return Run(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=current_commit(),
        plan=plan,
        machine=_machine(),
        versions={system.title: system.version() for system in present.values()}
        | {"Python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        titles={"direct": "direct"} | {name: system.title for name, system in systems.items()},
        cores=cores,
        absent={name: system.install_hint for name, system in systems.items() if name not in present},
        budget=budget,
    )


def current_commit() -> str:
    """The commit of the working tree, with a mark if files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def tree_version() -> str:
    """The version of this tree, whatever is installed."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "proxy" / "kyma_proxy" / "__init__.py").read_text(), re.MULTILINE)
    return found[1] if found is not None else "unknown"


def _machine() -> dict[str, str | int | float]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
    }
