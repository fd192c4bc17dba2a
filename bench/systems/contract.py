"""The interface between the bench and a system. All that is specific to one system is behind it.

Each system gets its best reasonable configuration: one worker, keep-alive connections to the provider, no buffering of answers,
HTTP/1.1 on both sides, no calls to other hosts, and an access log in a file if it has one. If a setting is not the system's
default, the file of the system says why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.client import Headers

MAX_BODY_BYTES: Final = 64 * 2**20
"""The body size limit that systems are configured with; the bench sends 12 MB at most."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """The deployment of a system: the provider behind them, their core, and their models.

    `models` are the scripts of the provider, which a gateway has to list as models; `more_models` is the number of further
    models in its configuration. With `tls`, the file of a certificate authority, the provider speaks TLS, as 127.0.0.1 and
    localhost. `accounts` is the number of accounts of the gateway; 0 means that callers need none. `hostile_port` is the port
    of a provider with hostile answers; 0 means that there is none. `gateway` overrides members of the gateway's
    configuration; other systems ignore it.
    """

    provider_port: int
    core: int | None
    models: tuple[str, ...]
    bytecode: Path
    tls: Path | None = None
    more_models: int = 0
    accounts: int = 0
    hostile_port: int = 0
    gateway: dict[str, Any] = {}

    @property
    def provider(self) -> str:
        """The base URL of the provider, without a path."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.provider_port}"

    @property
    def all_models(self) -> tuple[str, ...]:
        """All models of the configuration. The further ones come first: the worst case for a system that searches linearly."""
        return (*(f"another-{number}" for number in range(self.more_models)), *self.models)


class System(msgspec.Struct, frozen=True, kw_only=True):
    """One system: how it is found and configured. `bench.systems.target` starts and ends it.

    `log` is the name of its access log, if the log contains the system's own overhead. `start_timeout_s` limits its start.
    """

    name: str
    title: str
    install_hint: str
    log: str | None = None
    start_timeout_s: float = 20.0

    def command(self) -> Sequence[str] | None:
        """The program and its fixed arguments, or None if it is not installed."""
        raise NotImplementedError

    def version(self) -> str:
        """The installed version; called only if there is a command."""
        raise NotImplementedError

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """Write its configuration into its own directory `home`; returns the further arguments of the command."""
        raise NotImplementedError

    def environment(self, deployment: Deployment) -> dict[str, str]:
        """The environment variables of its process; by default those of this process."""
        return dict(os.environ)

    def headers(self, deployment: Deployment) -> Headers:
        """The headers that a request needs in addition to those of an OpenAI client."""
        return ()
