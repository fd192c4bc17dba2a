"""Takes one sample of one system at one point: starts the system if necessary, sends the load, and reads the figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from bench.histogram import LatencySummary
from bench.load import LoadResult, Workload
from bench.scenario import Load, Point
from bench.statistics import quantile
from bench.systems.target import Target

_PERCENTILES: Final = ("p50", "p90", "p99")
_MIN_RATE_PER_S: Final = 50.0
_MAX_RATE_PER_S: Final = 100_000.0
_MIN_STEP: Final = 1.1
_TRIAL_TIMEOUT_S: Final = 8.0
_LOG_TIMEOUT_S: Final = 3.0


class Targets(Protocol):
    """Starts systems and sends loads to them: the harness. All methods raise RuntimeError."""

    def target(self, name: str, point: Point) -> Target:
        """The system that keeps running between rounds."""

    def start_target(self, name: str, point: Point) -> Target:
        """Start a system; the caller ends it."""

    def run_load(self, target: Target, workload: Workload) -> LoadResult:
        """Send a load to a system."""


class Sample(msgspec.Struct, kw_only=True):
    """The figures of one round: metrics by name, and the histograms behind them."""

    values: dict[str, float] = {}
    histograms: dict[str, str] = {}


def take_sample(harness: Targets, point: Point, system: str, load: Load) -> Sample:
    """Measure a system at a point once. Raises RuntimeError if it can't be measured."""
    if not point.fresh:
        return _under_load(harness, harness.target(system, point), point, load)
    target = harness.start_target(system, point)
    try:
        sample = Sample() if load.shape == "none" else _under_load(harness, target, point, load)
    finally:
        target.stop()
    sample.values["start_s"] = target.start_s or 0.0
    return sample


def _under_load(harness: Targets, target: Target, point: Point, load: Load) -> Sample:
    if load.shape == "search":
        return Sample(values={"sustained_per_s": _sustained_rate(harness, target, point, load)})
    if load.shape == "streams" and load.warm_up:
        warm_up = msgspec.structs.replace(load, shape="closed", connections=8, requests=load.warm_up, warm_up=0)
        harness.run_load(target, Workload(load=warm_up, port=target.port, model="short"))
    log_start = _size(target.log)
    result = harness.run_load(target, Workload(load=load, port=target.port, model=point.provider.model))
    sample = Sample(values=_values(result, load))
    for name, summary in (("first_byte", result.first_byte), ("delay", result.event_delay)):
        if summary is not None:
            sample.values |= _percentiles(name, summary)
            sample.histograms[name] = summary.histogram
    if target.log is not None and any(metric.startswith("overhead_") for metric in point.report):
        sample.values |= _logged_overhead(target.log, log_start, load.warm_up + load.requests, load.warm_up)
    return sample


def _values(result: LoadResult, load: Load) -> dict[str, float]:
    values = {"rate_per_s": result.rate_per_s}
    if result.cpu_us_per_unit:
        values["cpu_us"] = result.cpu_us_per_unit
    if result.memory_before_bytes and result.memory_open_bytes:
        values["rest_mib"] = result.memory_before_bytes / 2**20
        values["stream_kib"] = (result.memory_open_bytes - result.memory_before_bytes) / load.connections / 1024
    return values


def _percentiles(name: str, summary: LatencySummary) -> dict[str, float]:
    values = {f"{name}_{percentile}_us": getattr(summary, percentile) for percentile in _PERCENTILES}
    return values | {f"{name}_max_ms": summary.maximum / 1000, f"{name}_p99_ms": summary.p99 / 1000}


def _sustained_rate(harness: Targets, target: Target, point: Point, load: Load) -> float:
    """The highest rate at which p99, counted from the scheduled times, stays below the limit. Raises RuntimeError."""

    def is_sustained(rate_per_s: float) -> bool:
        count = round(rate_per_s * (load.window_s or 1.0))
        trial = msgspec.structs.replace(
            load, shape="open", rate_per_s=rate_per_s, requests=count, warm_up=count // 10, timeout_s=_TRIAL_TIMEOUT_S
        )
        try:
            result = harness.run_load(target, Workload(load=trial, port=target.port, model=point.provider.model))
        except RuntimeError:
            return False
        return result.first_byte is not None and result.first_byte.p99 < load.max_p99_ms * 1000

    rate = highest_rate(is_sustained)
    if rate is None:
        limit = f"the 99th percentile under {load.max_p99_ms:g} ms"
        raise RuntimeError(f"it does not sustain {_MIN_RATE_PER_S:g} requests a second with {limit}")
    return rate


def highest_rate(
    is_sustained: Callable[[float], bool], *, min_per_s: float = _MIN_RATE_PER_S, max_per_s: float = _MAX_RATE_PER_S
) -> float | None:
    """Search the highest sustained rate: double it until it fails, then bisect. None if even the lowest rate fails.

    A rate that fails is tried once more: a short disturbance of the machine would otherwise end the search.
    """

    def is_sustained_in_two_trials(rate_per_s: float) -> bool:
        return is_sustained(rate_per_s) or is_sustained(rate_per_s)

    good, bad = 0.0, min_per_s
    while bad < max_per_s and is_sustained_in_two_trials(bad):
        good, bad = bad, bad * 2
    while good and bad / good > _MIN_STEP:
        middle = (good * bad) ** 0.5
        good, bad = (middle, bad) if is_sustained_in_two_trials(middle) else (good, middle)
    return good or None


def _logged_overhead(log: Path, start: int, expected: int, warm_up: int) -> dict[str, float]:
    """The gateway's own overhead, from its log after the offset `start`. Raises RuntimeError if lines are missing."""
    deadline_s = time.monotonic() + _LOG_TIMEOUT_S
    while True:
        with log.open("rb") as file:
            file.seek(start)
            lines = file.read().split(b"\n")[:-1]  # bytes after the last line end are an unfinished line
        if len(lines) >= expected:
            break
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"its log has {len(lines)} of {expected} lines")
        time.sleep(0.01)
    overheads = sorted(_decode_line(line).overhead_us for line in lines[warm_up:])
    return {"overhead_p50_us": quantile(overheads, 0.5), "overhead_p99_us": quantile(overheads, 0.99)}


class _Line(msgspec.Struct):
    overhead_us: float


_decode_line: Final = msgspec.json.Decoder(_Line).decode


def _size(log: Path | None) -> int:
    return log.stat().st_size if log is not None and log.exists() else 0
