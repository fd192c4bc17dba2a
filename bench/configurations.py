"""The systems' configurations: what each needs to stand in front of the provider, with one worker.

All keep their connections to the provider, don't buffer answers, speak HTTP/1.1 on both sides and write an access log
to a file. nginx doesn't buffer requests either, which suits it best.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from bench.processes import most_files

_NGINX: Final = """
daemon off; worker_processes 1; worker_rlimit_nofile {files}; pid {home}/nginx.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    client_max_body_size 64m; client_body_buffer_size 64k; keepalive_requests 1000000000;
    upstream provider {{ server 127.0.0.1:{provider}; keepalive 8192; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 300s;
        }}
    }}
}}
"""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where systems are started: the provider's port, the core for them, and the models the gateway has to know."""

    provider_port: int
    core: int | None
    models: tuple[str, ...]
    bytecode: Path


def _prepare_gateway(home: Path, port: int, place: Place) -> list[str]:
    provider = {"name": "bench", "base_url": f"http://127.0.0.1:{place.provider_port}/v1", "dialect": "openai"}
    other = next((model for model in place.models if model != "short"), None)
    document = {
        "listen": f"127.0.0.1:{port}",
        "admin": None,
        "access_log": str(home / "access.log"),
        "providers": [provider | {"api_key": "bench"}],
        "models": [
            {"id": model, "price": {"input": 1.0, "output": 2.0}, "pool": [{"provider": "bench", "model": model}]}
            for model in place.models
        ],
        "fallbacks": {"short": [other]} if other else {},
    }
    path = home / "gateway.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    return [str(path)]


def _prepare_nginx(home: Path, port: int, place: Place) -> list[str]:
    path = home / "nginx.conf"
    path.write_text(_NGINX.format(home=home, port=port, provider=place.provider_port, files=most_files()))
    home.chmod(0o755)  # the worker may be another user
    return ["-p", str(home), "-c", str(path)]


def _prepare_envoy(home: Path, port: int, place: Place) -> list[str]:
    types = "type.googleapis.com/envoy.extensions"
    log = {"@type": f"{types}.access_loggers.file.v3.FileAccessLog", "path": str(home / "access.log")}
    router = {"@type": f"{types}.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "provider", "timeout": "0s"}}
    connections = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": [{"name": "file", "typed_config": log}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    listener = {
        "name": "front",
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
    }
    many = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    endpoint = {"endpoint": {"address": _address(place.provider_port)}}
    cluster = {
        "name": "provider",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {"cluster_name": "provider", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    path = home / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    return ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


PREPARE: Final[dict[str, Callable[[Path, int, Place], list[str]]]] = {
    "gateway": _prepare_gateway,
    "nginx": _prepare_nginx,
    "envoy": _prepare_envoy,
}
