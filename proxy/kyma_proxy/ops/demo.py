"""Runs the demo: a simulated provider in a process of its own, and the gateway in front of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.errors import StartError
from kyma_proxy.ops.serve import run

_PORT: Final = re.compile(r":([0-9]+)/")
_BANNER: Final = """
The gateway answers at {base}/v1; its provider is simulated, so nothing leaves this machine and nothing is paid.
Try it in another terminal:

  curl -N {base}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "simulated", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Pictures are jobs; this request waits until the job ends, and answers with the address of the picture:

  curl {base}/v1/images/generations -H 'content-type: application/json' -H 'prefer: wait=30' \\
    -d '{{"model": "simulated-image", "prompt": "A lighthouse at dusk"}}'

{real}The access log follows, one line for each request. Ctrl-C stops the demo.
"""


def run_demo(config: Path, pace: str, environment: Mapping[str, str]) -> int:
    """Run both until a signal; returns the exit code. Raises StartError or ConfigError."""
    command = [
        sys.executable,
        "-m",
        "kyma_proxy.simulated.server",
        "--listen",
        "127.0.0.1:0",
        "--pace",
        pace,
        "--until-stdin-closes",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as provider:  # noqa: S603
        try:
            assert provider.stdout is not None  # noqa: S101  (it is a pipe)
            port = _PORT.search(provider.stdout.readline())
            if port is None:
                raise StartError("the simulated provider did not start; its error is above")
            run(config, {**environment, "KYMA_SIMULATED_PORT": port[1]}, _print_banner, hangup_reloads=False)
        finally:
            provider.terminate()
    return 0


def _print_banner(snapshot: Snapshot) -> None:
    used = {source.provider.name: source.provider for model in snapshot.models.values() for source in model.pool}
    real = [one for one in used.values() if one.origin.host != "127.0.0.1"]
    on = ", ".join(one.name for one in real if one.off is None)
    off = ", ".join(one.name for one in real if one.off is not None)
    lines = f"Real providers are served too, as their keys are in the environment: {on}.\n" if on else ""
    lines += f"Further ones are served if their keys are set (see the demo's configuration): {off}.\n" if off else ""
    print(_BANNER.format(base=f"http://{snapshot.listen}", real=lines), flush=True)
