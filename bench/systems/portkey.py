"""Portkey's gateway, in JavaScript on Node: one process, told by each request's headers where the provider is.

In `production` and headless it serves no console, and it keeps no log of requests. An event's text passes as it is, but
the first one of an answer waits 25 ms: that is written into it. Node trusts the bench's authority by its environment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.client import Headers
from bench.systems.contract import Place, System
from bench.systems.programs import HOW_TO_GET_PEERS, found, room

_NAME: Final = "portkey"
_PACKAGE: Final = room(_NAME) / "node_modules" / "@portkey-ai" / "gateway"


class _Manifest(msgspec.Struct):
    version: str


class Portkey(System, frozen=True, kw_only=True):
    """One process of Node."""

    name: str = _NAME
    title: str = "Portkey"
    how_to_get: str = HOW_TO_GET_PEERS

    def command(self) -> Sequence[str] | None:
        """Node, with the server as it is published."""
        server, node = _PACKAGE / "build" / "start-server.js", found("node")
        return (*node, str(server)) if node is not None and server.exists() else None

    def version(self) -> str:
        """As its manifest says."""
        return msgspec.json.decode((_PACKAGE / "package.json").read_bytes(), type=_Manifest).version

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        """There is nothing to configure but the port."""
        return ["--headless", f"--port={port}"]

    def environment(self, place: Place) -> dict[str, str]:
        """Without its console, and with the authority that Node shall trust beside its own."""
        authority = {} if place.tls is None else {"NODE_EXTRA_CA_CERTS": str(place.tls)}
        return os.environ | {"NODE_ENV": "production"} | authority

    def headers(self, place: Place) -> Headers:
        """Where the provider is, in each request; this is how it is told."""
        return (("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"{place.provider}/v1"))
