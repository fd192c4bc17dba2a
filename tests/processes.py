"""Real processes for tests: a simulated provider, and the gateway started as an operator starts it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE_S = 20.0
_URL = re.compile(r"http://\S+")

MODELS = """\
models:
  - {id: sim, name: Simulated, price: {input: 1, output: 2}, pool: [{provider: simulated, model: sim-1}]}
  - {id: vendor/sim, pool: [{provider: simulated, model: sim-2}]}
  - {id: claude, pool: [{provider: claude, model: claude-1}]}
  - id: sketch
    output_modalities: [image]
    price: {image: 0.05}
    image: {sizes: [512x512, 1024x1024]}
    pool: [{provider: queue, model: simulated/pictures}]
    reserve: [{provider: images, model: simulated-image}]
aliases: {fast: sim, recraft-v3: sketch}
"""


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds, from outside an event loop; fails after twenty seconds."""
    due = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > due:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.01)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would change the gateway's, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and name != "KYMA_CONFIG"}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(ROOT / "proxy"), str(ROOT))), "PYTHONUNBUFFERED": "1", **more}


def command(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `kyma-proxy` with these words to its end; `more` goes into its environment."""
    line = [sys.executable, "-W", "error", "-m", "kyma_proxy", *map(str, words)]
    return subprocess.run(line, env=environment(**more), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def configuration(provider: str, listen: object, log: object, *, more: str = "", admin: str = "null") -> str:
    """The text of a configuration whose providers, one a dialect, are both at `provider`; `more` holds further sections."""
    queue = provider.removesuffix("/v1") + "/queue"
    return (
        f"listen: '{listen}'\nadmin: {admin}\naccess_log: '{log}'\n{more}"
        f"providers:\n  - {{name: simulated, base_url: '{provider}', dialect: openai, api_key: provider-key}}\n"
        f"  - {{name: claude, base_url: '{provider}', dialect: anthropic, api_key: provider-key}}\n"
        f"  - {{name: images, base_url: '{provider}', dialect: openai_images, api_key: provider-key}}\n"
        f"  - {{name: queue, base_url: '{queue}', dialect: fal_queue, api_key: provider-key}}\n{MODELS}"
    )


def relayed(log: Path) -> list[dict[str, Any]]:
    """The whole lines of an access log that are about relayed requests."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return [record for record in map(json.loads, lines) if record["dialect"] != "-"]


class Running:
    """A gateway in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], base: str, log: Path, errors: Path) -> None:
        self.process = process
        self.base = base
        self.log = log
        self._errors = errors

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._errors.read_text()

    @property
    def has_ended(self) -> bool:
        """Whether the process is over."""
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def records(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines of its access log about relayed requests, once there are `count` of them."""
        wait_until(lambda: len(relayed(self.log)) >= count)
        return relayed(self.log)

    def end(self) -> int:
        """Let it end, if it has not; its exit code."""
        if not self.has_ended:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()


@contextlib.contextmanager
def simulated(pace: str = "0ms") -> Iterator[str]:
    """The base URL of a simulated provider that runs until the end of the block."""
    line = [
        sys.executable,
        "-m",
        "kyma_proxy.simulated.server",
        "--listen",
        "127.0.0.1:0",
        "--pace",
        pace,
        "--until-stdin-closes",
    ]
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
def serving(text: str, directory: Path, base: str, *words: str) -> Iterator[Running]:
    """A gateway with this configuration; the block begins once it answers at `base` ("" where nobody can ask it).

    `words` are further ones for its command line.
    """
    config, errors = directory / "gateway.yaml", directory / "stderr"
    config.write_text(text)
    line = [sys.executable, "-W", "error", "-m", "kyma_proxy", "serve", "--config", str(config), *words]
    with errors.open("wb") as stderr, subprocess.Popen(line, env=environment(), stderr=stderr) as process:
        running = Running(process, base, directory / "access.log", errors)
        try:
            wait_until(lambda: running.has_ended or " serves " in running.stderr)
            wait_until(lambda: running.has_ended or not base or _answers(f"{base}/v1/health"))
            assert not running.has_ended, running.stderr
            yield running
        finally:
            running.end()


@contextlib.contextmanager
def started(directory: Path, *, pace: str = "0ms", **how: str) -> Iterator[Running]:
    """A gateway in front of a simulated provider, both running; `how` is as for `configuration`."""
    listen = f"127.0.0.1:{free_port()}"
    with simulated(pace) as provider:
        text = configuration(provider, listen, directory / "access.log", **how)
        with serving(text, directory, f"http://{listen}") as running:
            yield running


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False
