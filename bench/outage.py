"""Measures an outage: the time that a fallback adds to the first byte, and the attempts on a dead source in a minute.

    python -m bench.outage [--seconds 60]

One source refuses connections (nothing listens), another is silent (a connection is neither accepted nor refused), and beside
each is one that answers. The figures are of the installed gateway, over loopback.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.harness import start_provider
from bench.processes import Process, free_port
from bench.systems.contract import Deployment
from bench.systems.gateway import Gateway
from bench.systems.target import Target, start

_PAIRS: Final = 300
_INTERVAL_S: Final = 4.0
_CONNECT_TIMEOUT_S: Final = 0.2
_ALLOWANCE_S: Final = 0.15
_MAX_ATTEMPTS_PER_MINUTE: Final = 4
_OUTAGES: Final = ("refused", "silent")


def main() -> int:
    """Measure and print; returns the exit code: 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the outage lasts (default: 60)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="outage-") as home, socket.socket() as silent:
        waiting = _fill_backlog(silent)
        provider_port = free_port()
        provider: Process | None = None
        target: Target | None = None
        try:
            provider = start_provider(Path(home) / "provider", None, provider_port)
            ports = {"alive": provider_port, "refused": free_port(), "silent": silent.getsockname()[1]}
            deployment = Deployment(
                provider_port=provider_port, core=None, models=("short",), bytecode=Path(home),
                gateway=_document(ports),
            )  # fmt: skip
            target = start(Gateway(), deployment)
            _measure_fallback(target.port)
            return _measure_outage(target, seconds)
        finally:
            if target is not None:
                target.stop()
            if provider is not None:
                provider.stop()
            for one in waiting:
                one.close()


def _fill_backlog(listening: socket.socket) -> list[socket.socket]:
    """Fill the backlog of a listening socket, so that the next connection is neither accepted nor refused."""
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(listening.getsockname())
    return waiting


def _document(ports: dict[str, int]) -> dict[str, Any]:
    """One model for each timed fallback, so that no circuit breaker is open; and one model for each outage."""
    alive = {"provider": "alive", "model": "short"}

    def model(name: str, dead: str | None) -> dict[str, Any]:
        first = [{"provider": dead, "model": name}] if dead else []
        return {"id": name, "policy": "priority", "pool": [*first, alive]}

    timed = [model(f"{kind}-{at}", dead) for at in range(_PAIRS) for kind, dead in (("plain", None), ("fallback", "refused"))]
    return {
        "defaults": {"timeouts": {"connect": f"{round(_CONNECT_TIMEOUT_S * 1000)}ms"}},
        "providers": [
            {"name": name, "base_url": f"http://127.0.0.1:{port}/v1", "dialect": "openai", "warm_connections": 0}
            for name, port in ports.items()
        ],
        "models": [model("short", None), *timed, *(model(f"outage-{dead}", dead) for dead in _OUTAGES)],
    }


def _request(connection: http.client.HTTPConnection, model: str) -> tuple[float, str | None]:
    """Returns the seconds to the answer's head, and the fallback layer that answered. Raises RuntimeError if none did."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Tell me of the sea."}]})
    start_s = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    took_s = time.perf_counter() - start_s
    text = response.read()
    if response.status != 200:
        raise RuntimeError(f"{model}: {response.status} {text[:200]!r}")
    return took_s, response.headers.get("x-kyma-fallback-layer")


def _measure_fallback(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    times: dict[str, list[float]] = {"plain": [], "fallback": []}
    for at in range(_PAIRS):
        for kind, samples in times.items():
            took_s, layer = _request(connection, f"{kind}-{at}")
            if layer != (None if kind == "plain" else "1"):
                raise RuntimeError(f"{kind}: answered from layer {layer}")
            samples.append(took_s)
    connection.close()
    plain, fallback = (statistics.median(samples) * 1e6 for samples in times.values())
    added = sorted(b - a for a, b in zip(times["plain"], times["fallback"], strict=True))
    print(f"first byte, {_PAIRS} pairs: {plain:.0f} µs, after a refused connection {fallback:.0f} µs")
    median_us, tail_us = statistics.median(added) * 1e6, added[_PAIRS * 99 // 100] * 1e6
    print(f"a refused connection adds {median_us:.0f} µs (99th percentile {tail_us:.0f} µs)")


def _measure_outage(target: Target, seconds: float) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=10)
    max_s = dict.fromkeys(_OUTAGES, 0.0)
    start_s = time.monotonic()
    requests = 0
    while requests * _INTERVAL_S < seconds:
        time.sleep(max(0.0, start_s + requests * _INTERVAL_S - time.monotonic()))
        for dead in _OUTAGES:
            max_s[dead] = max(max_s[dead], _request(connection, f"outage-{dead}")[0])
        requests += 1
    connection.close()
    log = target.log
    assert log is not None
    records = [json.loads(line) for line in log.read_text().splitlines()]
    is_missed = False
    for dead in _OUTAGES:
        attempts = sum(
            one.startswith(f"{dead}:")
            for record in records
            if record["model"] == f"outage-{dead}"
            for one in record["attempts"]
        )
        limit_s = _CONNECT_TIMEOUT_S + _ALLOWANCE_S
        max_attempts = _MAX_ATTEMPTS_PER_MINUTE * math.ceil(seconds / 60)
        print(
            f"{dead} for {seconds:g} s, a request each {_INTERVAL_S:g} s: {attempts} of {requests} attempts reached it, "
            f"no caller waited longer than {max_s[dead] * 1e3:.1f} ms"
        )
        is_missed |= not 1 <= attempts <= max_attempts or max_s[dead] > limit_s
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
