"""What an outage costs callers: how much a fallback adds to the first byte, and how often a dead source is asked in a minute.

    python -m bench.outage [--seconds 60]

One source is refused (nobody listens), another is silent (a connection is neither taken nor refused), and beside each is one
that answers. The figures are of the installed gateway, over loopback.
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

from bench.client import request_bytes
from bench.processes import Process, answers, free_port
from bench.systems.contract import Place
from bench.systems.gateway import Gateway
from bench.systems.target import Target, start

_PAIRS: Final = 300
_EVERY_S: Final = 4.0
_CONNECT_S: Final = 0.2
_OUTAGES: Final = ("refused", "silent")


def main() -> int:
    """Measure and print; returns the exit code, 1 where a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the outage lasts (default: 60)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="outage-") as home, socket.socket() as silent:
        full = _fill(silent)
        provider_port = free_port()
        provider = Process([sys.executable, "-m", "bench.provider", str(provider_port)], Path(home) / "provider", None)
        target: Target | None = None
        try:
            provider.wait_until(lambda: answers(provider_port, request_bytes(provider_port, "short", stream=False)))
            ports = {"alive": provider_port, "refused": free_port(), "silent": silent.getsockname()[1]}
            place = Place(
                provider_port=provider_port, core=None, models=("short",), bytecode=Path(home),
                gateway=_document(ports),
            )  # fmt: skip
            target = start(Gateway(), place)
            _fallbacks(target.port)
            return _outage(target, seconds)
        finally:
            if target is not None:
                target.stop()
            provider.stop()
            for one in full:
                one.close()


def _fill(listening: socket.socket) -> list[socket.socket]:
    """Fill the queue of a listening socket, so that the next connection is neither taken nor refused."""
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    full = [socket.socket() for _ in range(4)]
    for one in full:
        one.setblocking(False)
        one.connect_ex(listening.getsockname())
    return full


def _document(ports: dict[str, int]) -> dict[str, Any]:
    """One model a fallback that is timed, so that no source has begun to rest; and one for each outage."""
    alive = {"provider": "alive", "model": "short"}

    def model(name: str, dead: str | None) -> dict[str, Any]:
        first = [{"provider": dead, "model": name}] if dead else []
        return {"id": name, "policy": "priority", "pool": [*first, alive]}

    timed = [model(f"{kind}-{at}", dead) for at in range(_PAIRS) for kind, dead in (("plain", None), ("fallback", "refused"))]
    return {
        "defaults": {"timeouts": {"connect": f"{round(_CONNECT_S * 1000)}ms"}},
        "providers": [
            {"name": name, "base_url": f"http://127.0.0.1:{port}/v1", "dialect": "openai", "warm_connections": 0}
            for name, port in ports.items()
        ],
        "models": [model("short", None), *timed, *(model(f"outage-{dead}", dead) for dead in _OUTAGES)],
    }


def _ask(connection: http.client.HTTPConnection, model: str) -> tuple[float, str | None]:
    """Seconds to the answer's head, and the layer that answered. Raises RuntimeError where none did."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Tell me of the sea."}]})
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    took = time.perf_counter() - began
    text = response.read()
    if response.status != 200:
        raise RuntimeError(f"{model}: {response.status} {text[:200]!r}")
    return took, response.headers.get("x-kyma-fallback-layer")


def _fallbacks(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    times: dict[str, list[float]] = {"plain": [], "fallback": []}
    for at in range(_PAIRS):
        for kind, seen in times.items():
            took, layer = _ask(connection, f"{kind}-{at}")
            if layer != (None if kind == "plain" else "1"):
                raise RuntimeError(f"{kind}: answered from layer {layer}")
            seen.append(took)
    connection.close()
    plain, fallback = (statistics.median(seen) * 1e6 for seen in times.values())
    added = sorted(b - a for a, b in zip(times["plain"], times["fallback"], strict=True))
    print(f"first byte, {_PAIRS} pairs: {plain:.0f} µs, after a refused connection {fallback:.0f} µs")
    print(f"a refused connection adds {statistics.median(added) * 1e6:.0f} µs (p99 {added[_PAIRS * 99 // 100] * 1e6:.0f} µs)")


def _outage(target: Target, seconds: float) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=10)
    longest = dict.fromkeys(_OUTAGES, 0.0)
    began = time.monotonic()
    asked = 0
    while asked * _EVERY_S < seconds:
        time.sleep(max(0.0, began + asked * _EVERY_S - time.monotonic()))
        for dead in _OUTAGES:
            longest[dead] = max(longest[dead], _ask(connection, f"outage-{dead}")[0])
        asked += 1
    connection.close()
    log = target.log
    assert log is not None
    records = [json.loads(line) for line in log.read_text().splitlines()]
    broken = False
    for dead in _OUTAGES:
        attempts = sum(
            one.startswith(f"{dead}:")
            for record in records
            if record["model"] == f"outage-{dead}"
            for one in record["attempts"]
        )
        limit_s = _CONNECT_S + 0.15
        print(
            f"{dead} for {seconds:g} s, a request each {_EVERY_S:g} s: {attempts} of {asked} attempts reached it, "
            f"no caller waited longer than {longest[dead] * 1e3:.1f} ms"
        )
        broken |= not 1 <= attempts <= 4 * math.ceil(seconds / 60) or longest[dead] > limit_s
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
