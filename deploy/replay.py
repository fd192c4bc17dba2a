"""Carries out the Dockerfile's steps without a container engine, and runs the result as an engine would.

    sudo .venv/bin/python -m deploy.replay

Each stage is a copy-on-write view of this machine's files, in which its steps run under chroot; nothing outside of it changes.
Then the view is made read-only, and the image's command runs as the image's user, in a network of its own, until its health
check is content. The step that installs Debian's packages is left out: this machine has a compiler.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DOCKERFILE: Final = ROOT / "deploy" / "docker" / "Dockerfile"
PATIENCE_S: Final = 30.0
_NEW_MOUNTS, _NEW_NETWORK = 0x00020000, 0x40000000


class Stage:
    """One stage: its files, and the settings that its instructions have made so far."""

    def __init__(self, home: Path) -> None:
        upper, work, self.root = home / "upper", home / "work", home / "root"
        for directory in (upper, work, self.root):
            directory.mkdir(parents=True)
        _call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", self.root)
        _call("mount", "-t", "proc", "proc", self.root / "proc")
        _call("mount", "--rbind", "/dev", self.root / "dev")
        python = Path(sys.base_prefix).resolve()
        for directory in (python, *python.parents):  # an ordinary user has to reach it; only in this view
            view = self.root / directory.relative_to("/")
            view.chmod(view.stat().st_mode | 0o055)
        link = self.root / python.relative_to("/") / "bin" / "python"
        if not link.exists():
            link.symlink_to("python3")
        self.directory = "/"
        self.user = "0:0"
        self.environment = {"PATH": f"{python}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
        self.environment |= {
            name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))
        }
        self.health: list[str] = []
        self.command: list[str] = []

    def line(self, *command: str) -> list[str]:
        """The command line that runs a command in this stage, as its user."""
        inside = f"cd {shlex.quote(self.directory)} && exec {shlex.join(command)}"
        return [
            shutil.which("chroot") or "/usr/sbin/chroot",
            f"--userspec={self.user}",
            str(self.root),
            "/bin/sh",
            "-c",
            inside,
        ]

    def path(self, inside: str) -> Path:
        """Where a path of the stage is outside of it; a relative one counts from the working directory."""
        return self.root / os.path.join(self.directory, inside).lstrip("/")


def main() -> int:
    """Carry it out; returns 0 if the result serves."""
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS) != 0:
        print("left out: it takes root, and the right to mount")
        return 0
    os.umask(0o022)  # an engine's, whoever builds: the image's user has to read what is installed
    _call("mount", "--make-rprivate", "/")
    with tempfile.TemporaryDirectory(prefix="kyma-replay-") as directory:
        _call("mount", "-t", "tmpfs", "tmpfs", directory)
        try:
            stage = build(Path(directory))
            return serve(stage)
        except subprocess.CalledProcessError as error:
            print(f"{error}\n{error.output or ''}", file=sys.stderr)
            return 1
        finally:
            _call("umount", "--recursive", "--lazy", directory)


def build(home: Path) -> Stage:
    """Carry out all instructions; returns the last stage."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for name, rest in instructions(DOCKERFILE.read_text()):
        if name == "FROM":
            label = rest.partition(" AS ")[2] or "the last"
            stages[label] = stage = Stage(home / str(len(stages)))
            continue
        assert stage is not None
        if name == "RUN" and "apt-get" in rest:
            print(f"left out: {rest[:80]}…")
        elif name == "RUN":
            print(f"RUN {rest[:100]}…", flush=True)
            line = stage.line("/bin/sh", "-c", rest)
            subprocess.run(line, env=stage.environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        elif name == "COPY":
            copy(stage, stages, shlex.split(rest))
        elif name == "WORKDIR":
            stage.directory = rest
            stage.path("").mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            for pair in shlex.split(rest):
                variable, _, value = pair.partition("=")
                stage.environment[variable] = value.replace("$PATH", stage.environment["PATH"])
        elif name == "USER":
            stage.user = rest
        elif name in ("ENTRYPOINT", "CMD"):
            stage.command += json.loads(rest)
        elif name == "HEALTHCHECK":
            stage.health = json.loads(rest.partition("CMD ")[2])
        else:
            assert name in ("EXPOSE", "STOPSIGNAL"), name
    assert stage is not None
    return stage


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with what follows its name on one line."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def copy(stage: Stage, stages: dict[str, Stage], words: list[str]) -> None:
    """Copy files as COPY does, from the tree or from another stage."""
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, last = [word for word in words if not word.startswith("--")]
    target = stage.path(last)
    for source in sources:
        origin = stages[options["from"]].path(source) if "from" in options else ROOT / source
        if origin.is_dir():
            shutil.copytree(origin, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            into = target / origin.name if last.endswith("/") else target
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, into)
    if "chown" in options:
        _call("chown", "--recursive", options["chown"], target)


def serve(stage: Stage) -> int:
    """Run the image's command on read-only files until its health check is content; then stop it as an engine does."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) == 0:
        with socket.socket() as any_socket:  # the loopback interface of the new network is down
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))
    _call("mount", "-o", "remount,ro", stage.root)
    environment = {**stage.environment, "OPENAI_API_KEY": "sk-none"}
    version = subprocess.run(
        stage.line(stage.command[0], "--version"), env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()
    print(version)
    with subprocess.Popen(stage.line(*stage.command), env=environment) as process:
        due, code = time.monotonic() + PATIENCE_S, 1
        while code and process.poll() is None and time.monotonic() < due:
            code = subprocess.run(stage.line(*stage.health), env=environment, capture_output=True, check=False).returncode
            time.sleep(0.1)
        print("the health check is content" if code == 0 else "the health check is not content")
        process.send_signal(signal.SIGTERM)
        ended = process.wait(PATIENCE_S)
    print(f"it ended with {ended}")
    return int(code != 0 or ended != 0 or "(compiled" not in version)


def _call(*line: object) -> None:
    subprocess.run([*map(str, line)], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


if __name__ == "__main__":
    sys.exit(main())
