"""smg, the gateway in Rust of the people around SGLang, in front of one provider that speaks OpenAI's dialect.

Without a key of its own it lets any model through and asks the provider for nothing at the start; a caller's key is
passed on. A request is parsed and written anew, an answer's events pass as they are. Its metrics can't be switched off,
so they get a port. One thread serves; retries and the probing of the provider are off, and so are its bound on the
requests at a time and the memory of past answers. Its log at `info`, two lines a request, is its access log.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.processes import free_port
from bench.systems.contract import Place, System
from bench.systems.programs import HOW_TO_GET_PEERS, python_of, release

_NAME: Final = "smg"


class Smg(System, frozen=True, kw_only=True):
    """One thread, which relays to one provider."""

    name: str = _NAME
    title: str = "smg"
    how_to_get: str = HOW_TO_GET_PEERS

    def command(self) -> Sequence[str] | None:
        """Its launcher, in its own environment."""
        python = python_of(_NAME)
        return (str(python), "-m", "smg", "launch") if python.exists() else None

    def version(self) -> str:
        """The package's."""
        return release(_NAME)

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        """All of it as arguments; there is no file."""
        options = {
            "--host": "127.0.0.1",
            "--port": str(port),
            "--prometheus-host": "127.0.0.1",
            "--prometheus-port": str(free_port()),
            "--backend": "openai",
            "--worker-urls": place.provider,
            "--policy": "random",
            "--history-backend": "none",
            "--max-concurrent-requests": "0",
            "--upstream-pool-idle-timeout-secs": "0",
            "--shutdown-grace-period-secs": "1",
            "--log-level": "info",
        }
        flags = ["--disable-health-check", "--disable-load-monitoring", "--disable-retries", "--disable-circuit-breaker"]
        authority = [] if place.tls is None else ["--ca-cert-paths", str(place.tls)]
        return [word for pair in options.items() for word in pair] + flags + authority

    def environment(self, place: Place) -> dict[str, str]:
        """One thread for its runtime; it would take one a core."""
        return os.environ | {"TOKIO_WORKER_THREADS": "1"}
