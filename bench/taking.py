"""How a point is measured of one system, once: started where it must be, loaded, and read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from bench.bench import Bench
from bench.histogram import Spread
from bench.load import Order, Result
from bench.scenario import Load, Point
from bench.statistics import quantile
from bench.systems.target import Target

_SHARES: Final = ("p50", "p90", "p99")
_FIRST_RATE: Final = 50.0
_HIGHEST_RATE: Final = 100_000.0
_MIN_STEP: Final = 1.1
_TRIAL_S: Final = 8.0
_LOG_PATIENCE_S: Final = 3.0


class Sample(msgspec.Struct, kw_only=True):
    """One round: metrics by name, and the histograms behind them."""

    values: dict[str, float] = {}
    histograms: dict[str, str] = {}


def take(bench: Bench, point: Point, system: str, load: Load) -> Sample:
    """Measure a system at a point, once. Raises RuntimeError where it can't be measured."""
    if not point.fresh:
        return _loaded(bench, bench.target(system, point), point, load)
    target = bench.fresh(system, point)
    try:
        sample = Sample() if load.shape == "none" else _loaded(bench, target, point, load)
    finally:
        target.stop()
    sample.values["start_s"] = target.start_s or 0.0
    return sample


def _loaded(bench: Bench, target: Target, point: Point, load: Load) -> Sample:
    if load.shape == "search":
        return Sample(values={"sustained_per_s": _sustained(bench, target, point, load)})
    if load.shape == "streams" and load.warm:
        first = msgspec.structs.replace(load, shape="closed", connections=8, requests=load.warm, warm=0)
        bench.play(target, Order(load=first, port=target.port, model="short"))
    log_at = _size(target.log)
    result = bench.play(target, Order(load=load, port=target.port, model=point.provider.model))
    sample = Sample(values=_values(result, load))
    for name, spread in (("first_byte", result.first_byte), ("delay", result.event_delay)):
        if spread is not None:
            sample.values |= _percentiles(name, spread)
            sample.histograms[name] = spread.histogram
    if target.log is not None and any(metric.startswith("overhead_") for metric in point.report):
        sample.values |= _own_overhead(target.log, log_at, load.warm + load.requests, load.warm)
    return sample


def _values(result: Result, load: Load) -> dict[str, float]:
    values = {"rate_per_s": result.rate_per_s}
    if result.cpu_us_per_unit:
        values["cpu_us"] = result.cpu_us_per_unit
    if result.memory_before_bytes and result.memory_open_bytes:
        values["rest_mib"] = result.memory_before_bytes / 2**20
        values["stream_kib"] = (result.memory_open_bytes - result.memory_before_bytes) / load.connections / 1024
    return values


def _percentiles(name: str, spread: Spread) -> dict[str, float]:
    return {f"{name}_{share}_us": getattr(spread, share) for share in _SHARES}


def _sustained(bench: Bench, target: Target, point: Point, load: Load) -> float:
    """The highest rate at which p99, counted from when requests were due, stays below the limit: doubled, then halved.

    A rate that fails is tried once more: what disturbs a machine for a moment would else end the search.
    """

    def holds_once(rate_per_s: float) -> bool:
        count = round(rate_per_s * (load.window_s or 1.0))
        trial = msgspec.structs.replace(
            load, shape="open", rate_per_s=rate_per_s, requests=count, warm=count // 10, timeout_s=_TRIAL_S
        )
        try:
            seen = bench.play(target, Order(load=trial, port=target.port, model=point.provider.model))
        except RuntimeError:
            return False
        return seen.first_byte is not None and seen.first_byte.p99 < load.most_ms * 1000

    def holds(rate_per_s: float) -> bool:
        return holds_once(rate_per_s) or holds_once(rate_per_s)

    good, bad = 0.0, _FIRST_RATE
    while bad < _HIGHEST_RATE and holds(bad):
        good, bad = bad, bad * 2
    while good and bad / good > _MIN_STEP:
        middle = (good * bad) ** 0.5
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    if not good:
        raise RuntimeError(f"it does not sustain {_FIRST_RATE:g} requests a second with p99 under {load.most_ms:g} ms")
    return good


def _own_overhead(log: Path, at: int, expected: int, warm: int) -> dict[str, float]:
    """What the gateway says in its log of the time it took itself. Raises RuntimeError where lines are missing."""
    deadline_s = time.monotonic() + _LOG_PATIENCE_S
    while True:
        with log.open("rb") as file:
            file.seek(at)
            lines = file.read().split(b"\n")[:-1]  # what follows the last line end is still being written
        if len(lines) >= expected:
            break
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"its log has {len(lines)} of {expected} lines")
        time.sleep(0.01)
    own = sorted(_overhead(line).overhead_us for line in lines[warm:])
    return {"overhead_p50_us": quantile(own, 0.5), "overhead_p99_us": quantile(own, 0.99)}


class _Line(msgspec.Struct):
    overhead_us: float


_overhead: Final = msgspec.json.Decoder(_Line).decode


def _size(log: Path | None) -> int:
    return log.stat().st_size if log is not None and log.exists() else 0
