"""The import package is `kyma_proxy`; a package `proxy` (PyPI's proxy.py installs one) or a file `proxy.py` does no harm."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, environment
from tests.waiting import PATIENCE_S

SOURCES = ROOT / "proxy"
TRAP = 'raise ImportError("another proxy was imported")\n'
EVERY_MODULE = """
import importlib, kyma_proxy, pkgutil
names = [module.name for module in pkgutil.walk_packages(kyma_proxy.__path__, "kyma_proxy.")]
for name in names:
    name.endswith("__main__") or importlib.import_module(name)
print(len(names))
"""


@pytest.fixture
def surrounded(tmp_path: Path) -> Path:
    """A working directory with a `proxy.py`, and in its `site` a package `proxy`; to import either is an error."""
    (tmp_path / "proxy.py").write_text(TRAP)
    package = tmp_path / "site" / "proxy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(TRAP)
    return tmp_path


def run(surrounded: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Run Python there, with the other package before ours on its path."""
    path = os.pathsep.join(map(str, (surrounded / "site", SOURCES)))
    return subprocess.run(
        [sys.executable, *line], cwd=surrounded, env=environment(PYTHONPATH=path), capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def test_the_other_proxies_would_be_found(surrounded: Path) -> None:
    for line in (["-c", "import proxy"], ["-P", "-c", "import proxy"]):  # the file, then the package
        assert "ImportError: another proxy was imported" in run(surrounded, *line).stderr


def test_the_module_runs_beside_another_proxy(surrounded: Path) -> None:
    done = run(surrounded, "-m", "kyma_proxy", "--version")
    assert (done.returncode, done.stdout[:13], done.stderr) == (0, "kyma-proxy 0.", "")


def test_the_console_script_runs_beside_another_proxy(surrounded: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, target = setup["options.entry_points"]["console_scripts"].strip().split(" = ")
    module, function = target.split(":")
    script = surrounded / name  # as pip writes it, into a directory in which Python looks first
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    done = run(surrounded, str(script), "--version")
    assert (done.returncode, done.stdout[:13], done.stderr) == (0, "kyma-proxy 0.", "")


def test_no_module_imports_another_proxy(surrounded: Path) -> None:
    done = run(surrounded, "-c", EVERY_MODULE)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 100


def test_nothing_but_the_package_is_installed() -> None:
    assert [path.name for path in SOURCES.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()] == [
        "kyma_proxy"
    ]
