"""Where the systems' programs are, and what they say of their version. Peers that are packages have environments of
their own beside the repository's files, so that their requirements meet nobody else's; `bench.peers` makes them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.processes import ROOT

_ALSO: Final = ":/usr/sbin:/usr/local/sbin"
HOW_TO_GET_PEERS: Final = "make bench-peers (python -m bench.peers)"


def found(name: str) -> tuple[str, ...] | None:
    """A program of the machine, by name; a user's PATH has no sbin, where the servers are."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + _ALSO)
    return (path,) if path else None


def room(peer: str) -> Path:
    """The directory that a peer is installed into."""
    return ROOT / f".venv-{peer}"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's virtual environment."""
    return room(peer) / "bin" / "python"


def release(peer: str) -> str:
    """The version of the Python package that a peer's virtual environment is for; to import it would take seconds."""
    return said([str(python_of(peer)), "-c", f"import importlib.metadata as it; print(it.version({peer!r}))"])


def said(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """The first line that a program prints, without the words before a version; `unknown` where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].rpartition("version: ")[2].strip() if lines and not done.returncode else "unknown"
