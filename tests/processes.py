"""Real processes for tests: a simulated provider, and the gateway started as an operator starts it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.configurations import listeners, simulated_configuration
from tests.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parent.parent
_PYTHON = (sys.executable, "-W", "error")
_URL = re.compile(r"http://\S+")
_FIRST_PORT, _PORTS = 12_000, 20_000
_numbers = itertools.count(os.getpid() * 997)


def free_port() -> int:
    """A port on which nothing listens.

    The kernel never chooses one of these, so that no connection and no other listener gets it in the meantime; and two
    processes that run tests at the same time begin far apart.
    """
    while True:
        port = _FIRST_PORT + next(_numbers) % _PORTS
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would change the gateway's, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and name != "KYMA_CONFIG"}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(ROOT / "proxy"), str(ROOT))), "PYTHONUNBUFFERED": "1", **more}


def command(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `kyma-proxy` with these arguments to its end; `more` goes into its environment."""
    line = [*_PYTHON, "-m", "kyma_proxy", *map(str, arguments)]
    return subprocess.run(line, env=environment(**more), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def relayed(log: Path) -> list[dict[str, Any]]:
    """The whole lines of an access log that are about relayed requests."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return [record for record in map(json.loads, lines) if record["dialect"] != "-"]


class GatewayProcess:
    """A gateway in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], base: str, log: Path, errors: Path) -> None:
        self.process = process
        self.base = base
        self.log = log
        self._errors = errors

    @property
    def stderr(self) -> str:
        """The text that it has written to its standard error so far."""
        return self._errors.read_text()

    @property
    def has_ended(self) -> bool:
        """True if the process has ended."""
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def records(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines of its access log about relayed requests, once there are `count` of them."""
        wait_until(lambda: len(relayed(self.log)) >= count)
        return relayed(self.log)

    def end(self) -> int:
        """End it if it has not ended; returns its exit code."""
        if not self.has_ended:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()


@contextlib.contextmanager
def simulated_provider(pace: str = "0ms") -> Iterator[str]:
    """The base URL of a simulated provider that runs until the end of the block."""
    line = [*_PYTHON, "-m", "kyma_proxy.simulated.server", "--listen", "127.0.0.1:0", "--pace", pace, "--until-stdin-closes"]
    process = subprocess.Popen(line, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            url = _URL.search(process.stdout.readline())
            assert url is not None, "the simulated provider did not start"
            yield url[0]
        finally:
            process.terminate()


@contextlib.contextmanager
def serving(text: str, directory: Path, base: str, *arguments: str) -> Iterator[GatewayProcess]:
    """A gateway with this configuration; the block begins once it answers at `base` (if that is "", once it says so).

    `arguments` are further ones for its command line.
    """
    config = directory / "gateway.yaml"
    config.write_text(text)
    with started(directory, base, "--config", str(config), *arguments) as running:
        yield running


@contextlib.contextmanager
def started(directory: Path, base: str, *arguments: str, **more: str) -> Iterator[GatewayProcess]:
    """A gateway that was started with these arguments, and with `more` in its environment; for `base` see `serving`."""
    errors = directory / "stderr"
    line = [*_PYTHON, "-m", "kyma_proxy", "serve", *arguments]
    with errors.open("wb") as stderr, subprocess.Popen(line, env=environment(**more), stderr=stderr) as process:
        running = GatewayProcess(process, base, directory / "access.log", errors)
        try:
            wait_until(lambda: running.has_ended or " serves " in running.stderr)
            wait_until(lambda: running.has_ended or not base or _answers(f"{base}/v1/health"))
            assert not running.has_ended, running.stderr
            yield running
        finally:
            running.end()


@contextlib.contextmanager
def serving_simulated(directory: Path, *, admin: str = "null", more: str = "") -> Iterator[GatewayProcess]:
    """A gateway in front of a simulated provider, both running; `more` holds further sections of its configuration."""
    listen = f"127.0.0.1:{free_port()}"
    with simulated_provider() as provider:
        sections = listeners(listen, access_log=directory / "access.log", admin=admin)
        text = simulated_configuration(provider, more=f"{sections}{more}")
        with serving(text, directory, f"http://{listen}") as running:
            yield running


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False
