"""Finds the programs of the systems and their versions.

A peer that is a package has a directory of its own in the repository, so that its requirements are independent of all others;
`bench.peers` creates it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.processes import ROOT

_MORE_PATH: Final = ":/usr/sbin:/usr/local/sbin"
INSTALL_HINT: Final = "make bench-peers (python -m bench.peers)"


def find_program(name: str) -> tuple[str, ...] | None:
    """Finds a program by name, also in sbin, where the servers are and which is not in a user's PATH."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + _MORE_PATH)
    return (path,) if path else None


def install_directory(peer: str) -> Path:
    """The directory into which a peer is installed."""
    return ROOT / f".venv-{peer}"


def venv_python(peer: str) -> Path:
    """The interpreter of a peer's virtual environment."""
    return install_directory(peer) / "bin" / "python"


def package_version(peer: str) -> str:
    """The version of a peer's Python package, from its metadata: to import the package would take seconds."""
    return version_line(
        [str(venv_python(peer)), "-c", f"import importlib.metadata; print(importlib.metadata.version({peer!r}))"]
    )


def version_line(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """The first line of a program's output, without a prefix `version: `; `unknown` if the program fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].rpartition("version: ")[2].strip() if lines and not done.returncode else "unknown"
