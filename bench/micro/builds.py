"""Which build of the gateway is measured: the one that is installed, or the plain source of this tree.

The measuring process sees one directory and the installed packages, never the working directory. That directory holds the
bench and, for the source, a copy of its plain files: no extension module beside them can step in, and what is edited meanwhile
changes nothing in mid-run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.micro.report import Build

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGE: Final = ROOT / "proxy" / "kyma_proxy"
NAMES: Final = ("installed", "source")
_PROBE: Final = "import bench.micro.child, kyma_proxy.gateway; print(kyma_proxy.gateway.__file__)"
_PATIENCE_S: Final = 60.0


def stage(name: str, home: Path) -> dict[str, str]:
    """Prepare the directory of a build in `home`, which is empty; the environment that makes a process see it."""
    home.mkdir()
    (home / "bench").symlink_to(ROOT / "bench")
    if name == "source":
        shutil.copytree(_PACKAGE, home / _PACKAGE.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return {**os.environ, "PYTHONPATH": str(home), "PYTHONHASHSEED": "0"}


def look(name: str, environment: Mapping[str, str]) -> Build:
    """What the build is. It has failed where it can't be imported, as when it is older than the cases."""
    command = [sys.executable, "-P", "-c", _PROBE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S, cwd="/", check=False)
    if done.returncode:
        return Build(name=name, failed=(done.stderr.strip().splitlines() or ["it can't be imported"])[-1])
    path = Path(done.stdout.strip())
    return Build(name=name, suffix="".join(path.suffixes), differing=differing(_PACKAGE, path.parent))


def differing(tree: Path, other: Path) -> int:
    """How many of the tree's Python files the other directory has not, or has with another text."""
    files = (path.relative_to(tree) for path in tree.rglob("*.py"))
    return sum(not (other / file).exists() or (other / file).read_bytes() != (tree / file).read_bytes() for file in files)
