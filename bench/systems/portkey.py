"""Portkey's gateway, in JavaScript on Node: one process. The headers of each request name the provider.

In `production` and headless mode it serves no console and keeps no log of requests. The text of an event passes unchanged,
but the first event of an answer waits 25 ms, which is hard-coded. An environment variable makes Node trust the bench's
authority.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.client import Headers
from bench.systems.contract import Deployment, System
from bench.systems.programs import INSTALL_HINT, find_program, install_directory

_NAME: Final = "portkey"
_PACKAGE: Final = install_directory(_NAME) / "node_modules" / "@portkey-ai" / "gateway"


class _Manifest(msgspec.Struct):
    version: str


class Portkey(System, frozen=True, kw_only=True):
    """Portkey's gateway in one Node process."""

    name: str = _NAME
    title: str = "Portkey"
    install_hint: str = INSTALL_HINT

    def command(self) -> Sequence[str] | None:
        """Node with the published server."""
        server, node = _PACKAGE / "build" / "start-server.js", find_program("node")
        return (*node, str(server)) if node is not None and server.exists() else None

    def version(self) -> str:
        """The version in its package.json."""
        return msgspec.json.decode((_PACKAGE / "package.json").read_bytes(), type=_Manifest).version

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """The port is the only setting."""
        return ["--headless", f"--port={port}"]

    def environment(self, deployment: Deployment) -> dict[str, str]:
        """Production mode, and a further authority that Node trusts."""
        authority = {} if deployment.tls is None else {"NODE_EXTRA_CA_CERTS": str(deployment.tls)}
        return os.environ | {"NODE_ENV": "production"} | authority

    def headers(self, deployment: Deployment) -> Headers:
        """The provider, which each request names."""
        return (("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"{deployment.provider}/v1"))
