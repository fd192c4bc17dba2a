"""Makes the packages of a release: the source, a compiled wheel for each Python that is here, and a plain wheel.

    make dist                                   # into dist/
    make dist DIST_OPTIONS='--python 3.13'      # for this Python only; may be given several times

The wheels are built from the source package, in environments of their own with locked packages, so that a file which is
missing from the source package is missed here. auditwheel names the oldest Linux that a compiled wheel runs on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
WORK: Final = ROOT / "build" / "packages"


def main() -> int:
    """Make the packages; returns 1 if one can't be made."""
    parser = argparse.ArgumentParser(prog="python -m deploy.packages", description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", choices=VERSIONS, help="a compiled wheel for this one (default: all here)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the packages go (default: dist)")
    options = parser.parse_args()
    pythons = {version: python for version in options.python or VERSIONS if (python := find(version)) is not None}
    missing = sorted(set(options.python or ()) - set(pythons))
    if missing or not pythons:
        print(f"there is no Python {', '.join(missing or VERSIONS)} here", file=sys.stderr)
        return 1
    for directory in (WORK, options.out):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    try:
        build(options.out, pythons)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd))}\nended with {error.returncode}", file=sys.stderr)
        return 1
    for made in sorted(options.out.iterdir()):
        print(f"{made.stat().st_size / 1000:8.0f} kB  {made.name}")
    return 0


def build(out: Path, pythons: dict[str, Path]) -> None:
    """Make all packages. Raises CalledProcessError."""
    run(sys.executable, "-m", "deploy.manual", PYTHONPATH="proxy")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(out), ".")
    for version, python in pythons.items():
        print(f"Python {version}: a compiled wheel …", flush=True)
        environment = build_environment(version, python)
        made = wheel(environment, out, f"compiled-{version}", KYMA_PROXY_COMPILED="1")
        repair = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(out), str(made)]
        run(*repair, PATH=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    print("A plain wheel …", flush=True)
    shutil.copy2(wheel(environment, out, "plain", KYMA_PROXY_PURE="1"), out)


def find(version: str) -> Path | None:
    """The interpreter of this version that the path finds, or pyenv."""
    found = shutil.which(f"python{version}")
    candidates = [Path(found)] if found else []
    candidates += sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}"))
    for candidate in candidates:
        trial = subprocess.run(
            [candidate, "-c", "import venv, sys; print(sys.version)"], capture_output=True, text=True, check=False
        )
        if trial.stdout.startswith(f"{version}."):
            return candidate
    return None


def build_environment(version: str, python: Path) -> Path:
    """An environment with what building needs; returns its interpreter."""
    home = WORK / f"python-{version}"
    run(str(python), "-m", "venv", str(home))
    inside = home / "bin" / "python"
    for name in ("run", "build"):
        pip(inside, "install", "--require-hashes", "--requirement", f"requirements/{name}.txt")
    return inside


def wheel(python: Path, out: Path, name: str, **environment: str) -> Path:
    """The wheel that this interpreter makes of the source package."""
    (archive,) = out.glob("*.tar.gz")
    source, made = WORK / name / "source", WORK / name / "wheel"
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    (tree,) = source.iterdir()
    pip(python, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(made), str(tree), **environment)
    (found,) = made.glob("*.whl")
    return found


def pip(python: Path, *arguments: str, **environment: str) -> None:
    """Run pip."""
    run(str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, **environment)


def run(*line: str, **environment: str) -> None:
    """Run a command in the tree. Raises CalledProcessError if it fails; what it printed is shown then, and only then."""
    done = subprocess.run(
        line,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        done.check_returncode()


if __name__ == "__main__":
    sys.exit(main())
