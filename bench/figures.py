"""Writes the figures of a report: numbers, intervals, and the names of metrics, for tables and plots. Pure."""

from __future__ import annotations

import re
from typing import Final

from bench import analysis
from bench.results import Measurement, Run
from bench.statistics import Interval

NONE: Final = "–"
FAILED: Final = "failed"
_UNITS: Final = {"_us": "µs", "_ms": "ms", "_kib": "KiB", "_mib": "MiB", "_per_s": "1/s", "_s": "s"}
_PERCENTILE: Final = re.compile(r"\bp(\d+(?:\.\d+)?)\b")


def number(value: float) -> str:
    """A number with three digits that count, or more before the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def span(figure: Interval) -> str:
    """The two ends of an interval."""
    return f"{number(figure.low)}–{number(figure.high)}"


def cell(measurement: Measurement, system: str, metric: str) -> str:
    """The median of a system and its interval; `failed`, or a dash if it was not measured."""
    samples = measurement.samples.get(system)
    if samples is None:
        return NONE
    if samples.failed is not None:
        return FAILED
    figure = analysis.median_interval(analysis.values(measurement, system, metric))
    return NONE if figure is None else f"{number(figure.median)} ({span(figure)})"


def label(metric: str) -> str:
    """The label of a metric, with its unit: `added_delay_p99_us` is added delay, 99th percentile (µs)."""
    name, unit = next(((metric.removesuffix(end), unit) for end, unit in _UNITS.items() if metric.endswith(end)), (metric, ""))
    words = re.sub(r" (p\d)", r", \1", name.replace("cpu", "CPU").replace("_", " "))
    return f"{in_full(words)} ({unit})" if unit else in_full(words)


def in_full(text: str) -> str:
    """The text without short words for percentiles: `p50` is the median, `p99` the 99th percentile."""
    return _PERCENTILE.sub(lambda found: "median" if found[1] == "50" else f"{found[1]}th percentile", text)


def origin(run: Run) -> str:
    """The machine, the version, the commit and the day of a run's figures."""
    version = re.match(r"kyma-proxy (\S+)", run.versions.get(run.titles.get("gateway", ""), ""))
    versions = f"version {version[1]}, " if version is not None else ""
    return f"Measured on {machine(run)}, {versions}commit {run.commit}, {run.at[:10]}"


def machine(run: Run) -> str:
    """The machine of a run: its cores and its processor's name."""
    cores = int(run.machine["cores"])
    return f"{cores} core{'s' * (cores != 1)} of {run.machine['processor']}"
