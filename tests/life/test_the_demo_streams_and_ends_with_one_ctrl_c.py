"""The demo prints a command that works, and one Ctrl-C ends everything that the demo has started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, environment, free_port
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The shipped demo on free ports, in a process group of its own, and the file with its output."""
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with running_demo(tmp_path, "--listen", listen, "--admin", admin) as started:
        yield started


@contextlib.contextmanager
def running_demo(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    output = directory / "output"
    line = [sys.executable, "-W", "error", "-m", "kyma_proxy", "demo", "--pace", "1ms", *options]
    with (
        output.open("wb") as out,
        subprocess.Popen(line, env=environment(), stdout=out, stderr=out, start_new_session=True) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or "Ctrl-C" in output.read_text())
            assert process.poll() is None, output.read_text()
            yield process, output
        finally:
            process.terminate()


def ctrl_c(process: subprocess.Popen[bytes]) -> None:
    """Send SIGINT to every process of the group, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


def group_is_empty(process: subprocess.Popen[bytes]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def curl_line(output: Path) -> str:
    found = re.search(r"^  (curl .*\\\n.*)$", output.read_text(), re.MULTILINE)
    assert found is not None, output.read_text()
    return found[1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed on this machine")
def test_the_curl_command_that_the_demo_prints_streams_an_answer(demo: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, output = demo
    result = subprocess.run(
        ["/bin/sh", "-c", curl_line(output)], env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    *events, last = result.stdout.removesuffix("\n\n").split("\n\n")
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    assert "simulated provider" in "".join(delta.get("content") or "" for delta in deltas)
    assert last == "data: [DONE]"
    wait_until(lambda: '"ending":"completed"' in output.read_text())
    ctrl_c(process)
    assert process.wait(PATIENCE_S) == 0


def test_ctrl_c_ends_the_demo_and_its_provider(demo: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, output = demo
    assert "nothing leaves this machine" in output.read_text()
    ctrl_c(process)
    assert process.wait(PATIENCE_S) == 0
    wait_until(lambda: group_is_empty(process))
    assert "Traceback" not in output.read_text()


def test_sigterm_to_the_demo_alone_ends_its_provider_too(demo: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, _ = demo
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    wait_until(lambda: group_is_empty(process))


def test_a_killed_demo_takes_its_provider_with_it(demo: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, _ = demo
    process.kill()
    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    wait_until(lambda: group_is_empty(process))


def test_the_demo_takes_other_ports_than_those_in_use_and_says_so(tmp_path: Path) -> None:
    text, config = (ROOT / "config" / "demo.yaml").read_text(), tmp_path / "demo.yaml"
    with socket.create_server(("127.0.0.1", free_port())) as first, socket.create_server(("127.0.0.1", free_port())) as second:
        for port, taken in (("8080", first), ("9090", second)):
            assert text.count(f"127.0.0.1:{port}") == 1
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{taken.getsockname()[1]}")
        config.write_text(text)
        with running_demo(tmp_path, "--config", str(config)) as (process, output):
            told = output.read_text()
            for name, taken in (("The gateway", first), ("The admin listener", second)):
                assert re.search(
                    rf"^{name} is at 127.0.0.1:\d+, as 127.0.0.1:{taken.getsockname()[1]} is in use.$", told, re.MULTILINE
                )
            assert "Ctrl-C stops the demo" in told
            ctrl_c(process)
            assert process.wait(PATIENCE_S) == 0
