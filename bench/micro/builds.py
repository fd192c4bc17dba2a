"""Selects the build of the gateway that is measured: the installed one, or the source files of this tree.

The measuring process imports from one directory and the installed packages, never from the working directory. That directory
holds the bench and, for the source build, a copy of the Python files: no extension module beside them is imported, and an edit
during the run changes nothing.
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
from bench.processes import ROOT

_PACKAGE: Final = ROOT / "proxy" / "kyma_proxy"
NAMES: Final = ("installed", "source")
_IMPORT_CHECK: Final = "import bench.micro.child, kyma_proxy.gateway; print(kyma_proxy.gateway.__file__)"
_TIMEOUT_S: Final = 60.0


def prepare_environment(name: str, home: Path) -> dict[str, str]:
    """Create the directory `home` of a build; returns the environment variables with which a process imports from it."""
    home.mkdir()
    (home / "bench").symlink_to(ROOT / "bench")
    if name == "source":
        shutil.copytree(_PACKAGE, home / _PACKAGE.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return {**os.environ, "PYTHONPATH": str(home), "PYTHONHASHSEED": "0"}


def inspect_build(name: str, environment: Mapping[str, str]) -> Build:
    """Describes a build. It has failed if it can't be imported, for example because it is older than the cases."""
    command = [sys.executable, "-P", "-c", _IMPORT_CHECK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, cwd="/", check=False)
    if done.returncode:
        return Build(name=name, failed=(done.stderr.strip().splitlines() or ["it can't be imported"])[-1])
    path = Path(done.stdout.strip())
    return Build(name=name, suffix="".join(path.suffixes), differing=count_differing(_PACKAGE, path.parent))


def count_differing(tree: Path, other: Path) -> int:
    """The number of Python files of the tree that are missing in the other directory or differ there."""
    files = (path.relative_to(tree) for path in tree.rglob("*.py"))
    return sum(not (other / file).exists() or (other / file).read_bytes() != (tree / file).read_bytes() for file in files)
