"""nginx, only proxying: what a request costs in the leanest server there is.

Nothing is buffered: an answer goes out as it comes in, and a prompt is passed on as it comes, in pieces of 256 KiB, which
cost less than 64 KiB or 1 MiB, instead of being gathered first, in a file where it is large. The access log is gathered
for a second, as the gateway gathers its own. Each stream takes two of the worker's connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.processes import most_files
from bench.systems.contract import MAX_BODY_BYTES, Place, System
from bench.systems.programs import HOW_TO_GET_PEERS, found, said

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
# It compares only names with a certificate's, never addresses.
_TLS: Final = """
            proxy_ssl_trusted_certificate {authority}; proxy_ssl_verify on; proxy_ssl_verify_depth 3;
            proxy_ssl_name localhost; proxy_ssl_server_name on;"""


class Nginx(System, frozen=True, kw_only=True):
    """One worker, which proxies."""

    name: str = "nginx"
    title: str = "nginx"
    how_to_get: str = HOW_TO_GET_PEERS

    def command(self) -> Sequence[str] | None:
        """The machine's."""
        return found("nginx")

    def version(self) -> str:
        """The number alone."""
        return said([*(found("nginx") or ("nginx",)), "-v"]).rpartition("/")[2]

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        """One file."""
        path = home / "nginx.conf"
        text = _CONFIGURATION.format(
            home=home,
            port=port,
            provider=place.provider_port,
            scheme="http" if place.tls is None else "https",
            tls="" if place.tls is None else _TLS.format(authority=place.tls),
            files=most_files(),
            connections=min(_CONNECTIONS, most_files()),
            body=MAX_BODY_BYTES,
        )
        path.write_text(text)
        home.chmod(0o755)  # the worker may be another user
        return ["-p", str(home), "-c", str(path)]
