"""This gateway, twice: as it is installed, with what is compiled, and from the plain files of this repository.

The installed one is run with `-P`, which keeps the directory that the bench runs in off the path; for the other one the
repository comes first on the path. Both know the bench's models with a price and a fallback, log to a file, and find
their compiled bytecode where the run keeps it, as an installed gateway does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.client import Headers
from bench.processes import ROOT
from bench.script import parse
from bench.systems.contract import Place, System
from bench.systems.programs import said
from bench.systems.till import KEY, section

_RUN: Final = (sys.executable, "-P", "-m")


class Gateway(System, frozen=True, kw_only=True):
    """The installed gateway, or the one that can be imported from `path`, whatever that holds."""

    name: str = "gateway"
    title: str = "gateway"
    how_to_get: str = "make setup"
    log: str | None = "access.log"
    path: Path | None = None

    def command(self) -> Sequence[str] | None:
        """This interpreter, with the package and not the directory that it runs in."""
        return (*_RUN, self._package(), "serve", "--config")

    def version(self) -> str:
        """As it says, with whether it is compiled."""
        return said([*_RUN, self._package(), "--version"], self._environment())

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        """One file."""
        path = home / "gateway.yaml"
        path.write_text(json.dumps(_document(home, port, place)))  # JSON is YAML
        return [str(path)]

    def environment(self, place: Place) -> dict[str, str]:
        """This one's, with the bytecode in a directory of the run."""
        return self._environment() | {"PYTHONPYCACHEPREFIX": str(place.bytecode)}

    def headers(self, place: Place) -> Headers:
        """A key, where callers need one."""
        return (("x-api-key", KEY),) if place.accounts else ()

    def _package(self) -> str:
        """Its import name; a commit before 0.2 has another."""
        return "kyma_proxy" if self.path is None or (self.path / "kyma_proxy").exists() else "proxy"

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
        return kept if self.path is None else kept | {"PYTHONPATH": str(self.path)}


def _document(home: Path, port: int, place: Place) -> dict[str, Any]:
    providers = [
        {"name": dialect, "base_url": f"{place.provider}/v1", "dialect": dialect, "api_key": "bench"}
        | ({} if place.tls is None else {"ca_file": str(place.tls)})
        for dialect in ("openai", "anthropic")
    ]
    other = next((model for model in place.all_models if model != "short"), None)
    document: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "admin": None,
        "access_log": str(home / "access.log"),
        "providers": providers,
        "models": [
            {"id": model, "price": {"input": 1.0, "output": 2.0}, "pool": [{"provider": _dialect(model), "model": model}]}
            for model in place.all_models
        ],
        "fallbacks": {"short": [other]} if other and "short" in place.models else {},
    }
    if place.accounts:
        document |= section(home, place.accounts)
    return document | place.gateway


def _dialect(model: str) -> str:
    script = parse(model)
    return "openai" if script is None else script.dialect


INTERPRETED: Final = Gateway(name="gateway-interpreted", title="gateway, interpreted", path=ROOT / "proxy")
