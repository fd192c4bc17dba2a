"""HAProxy as a plain proxy on one thread.

Bodies and answers are streamed. Connections to the provider are shared by all callers (`http-reuse always`) and kept, as
many as there were streams. Without `http-no-delay` the kernel holds an event back until the next one, which adds 80 ms.
Buffers of 64 KiB make a prompt of 1 MB a third cheaper and cost nothing elsewhere. HAProxy can log only to a syslog or to
its output, so its output is the log file. Each stream takes two file descriptors, and HAProxy refuses to start if `maxconn`
needs more than the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.processes import raise_file_limit
from bench.systems.contract import Deployment, System
from bench.systems.programs import INSTALL_HINT, find_program, version_line

_CONNECTIONS: Final = 20_000
_SPARE_FILES: Final = 200
_CONFIGURATION: Final = """
global
    nbthread 1
    tune.bufsize 65536
    maxconn {connections}
    log stdout format raw local0 info
    ssl-server-verify required
defaults
    mode http
    log global
    option httplog
    option http-no-delay
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    http-reuse always
    maxconn {connections}
frontend callers
    bind 127.0.0.1:{port} backlog 4096
    default_backend provider
backend provider
    server provider 127.0.0.1:{provider} pool-max-conn -1 pool-purge-delay 300s{tls}
"""
_TLS: Final = " ssl verify required ca-file {authority} sni str(localhost) verifyhost localhost"


class HAProxy(System, frozen=True, kw_only=True):
    """HAProxy on one thread."""

    name: str = "haproxy"
    title: str = "HAProxy"
    install_hint: str = INSTALL_HINT

    def command(self) -> Sequence[str] | None:
        """The program of the operating system."""
        return find_program("haproxy")

    def version(self) -> str:
        """The number, which is the third word of the output."""
        return "".join(version_line([*(find_program("haproxy") or ("haproxy",)), "-v"]).split()[2:3]) or "unknown"

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """One file; HAProxy stays in the foreground."""
        path = home / "haproxy.cfg"
        text = _CONFIGURATION.format(
            port=port,
            provider=deployment.provider_port,
            connections=min(_CONNECTIONS, (raise_file_limit() - _SPARE_FILES) // 2),
            tls="" if deployment.tls is None else _TLS.format(authority=deployment.tls),
        )
        path.write_text(text)
        return ["-db", "-f", str(path)]
