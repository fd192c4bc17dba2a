"""Installs each package of dist/ as a stranger would, and runs every command of it.

    make dist && .venv/bin/python -m deploy.try_packages

Each package gets a new environment in a new directory, with the versions of other packages that pip chooses today. The commands
run there, with an empty environment and an empty home, so that nothing of this tree can help them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

from deploy.packages import ROOT, VERSIONS, find

PATIENCE_S: Final = 60.0
BODY: Final = {"model": "simulated", "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
SHARED: Final = (
    "share/kyma-proxy/config/sidecar.yaml", "share/kyma-proxy/config/kyma.yaml", "share/man/man1/kyma-proxy.1",
    "share/bash-completion/completions/kyma-proxy", "share/zsh/site-functions/_kyma-proxy",
)  # fmt: skip


def main() -> int:
    """Try them all; returns 1 if something is wrong with one."""
    parser = argparse.ArgumentParser(prog="python -m deploy.try_packages", description=__doc__.partition("\n")[0])
    parser.add_argument("packages", type=Path, nargs="*", help="the packages (default: the wheels in dist)")
    packages = parser.parse_args().packages or sorted((ROOT / "dist").glob("*.whl"))
    failed = 0
    for package in packages:
        tag = re.search(r"-cp3([0-9]+)-", package.name)
        python = find(f"3.{tag[1]}") if tag is not None else next(filter(None, map(find, VERSIONS)))
        if python is None:
            print(f"{package.name}: there is no Python for it here")
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="kyma-proxy-") as directory:
            try:
                try_package(package, python, Path(directory), is_compiled=tag is not None)
                print(f"{package.name}: every command works ({time.monotonic() - began:.0f} s)", flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                print(f"{package.name}: {error}\n{getattr(error, 'stdout', '') or ''}{getattr(error, 'stderr', '') or ''}")
                failed += 1
    return int(failed > 0 or not packages)


def try_package(package: Path, python: Path, home: Path, *, is_compiled: bool) -> None:
    """Install a package below `home`, and run its commands. Raises AssertionError or an error of a process."""
    settings = {"HOME": str(home), "PATH": f"{home}/venv/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    registry = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "http", "HTTP"))}

    def run(*line: object, code: int = 0) -> str:
        done = subprocess.run(
            [*map(str, line)], cwd=home, env=settings, capture_output=True, text=True, timeout=10 * PATIENCE_S, check=False
        )
        if done.returncode != code:
            raise subprocess.CalledProcessError(done.returncode, line, done.stdout, done.stderr)
        return done.stdout + done.stderr

    run(python, "-m", "venv", home / "venv")
    settings |= registry
    run("venv/bin/python", "-m", "pip", "--quiet", "install", package.resolve())
    run("venv/bin/python", "-m", "pip", "check")
    for name in registry:
        del settings[name]
    version = run("kyma-proxy", "--version")
    assert ("(compiled" in version) is is_compiled, version
    missing = [name for name in SHARED if not (home / "venv" / name).is_file()]
    assert missing == [], f"not installed: {missing}"
    commands = re.findall(r"^    ([a-z]+)  ", run("kyma-proxy", "--help"), re.MULTILINE)
    assert {"serve", "check", "demo", "health"} <= set(commands), commands
    for command in commands:
        assert run("kyma-proxy", command, "--help").startswith(f"usage: kyma-proxy {command}"), command
    examples = home / "venv/share/kyma-proxy/config"
    settings["OPENAI_API_KEY"] = "sk-none"
    assert "fine" in run("kyma-proxy", "check", examples / "sidecar.yaml")
    settings["LANG"] = "C"
    _try_gateway(home, examples, settings, run)


def _try_gateway(home: Path, examples: Path, settings: dict[str, str], run: object) -> None:
    """Run the demo, stream from it, and probe it; then the commands about accounts."""
    assert callable(run)
    public, admin = _free_port(), _free_port()
    text = (examples / "demo.yaml").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{public}")
    (home / "demo.yaml").write_text(text.replace("127.0.0.1:9090", f"127.0.0.1:{admin}"))
    line = ["kyma-proxy", "demo", "--config", "demo.yaml", "--pace", "1ms"]
    with (home / "output").open("wb") as output, subprocess.Popen(
        line, cwd=home, env=settings, executable=home / "venv/bin/kyma-proxy", stdout=output, stderr=output
    ) as demo:  # fmt: skip
        try:
            _wait(demo, home / "output")
            assert run("kyma-proxy", "health", "--admin", f"127.0.0.1:{admin}") == f"127.0.0.1:{admin}: ok\n"
            request = urllib.request.Request(
                f"http://127.0.0.1:{public}/v1/chat/completions",
                json.dumps(BODY).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                assert answer.read().endswith(b"data: [DONE]\n\n")
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(PATIENCE_S) == 0
        finally:
            demo.kill()
    run("kyma-proxy", "health", "--admin", f"127.0.0.1:{admin}", code=1)
    (home / "accounts.yaml").write_text((examples / "sidecar.yaml").read_text() + "\naccounts: {required: true}\n")
    assert "ky-" in run("kyma-proxy", "accounts", "create", "a@example.com", "--config", "accounts.yaml")
    assert "a@example.com" in run("kyma-proxy", "accounts", "list", "--config", "accounts.yaml")


def _wait(demo: subprocess.Popen[bytes], output: Path) -> None:
    due = time.monotonic() + PATIENCE_S
    while "Ctrl-C" not in output.read_text():
        assert demo.poll() is None and time.monotonic() < due, f"the demo did not start: {output.read_text()}"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
