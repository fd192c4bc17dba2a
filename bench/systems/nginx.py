"""nginx as a plain proxy: the cost of a request in the leanest server.

Buffering is off: answers and prompts are streamed instead of being collected first, which nginx does in a file if they are
large. Prompts pass in pieces of 256 KiB, which cost less than pieces of 64 KiB or 1 MiB. The access log is buffered for a
second, like the gateway's. Each stream takes two of the worker's connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.processes import raise_file_limit
from bench.systems.contract import MAX_BODY_BYTES, Deployment, System
from bench.systems.programs import INSTALL_HINT, find_program, version_line

_CONNECTIONS: Final = 16_384
_CONFIGURATION: Final = """
daemon off; worker_processes 1; worker_rlimit_nofile {files}; pid {home}/nginx.pid; error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    access_log {home}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    client_max_body_size {body}; client_body_buffer_size 256k; keepalive_requests 1000000000;
    upstream provider {{ server 127.0.0.1:{provider}; keepalive 8192; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass {scheme}://provider; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 300s;{tls}
        }}
    }}
}}
"""
# nginx compares only names with those of a certificate, never addresses.
_TLS: Final = """
            proxy_ssl_trusted_certificate {authority}; proxy_ssl_verify on; proxy_ssl_verify_depth 3;
            proxy_ssl_name localhost; proxy_ssl_server_name on;"""


class Nginx(System, frozen=True, kw_only=True):
    """nginx with one worker; without `has_master` that is its only process, which is easier to observe."""

    name: str = "nginx"
    title: str = "nginx"
    install_hint: str = INSTALL_HINT
    has_master: bool = True

    def command(self) -> Sequence[str] | None:
        """The program of the operating system."""
        return find_program("nginx")

    def version(self) -> str:
        """The number after the slash."""
        return version_line([*(find_program("nginx") or ("nginx",)), "-v"]).rpartition("/")[2]

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """One file."""
        path = home / "nginx.conf"
        text = _CONFIGURATION.format(
            home=home,
            port=port,
            provider=deployment.provider_port,
            scheme="http" if deployment.tls is None else "https",
            tls="" if deployment.tls is None else _TLS.format(authority=deployment.tls),
            files=raise_file_limit(),
            connections=min(_CONNECTIONS, raise_file_limit()),
            body=MAX_BODY_BYTES,
        )
        path.write_text(text)
        home.chmod(0o755)  # the worker may be another user
        return ["-p", str(home), "-c", str(path), *([] if self.has_master else ["-g", "master_process off;"])]
