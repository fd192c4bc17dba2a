"""Tries the sidecar as a new user would, from its wheel to its end, and tells the seconds of each step.

    make trial                                       # with the wheel of dist/, which is built if there is none
    .venv/bin/python -m deploy.trial --wheel dist/kyma_proxy-….whl

It works in empty directories below a private home, as an ordinary user: as whoever runs it, or, if that is root, as the user
`kyma-trial`, which is made for it and removed at its end (or as the one that `--user` names). The home is removed, unless a
step fails; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from deploy.trial.processes import Failed, Home
from deploy.trial.steps import RESTARTS, Trial

ROOT: Final = Path(__file__).resolve().parent.parent.parent
USER: Final = "kyma-trial"
_SOURCES: Final = ("deploy/trial",)
_REGISTRY: Final = ("PIP_", "SSL_", "http", "HTTP")


def main() -> int:
    """Run the trial; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.trial", description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, help="the wheel to try (default: the one of dist that fits, built if need be)")
    parser.add_argument("--python", type=Path, help="the interpreter to install it for (default: the newest here)")
    parser.add_argument("--user", default=USER, help=f"as whom, if root runs this (default: {USER}, made for it)")
    parser.add_argument("--restarts", type=int, default=RESTARTS, help=f"how often to restart under load (default: {RESTARTS})")
    options = parser.parse_args()
    if os.getuid() == 0:
        return _as_ordinary_user(options)
    try:
        python = options.python or _find_python(())
        wheel = options.wheel or _find_wheel(python)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return _try(wheel, python, options.restarts)


def _try(wheel: Path, python: Path, restarts: int) -> int:
    """Run the steps as this user."""
    user = pwd.getpwuid(os.getuid()).pw_name
    path = Path(tempfile.mkdtemp(prefix="kyma-trial-"))  # only its user may enter it
    registry = {name: value for name, value in os.environ.items() if name.startswith(_REGISTRY)}
    home = Home(path, registry)
    print(f"{wheel.name}, as {user}, in {path}", flush=True)
    start = time.monotonic()
    try:
        for number, (title, step) in enumerate(Trial(home, str(wheel.resolve()), python, ROOT, restarts=restarts).steps(), 1):
            began = time.monotonic()
            try:
                seen = step()
            except (Failed, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
                print(f"{number}. {title}\n   FAILED after {time.monotonic() - began:.1f} s: {error}", flush=True)
                print(f"   The files are in {path}.", flush=True)
                return 1
            print(f"{number}. {title}\n   {time.monotonic() - began:6.1f} s  {seen}", flush=True)
    finally:
        home.close()
    shutil.rmtree(path)
    print(f"Everything worked, in {time.monotonic() - start:.0f} s.", flush=True)
    return 0


def _as_ordinary_user(options: argparse.Namespace) -> int:
    """Run this again as an ordinary user, who gets a copy of what is needed and can read nothing of root's."""
    is_new = _make_user(options.user)
    try:
        entry = pwd.getpwnam(options.user)
        become = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--")
        python = options.python or _find_python(become)
        wheel = options.wheel or _find_wheel(python)
        with tempfile.TemporaryDirectory(prefix="kyma-trial-source-") as directory:
            copy = Path(directory)
            for name in _SOURCES:
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy2(wheel, copy)
            copy.chmod(0o755)
            line = [*become, str(python), "-m", "deploy.trial", "--wheel", wheel.name, "--python", str(python)]
            line += ["--restarts", str(options.restarts)]
            kept = {name: value for name, value in os.environ.items() if name.startswith(_REGISTRY)}
            environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": entry.pw_dir, "LANG": "C.UTF-8", **kept}
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
            return subprocess.run(line, cwd=copy, env=environment, check=False).returncode
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if is_new:
            subprocess.run(["userdel", "--remove", options.user], capture_output=True, check=False)


def _make_user(name: str) -> bool:
    """Make the user, if there is none of this name; returns True if it was made."""
    try:
        pwd.getpwnam(name)
        return False
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/usr/sbin/nologin", name], check=True)
        return True


def _find_python(become: tuple[str, ...]) -> Path:
    """The newest interpreter of the system that the user can run. Raises Failed."""
    tried = [f"python3.{minor}" for minor in (14, 13, 12, 11)] + ["python3"]
    path = os.environ.get("PATH", "") if not become else "/usr/local/bin:/usr/bin:/bin"
    for name in tried:
        found = shutil.which(name, path=path)
        check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
        if found and subprocess.run([*become, found, "-c", check], capture_output=True, cwd="/", check=False).returncode == 0:
            return Path(found)
    raise Failed("there is no Python 3.11 or newer with venv here that an ordinary user can run: give --python")


def _find_wheel(python: Path) -> Path:
    """The wheel of dist that fits, a compiled one if there is one; it is built if there is none. Raises Failed."""
    said = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"3\.(\d+)", said)
    assert version is not None, said
    if not list((ROOT / "dist").glob("*.whl")):
        print("There is no wheel in dist: make dist …", flush=True)
        if subprocess.run([sys.executable, "-m", "deploy.packages"], cwd=ROOT, check=False).returncode:
            raise Failed("the wheel can't be built; its errors are above")
    for pattern in (f"*-cp3{version[1]}-*.whl", "*-py3-none-any.whl"):
        found = sorted((ROOT / "dist").glob(pattern), key=lambda wheel: wheel.stat().st_mtime)
        if found:
            sources = [path.stat().st_mtime for path in (ROOT / "proxy").rglob("*.py")]
            if max(sources) > found[-1].stat().st_mtime:
                print(f"{found[-1].name} is older than this tree: make dist builds a new one", flush=True)
            return found[-1]
    raise Failed(f"no wheel in dist is for {said.strip()}: make dist")


if __name__ == "__main__":
    sys.exit(main())
