"""smg, the Rust gateway of the SGLang project, in front of one provider that speaks OpenAI's dialect.

Without a key of its own it accepts any model and sends the provider nothing at its start; the caller's key is forwarded. It
parses and serialises each request again; the events of an answer pass unchanged. Its metrics can't be switched off, so they
get a port. It runs one thread. Retries, health checks, the limit of concurrent requests and the history of answers are off.
Its log at level `info`, two lines a request, is its access log.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.processes import free_port
from bench.systems.contract import Deployment, System
from bench.systems.programs import INSTALL_HINT, package_version, venv_python

_NAME: Final = "smg"


class Smg(System, frozen=True, kw_only=True):
    """smg with one thread and one provider."""

    name: str = _NAME
    title: str = "smg"
    install_hint: str = INSTALL_HINT

    def command(self) -> Sequence[str] | None:
        """Its launcher, in its own virtual environment."""
        python = venv_python(_NAME)
        return (str(python), "-m", "smg", "launch") if python.exists() else None

    def version(self) -> str:
        """The version of the package."""
        return package_version(_NAME)

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """All settings are arguments; there is no file."""
        options = {
            "--host": "127.0.0.1",
            "--port": str(port),
            "--prometheus-host": "127.0.0.1",
            "--prometheus-port": str(free_port()),
            "--backend": "openai",
            "--worker-urls": deployment.provider,
            "--policy": "random",
            "--history-backend": "none",
            "--max-concurrent-requests": "0",
            "--upstream-pool-idle-timeout-secs": "0",
            "--shutdown-grace-period-secs": "1",
            "--log-level": "info",
        }
        flags = ["--disable-health-check", "--disable-load-monitoring", "--disable-retries", "--disable-circuit-breaker"]
        authority = [] if deployment.tls is None else ["--ca-cert-paths", str(deployment.tls)]
        return [argument for pair in options.items() for argument in pair] + flags + authority

    def environment(self, deployment: Deployment) -> dict[str, str]:
        """One thread for its runtime, instead of one per core."""
        return os.environ | {"TOKIO_WORKER_THREADS": "1"}
