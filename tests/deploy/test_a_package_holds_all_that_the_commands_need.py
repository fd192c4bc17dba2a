"""The source package builds the wheel, the wheel has all that a command needs, and a build that can't compile says why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.processes import ROOT

BUILD = "import sys\nfrom setuptools import build_meta\nprint(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
PURE = {"KYMA_PROXY_PURE": "1"}
pytestmark = pytest.mark.timeout(180)


def build(tree: Path, kind: str, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build as pip does in a tree; the last line of the output is the name of the package."""
    return subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(out)],
        cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip


def tracked() -> list[str]:
    """The files that git knows; in a copy of the tree, as the compiled tests run in, all but what was made there."""
    if not (ROOT / ".git").exists():
        paths = (path for path in ROOT.rglob("*") if path.suffix != ".so" and "__pycache__" not in path.parts)
        return [str(path.relative_to(ROOT)) for path in paths]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree inside the source package, which is made of a copy of what git knows, with a manual page."""
    home = tmp_path_factory.mktemp("package")
    for name in tracked():
        if (ROOT / name).is_file() and name.split("/")[0] not in {"tests", "bench", "docs", ".venv", "build", "dist"}:
            (home / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (home / "tree" / name).write_bytes((ROOT / name).read_bytes())
    (home / "tree/share/man/man1").mkdir(parents=True)
    (home / "tree/share/man/man1/kyma-proxy.1").write_text(".TH KYMA-PROXY 1\n")
    done = build(home / "tree", "sdist", home / "out")
    assert done.returncode == 0, done.stderr
    with tarfile.open(home / "out" / done.stdout.splitlines()[-1]) as packed:
        packed.extractall(home / "unpacked", filter="data")
    (tree,) = (home / "unpacked").iterdir()
    return tree


@pytest.fixture(scope="module")
def wheel(source: Path) -> zipfile.ZipFile:
    done = build(source, "wheel", source.parent / "wheel", **PURE)
    assert done.returncode == 0, done.stderr
    (made,) = (source.parent / "wheel").glob("*.whl")
    assert made.name.endswith("-py3-none-any.whl")
    return zipfile.ZipFile(made)


def test_every_module_and_data_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    within = {
        str(path.relative_to(ROOT / "proxy"))
        for path in (ROOT / "proxy" / "kyma_proxy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    assert within - set(wheel.namelist()) == set()


def test_the_examples_the_manual_and_the_command_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    shared = {name.partition(".data/data/")[2] for name in wheel.namelist()}
    assert {f"share/kyma-proxy/config/{path.name}" for path in (ROOT / "config").iterdir()} <= shared
    assert "share/man/man1/kyma-proxy.1" in shared
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "kyma-proxy = kyma_proxy.ops.cli:main" in wheel.read(entry_points).decode()


def test_the_version_is_that_of_the_package(wheel: zipfile.ZipFile, source: Path) -> None:
    (found,) = re.findall(r'^__version__ = "(.*)"$', (ROOT / "proxy/kyma_proxy/__init__.py").read_text(), re.MULTILINE)
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    assert f"\nVersion: {found}\n" in wheel.read(metadata).decode()
    assert source.name == f"kyma_proxy-{found}"


@pytest.mark.parametrize("compiler", ["/nowhere/gcc", "no-such-compiler -pthread"])
def test_without_a_compiler_the_build_goes_on_and_says_why_in_one_line(source: Path, tmp_path: Path, compiler: str) -> None:
    done = build(source, "wheel", tmp_path, CC=compiler)
    assert done.returncode == 0, done.stderr
    assert [made.name.endswith("-py3-none-any.whl") for made in tmp_path.iterdir()] == [True]
    reason = (source / "build" / "not_compiled").read_text()
    assert reason == f"there is no C compiler ({compiler.split(maxsplit=1)[0]}); apt-get install gcc python3-dev\n"
    assert reason in done.stderr


def test_where_a_compiled_build_is_required_its_absence_is_an_error(source: Path, tmp_path: Path) -> None:
    done = build(source, "wheel", tmp_path, CC="/nowhere/gcc", KYMA_PROXY_COMPILED="1")
    assert done.returncode != 0
    assert "kyma-proxy can't be compiled: there is no C compiler" in done.stderr
