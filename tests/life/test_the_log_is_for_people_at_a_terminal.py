"""A gateway whose standard output is a terminal writes its access log for people; into a pipe it writes JSON."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.configurations import listeners, simulated_configuration
from tests.processes import environment, free_port, simulated_provider
from tests.waiting import wait_until


@contextlib.contextmanager
def serving(directory: Path, output: int, *, access_log: str = "-") -> Iterator[str]:
    """The base URL of a gateway that writes its log there."""
    base = f"127.0.0.1:{free_port()}"
    errors = directory / "stderr"
    with simulated_provider() as provider, errors.open("wb") as stderr:
        path = directory / "gateway.yaml"
        path.write_text(simulated_configuration(provider, more=listeners(base, access_log=Path(access_log), admin="null")))
        line = [sys.executable, "-m", "kyma_proxy", "serve", "--config", str(path)]
        with subprocess.Popen(line, env=environment(TERM="xterm", NO_COLOR=""), stdout=output, stderr=stderr) as process:
            try:
                wait_until(lambda: " serves " in errors.read_text() or process.poll() is not None)
                yield f"http://{base}"
            finally:
                process.terminate()


def chat(base: str) -> None:
    body = json.dumps({"model": "sim", "messages": [{"role": "user", "content": "hello"}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{base}/v1/chat/completions", body), timeout=30) as answer:
        answer.read()


def read(descriptor: int, seen: list[bytes]) -> bytes:
    with contextlib.suppress(BlockingIOError):
        seen.append(os.read(descriptor, 65536))
    return b"".join(seen)


def test_a_terminal_has_coloured_lines(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    seen: list[bytes] = []
    try:
        with serving(tmp_path, theirs) as base:
            chat(base)
            wait_until(lambda: read(ours, seen).endswith(b"\n"))
    finally:
        os.close(ours)
        os.close(theirs)
    (line,) = b"".join(seen).decode().splitlines()
    assert "\x1b[32m200\x1b[0m  chat/completions" in line
    assert "sim @ simulated" in line


def test_a_pipe_has_json_unless_the_configuration_says_otherwise(tmp_path: Path) -> None:
    for access_log in ("-", "pretty"):
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        seen: list[bytes] = []
        try:
            with serving(tmp_path, theirs, access_log=access_log) as base:
                chat(base)
                wait_until(lambda: read(ours, seen).endswith(b"\n"))  # noqa: B023
        finally:
            os.close(ours)
            os.close(theirs)
        text = b"".join(seen).decode()
        if access_log == "-":
            assert json.loads(text)["model"] == "sim"
        else:
            assert "200  chat/completions" in text
            assert "\x1b" not in text
