"""What the bench asks of a system, and what it tells it: all that is peculiar to a system is behind this.

Whatever is measured, each is given its best reasonable configuration: one worker, connections to the provider kept,
answers not buffered, HTTP/1.1 on both sides, no call to anywhere else, and an access log in a file where it has one.
Where a setting departs from a system's default, its file says why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.client import Headers

MAX_BODY_BYTES: Final = 64 * 2**20
"""What a system is told to let through; the bench sends 12 MB at most."""


class Unsupported(RuntimeError):
    """A system can't do what the place asks; the message says what and why."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where systems are started, and in front of what.

    `models` are the provider's scripts that a gateway has to name, and `more_models` says how many models beside these
    are in its configuration. With `tls`, the file of an authority, the provider speaks TLS, as 127.0.0.1 and localhost.
    `accounts` says that the gateway's callers have accounts, and how many there are.
    `gateway` is laid over the gateway's own configuration, and means nothing to the others.
    """

    provider_port: int
    core: int | None
    models: tuple[str, ...]
    bytecode: Path
    tls: Path | None = None
    more_models: int = 0
    accounts: int = 0
    gateway: dict[str, Any] = {}

    @property
    def provider(self) -> str:
        """The provider's address, as callers of its API write it."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.provider_port}"

    @property
    def all_models(self) -> tuple[str, ...]:
        """All that the configuration names: the further ones first, as the worst case for whoever looks in a row."""
        return (*(f"another-{number}" for number in range(self.more_models)), *self.models)


class System(msgspec.Struct, frozen=True, kw_only=True):
    """One system: found, told what to do, and nothing else; `bench.systems.target` starts and ends it.

    `log` is the name of its access log, where each line says what it took of the time itself. `patience_s` is how long its
    start may take.
    """

    name: str
    title: str
    how_to_get: str
    log: str | None = None
    patience_s: float = 20.0

    def command(self) -> Sequence[str] | None:
        """The program and what always follows it; None where it is not installed."""
        raise NotImplementedError

    def version(self) -> str:
        """What is installed; asked only where there is a command."""
        raise NotImplementedError

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        """Write what it needs into a directory of its own; returns the arguments for the command. Raises Unsupported."""
        raise NotImplementedError

    def environment(self, place: Place) -> dict[str, str]:
        """What its process has in its environment: this one's, as it is."""
        return dict(os.environ)

    def headers(self, place: Place) -> Headers:
        """What a request needs beside an OpenAI client's headers."""
        return ()
