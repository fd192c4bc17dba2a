"""Installs the systems that the gateway is compared with. A failed installation does not stop the others.

    python -m bench.peers [--list] [NAME…]

nginx and HAProxy are packages of the operating system, which only root may install; other users are shown the command to run.
The other peers are locked with hashes, and each is installed into a directory of its own. A peer that is installed already is
left as it is; `--list` installs nothing. The exit code is 0 if all peers are installed, otherwise 1.
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
from bench.systems.programs import find_program, install_directory, venv_python
from bench.systems.registry import SYSTEMS

_TIMEOUT_S: Final = 1200
_MANIFESTS: Final = ("package.json", "package-lock.json")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A system and the function that installs it, which raises OSError or subprocess.SubprocessError if it fails."""

    system: System
    install: Callable[[], None]


def peers() -> dict[str, Peer]:
    """The peers by name. The gateway is not one of them: `make setup` builds it."""
    installers: dict[str, Callable[[], None]] = {
        "nginx": lambda: _apt("nginx-light"),
        "haproxy": lambda: _apt("haproxy"),
        "envoy": lambda: _pip(Path(sys.executable), "bench"),
        "smg": lambda: _environment("smg"),
        "portkey": lambda: _node("portkey"),
        "litellm": lambda: _environment("litellm"),
    }
    return {name: Peer(system=SYSTEMS[name], install=install) for name, install in installers.items()}


def ensure_installed(peer: Peer, *, install: bool) -> tuple[bool, str]:
    """Install a missing peer, if `install` is true. Returns whether the peer is installed now, and a line about it."""
    system = peer.system
    if system.command() is not None:
        return True, f"already installed ({system.version()})"
    if not install:
        return False, f"not installed: {system.install_hint}"
    try:
        peer.install()
    except subprocess.CalledProcessError as error:
        return False, f"failed: {' '.join(map(str, error.cmd))}: {_last_line(error)}"
    except (OSError, subprocess.SubprocessError) as error:
        return False, f"failed: {error}"
    if system.command() is None:
        return False, "failed: the installation succeeded, but the program is not found"
    return True, f"installed ({system.version()})"


def _last_line(error: subprocess.CalledProcessError) -> str:
    lines = f"{error.stdout or ''}\n{error.stderr or ''}".strip().splitlines()
    return lines[-1] if lines else f"exit code {error.returncode}"


def _apt(package: str) -> None:
    """Install a package of the operating system, without starting the server that it contains."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    if os.geteuid():
        raise OSError(f"only root may install it: sudo {' '.join(command)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update"], environment=environment)
    _run(command, environment=environment)


@contextlib.contextmanager
def _removed_on_failure(peer: str) -> Iterator[Path]:
    """The directory of a peer. It is removed if the block fails: a partial installation would look like a complete one."""
    try:
        yield install_directory(peer)
    except BaseException:
        shutil.rmtree(install_directory(peer), ignore_errors=True)
        raise


def _environment(peer: str) -> None:
    """Create a virtual environment with the locked packages of a peer."""
    with _removed_on_failure(peer) as directory:
        venv.create(directory, with_pip=True, clear=True)
        _pip(venv_python(peer), peer)


def _pip(python: Path, lock: str) -> None:
    # A lock names all packages. Without --no-deps pip may look for the extras of one, and refuse a newer version as unpinned.
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    _run([*command, "-r", str(ROOT / "requirements" / f"{lock}.txt")])


def _node(peer: str) -> None:
    """Install the locked packages of bench/PEER, without running their install scripts."""
    npm = find_program("npm")
    if npm is None or find_program("node") is None:
        raise OSError("it needs Node and npm on the PATH, version 20 or newer")
    command = [*npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    with _removed_on_failure(peer) as directory:
        directory.mkdir(exist_ok=True)
        for name in _MANIFESTS:
            shutil.copy(ROOT / "bench" / peer / name, directory / name)
        _run(command, directory=directory)


def _run(command: Sequence[str], *, directory: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)


def main() -> int:
    """Install or list the peers; returns the exit code."""
    known = peers()
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all of them by default")
    parser.add_argument("--list", action="store_true", help="only list what is installed")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(known)}")
    complete = True
    for name in options.names or known:
        is_installed, line = ensure_installed(known[name], install=not options.list)
        print(f"{known[name].system.title:8} {line}", flush=True)
        complete = complete and is_installed
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
