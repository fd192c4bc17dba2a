"""This gateway, in two builds: as it is installed, with compiled modules, and interpreted from the files of this repository.

The installed build runs with `-P`, which keeps the working directory off the import path; for the interpreted one, the
repository comes first on the path. Both know the bench's models, with a price and a fallback, and log to a file. Their
bytecode is cached in a directory of the run, so that they start as fast as an installed gateway.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import site
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.client import Headers
from bench.hostile.answers import ANSWERS, model_of
from bench.processes import ROOT
from bench.script import parse
from bench.systems.accounts import KEY, accounts_section
from bench.systems.contract import Deployment, System
from bench.systems.programs import version_line

_RUN: Final = (sys.executable, "-P", "-m")


class Gateway(System, frozen=True, kw_only=True):
    """The installed gateway, or the one that can be imported from the directory `path`. With `accounts` callers are metered."""

    name: str = "gateway"
    title: str = "gateway"
    install_hint: str = "make setup"
    log: str | None = "access.log"
    path: Path | None = None
    accounts: int = 0

    def command(self) -> Sequence[str] | None:
        """This interpreter with the package, or None if the package is not installed."""
        if self.path is None and not _is_installed():
            return None
        return (*_RUN, self._package(), "serve", "--config")

    def version(self) -> str:
        """Its own version line, which tells whether it is compiled."""
        return version_line([*_RUN, self._package(), "--version"], self._environment())

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """One configuration file."""
        path = home / "gateway.yaml"
        path.write_text(json.dumps(_document(home, port, self._metered(deployment))))  # JSON is YAML
        return [str(path)]

    def environment(self, deployment: Deployment) -> dict[str, str]:
        """The variables of this process, with the bytecode cache in a directory of the run."""
        return self._environment() | {"PYTHONPYCACHEPREFIX": str(deployment.bytecode)}

    def headers(self, deployment: Deployment) -> Headers:
        """A key, if callers need one."""
        return (("x-api-key", KEY),) if self._metered(deployment).accounts else ()

    def _metered(self, deployment: Deployment) -> Deployment:
        """The deployment with the accounts of the system, if it has none of its own."""
        return msgspec.structs.replace(deployment, accounts=deployment.accounts or self.accounts)

    def _package(self) -> str:
        """Its import package; older commits have another name."""
        return "kyma_proxy" if self.path is None or (self.path / "kyma_proxy").exists() else "proxy"

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
        return kept if self.path is None else kept | {"PYTHONPATH": str(self.path)}


def _is_installed() -> bool:
    """True if this interpreter's environment has the package, whatever the import path of this process holds."""
    return any(importlib.metadata.distributions(name="kyma-proxy", path=site.getsitepackages()))


def _document(home: Path, port: int, deployment: Deployment) -> dict[str, Any]:
    providers = [
        {"name": dialect, "base_url": f"{deployment.provider}/v1", "dialect": dialect, "api_key": "bench"}
        | ({} if deployment.tls is None else {"ca_file": str(deployment.tls)})
        for dialect in ("openai", "anthropic")
    ]
    other = next((model for model in deployment.all_models if model != "short"), None)
    document: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "admin": None,
        "access_log": str(home / "access.log"),
        "providers": providers,
        "models": [
            {"id": model, "price": {"input": 1.0, "output": 2.0}, "pool": [{"provider": _dialect(model), "model": model}]}
            for model in deployment.all_models
        ],
        "fallbacks": {"short": [other]} if other and "short" in deployment.models else {},
    }
    if deployment.hostile_port:
        _add_hostile_sources(document, deployment.hostile_port)
    if deployment.accounts:
        document |= accounts_section(home, deployment.accounts)
    return document | deployment.gateway


def _add_hostile_sources(document: dict[str, Any], port: int) -> None:
    """Add a model for each hostile answer."""
    document["providers"] += [
        {"name": f"hostile-{dialect}", "base_url": f"http://127.0.0.1:{port}/v1", "dialect": dialect, "api_key": "bench"}
        | {"warm_connections": 0}
        for dialect in ("openai", "anthropic")
    ]
    document["models"] += [
        {
            "id": model_of(name), "price": {"input": 1.0, "output": 2.0},
            "pool": [{"provider": f"hostile-{answer.dialect}", "model": model_of(name)}],
        }
        for name, answer in ANSWERS.items()
    ]  # fmt: skip


def _dialect(model: str) -> str:
    script = parse(model)
    return "anthropic" if script is not None and script.dialect == "anthropic" else "openai"


METERED: Final = Gateway(name="gateway-metered", title="gateway, metered", accounts=1000)
INTERPRETED: Final = Gateway(name="gateway-interpreted", title="gateway, interpreted", path=ROOT / "proxy")
