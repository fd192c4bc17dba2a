"""Runs the demo: a simulated provider in a process of its own, and the gateway in front of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from kyma_proxy.config.snapshot import Address, Admin, Snapshot, TcpAddress
from kyma_proxy.errors import StartError
from kyma_proxy.ops.config_file import ConfigFile
from kyma_proxy.ops.listening import open_sockets
from kyma_proxy.ops.serve import run

_PORT: Final = re.compile(r":([0-9]+)/")
_MAX_TRIED: Final = 100
_BANNER: Final = """
{moved}The gateway answers at {base}/v1; its provider is simulated, so nothing leaves this machine and nothing is paid.
Try it in another terminal:

  curl -N {base}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "simulated", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Pictures are jobs; this request waits until the job ends, and answers with the address of the picture:

  curl {base}/v1/images/generations -H 'content-type: application/json' -H 'prefer: wait=30' \\
    -d '{{"model": "simulated-image", "prompt": "A lighthouse at dusk"}}'

{real}The access log follows, one line for each request. Ctrl-C stops the demo.
"""


def run_demo(config: ConfigFile, pace: str, environment: Mapping[str, str], options: Callable[[Snapshot], Snapshot]) -> int:
    """Run both until a signal; returns the exit code. Raises StartError or ConfigError.

    `options` changes what the configuration says. For an address of the configuration that is in use, another port is taken.
    """
    ports = _FreePorts()
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
            simulated = {**environment, "KYMA_SIMULATED_PORT": port[1]}
            run(
                config, simulated, lambda snapshot: _print_banner(snapshot, ports),
                adjust=lambda snapshot: options(ports.adjust(snapshot)), hangup_reloads=False,
            )  # fmt: skip
        finally:
            provider.terminate()
    return 0


class _FreePorts:
    """Addresses that are free, for those that are in use. What was found stays, also when the configuration is reloaded."""

    def __init__(self) -> None:
        self._found: dict[Address, Address] = {}

    def adjust(self, snapshot: Snapshot) -> Snapshot:
        """Put free addresses in the place of those of the configuration."""
        admin = snapshot.admin
        return replace(
            snapshot,
            listen=self._free(snapshot.listen),
            admin=None if admin is None else Admin(self._free(admin.listen), admin.token),
        )

    def lines(self, snapshot: Snapshot) -> str:
        """A line for each listener that is not where the configuration says."""
        listeners = [("The gateway", snapshot.listen)]
        if snapshot.admin is not None:
            listeners.append(("The admin listener", snapshot.admin.listen))
        moved = {found: wanted for wanted, found in self._found.items() if found != wanted}
        return "".join(f"{name} is at {at}, as {moved[at]} is in use.\n" for name, at in listeners if at in moved)

    def _free(self, wanted: Address) -> Address:
        if wanted not in self._found:
            found = wanted
            if isinstance(wanted, TcpAddress) and wanted.port:
                tried = [wanted._replace(port=port) for port in range(wanted.port, min(wanted.port + _MAX_TRIED, 65536))]
                found = next((one for one in tried if one not in self._found.values() and _is_free(one)), wanted)
            self._found[wanted] = found
        return self._found[wanted]


def _is_free(address: TcpAddress) -> bool:
    try:
        for opened in open_sockets("listen", address):
            opened.close()
    except StartError:
        return False
    return True


def _print_banner(snapshot: Snapshot, ports: _FreePorts) -> None:
    used = {source.provider.name: source.provider for model in snapshot.models.values() for source in model.pool}
    real = [one for one in used.values() if one.origin.host != "127.0.0.1"]
    on = ", ".join(one.name for one in real if one.off is None)
    off = ", ".join(one.name for one in real if one.off is not None)
    lines = f"Real providers are served too, as their keys are in the environment: {on}.\n" if on else ""
    lines += f"Further ones are served if their keys are set (see the demo's configuration): {off}.\n" if off else ""
    print(_BANNER.format(moved=ports.lines(snapshot), base=f"http://{snapshot.listen}", real=lines), flush=True)
