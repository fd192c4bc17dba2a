"""HAProxy, only proxying, on one thread.

It passes bodies and answers on as they come, and keeps connections to the provider for any caller (`http-reuse
always`), as many as there were streams. Without `http-no-delay` the kernel holds an event back until the next one, and
adds 80 ms. Buffers of 64 KiB make a prompt of 1 MB a third cheaper and nothing else dearer. It can log only to a syslog
or to its own output, so its output is the file. Each stream takes two descriptors, and it refuses to start where it is
promised more than it may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.processes import most_files
from bench.systems.contract import Place, System
from bench.systems.programs import HOW_TO_GET_PEERS, found, said

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
    """One thread, which proxies."""

    name: str = "haproxy"
    title: str = "HAProxy"
    how_to_get: str = HOW_TO_GET_PEERS

    def command(self) -> Sequence[str] | None:
        """The machine's."""
        return found("haproxy")

    def version(self) -> str:
        """The number alone, which is the third word."""
        return "".join(said([*(found("haproxy") or ("haproxy",)), "-v"]).split()[2:3]) or "unknown"

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        """One file; it stays in the foreground."""
        path = home / "haproxy.cfg"
        text = _CONFIGURATION.format(
            port=port,
            provider=place.provider_port,
            connections=min(_CONNECTIONS, (most_files() - _SPARE_FILES) // 2),
            tls="" if place.tls is None else _TLS.format(authority=place.tls),
        )
        path.write_text(text)
        return ["-db", "-f", str(path)]
