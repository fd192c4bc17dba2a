"""Installs the systems that the gateway is compared with, each on its own: what fails for one stops no other.

    python -m bench.peers [--list] [NAME…]

nginx and HAProxy are the machine's packages, which only root may install; whoever is not root is told the line to run.
The others are locked with their hashes, and each is installed into a directory of its own. What is there already stays;
`--list` only tells. It ends with 0 where all are there, with 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.processes import ROOT
from bench.systems.contract import System
from bench.systems.field import FIELD
from bench.systems.programs import found, python_of, room

_LIMIT_S: Final = 1200
_MANIFESTS: Final = ("package.json", "package-lock.json")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A system and how it is installed; `install` raises OSError or subprocess.SubprocessError where it can't be."""

    system: System
    install: Callable[[], None]


def peers() -> dict[str, Peer]:
    """All that can be installed here, by name. The gateway is not among them: `make setup` builds it."""
    ways: dict[str, Callable[[], None]] = {
        "nginx": lambda: _apt("nginx-light"),
        "haproxy": lambda: _apt("haproxy"),
        "envoy": lambda: _pip(Path(sys.executable), "bench"),
        "smg": lambda: _environment("smg"),
        "portkey": lambda: _node("portkey"),
        "litellm": lambda: _environment("litellm"),
    }
    return {name: Peer(system=FIELD[name], install=install) for name, install in ways.items()}


def settle(peer: Peer, *, install: bool) -> tuple[bool, str]:
    """Install a peer where it is absent and that is wanted; says whether it is there, and what became of it."""
    system = peer.system
    if system.command() is not None:
        return True, f"present ({system.version()})"
    if not install:
        return False, f"absent: {system.how_to_get}"
    try:
        peer.install()
    except subprocess.CalledProcessError as error:
        return False, f"failed: {' '.join(map(str, error.cmd))}: {_last_line(error)}"
    except (OSError, subprocess.SubprocessError) as error:
        return False, f"failed: {error}"
    if system.command() is None:
        return False, "failed: it was installed, and is not found"
    return True, f"installed ({system.version()})"


def _last_line(error: subprocess.CalledProcessError) -> str:
    lines = f"{error.stdout or ''}\n{error.stderr or ''}".strip().splitlines()
    return lines[-1] if lines else f"it ended with {error.returncode}"


def _apt(package: str) -> None:
    """The machine's package; a server that it would start at once is kept from starting."""
    line = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    if os.geteuid():
        raise OSError(f"only root may install it: sudo {' '.join(line)}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update"], environment=quiet)
    _run(line, environment=quiet)


@contextlib.contextmanager
def _whole(peer: str) -> Iterator[Path]:
    """A peer's directory, which is removed where what fills it fails: half of one would look like a whole one."""
    try:
        yield room(peer)
    except BaseException:
        shutil.rmtree(room(peer), ignore_errors=True)
        raise


def _environment(peer: str) -> None:
    """A virtual environment with the locked packages."""
    with _whole(peer) as directory:
        venv.create(directory, with_pip=True, clear=True)
        _pip(python_of(peer), peer)


def _pip(python: Path, lock: str) -> None:
    line = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    _run([*line, "-r", str(ROOT / "requirements" / f"{lock}.txt")])


def _node(peer: str) -> None:
    """The locked packages of bench/PEER, without the scripts that they would run."""
    npm = found("npm")
    if npm is None or found("node") is None:
        raise OSError("it needs Node and npm on the PATH, version 20 or newer")
    line = [*npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    with _whole(peer) as directory:
        directory.mkdir(exist_ok=True)
        for name in _MANIFESTS:
            shutil.copy(ROOT / "bench" / peer / name, directory / name)
        _run(line, at=directory)


def _run(command: Sequence[str], *, at: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=True)


def main() -> int:
    """Install or list; returns the exit code."""
    known = peers()
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all of them by default")
    parser.add_argument("--list", action="store_true", help="only tell what is there")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(known)}")
    complete = True
    for name in options.names or known:
        there, what = settle(known[name], install=not options.list)
        print(f"{known[name].system.title:8} {what}", flush=True)
        complete = complete and there
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
