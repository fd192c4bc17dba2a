"""Draws the plots of a report from the file of a run; the same file gives the same bytes."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis import find_measurement, values
from bench.histogram import PERCENTILES, percentiles
from bench.results import Run

_OWN: Final = "#c2410c"
_OTHERS: Final = "#94a3b8"
_LINES: Final = {
    "gateway": "#c2410c", "gateway-interpreted": "#fdba74", "nginx": "#15803d", "haproxy": "#1d4ed8", "envoy": "#7e22ce",
    "smg": "#0e7490", "portkey": "#a16207", "litellm": "#be185d", "direct": "#64748b",
}  # fmt: skip
_BARS: Final = (
    ("short@20", "cpu_us", "CPU per short request, µs"),
    ("stream@100", "cpu_us", "CPU per streamed event, µs"),
    ("memory", "stream_kib", "memory per open stream, KiB"),
)
_MAX_LINEAR_RATIO: Final = 20.0


def write_plots(run: Run, directory: Path) -> dict[str, str]:
    """Write the plots for which the run has figures; returns the files by caption."""
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})
    figures = {
        "CPU time and memory (less is better)": ("cost.svg", _bars(run)),
        "Delay of an event, 100 streams (lower is better)": ("delay.svg", _curves(run, "delay", "delay", "delay of an event")),
        "Time to first byte of a stream (lower is better)": (
            "first-byte.svg",
            _curves(run, "first-byte", "first_byte", "time to first byte"),
        ),
        "CPU time per event as the number of streams grows": ("streams.svg", _growth(run)),
    }
    files = {}
    for caption, (file, figure) in figures.items():
        if figure is not None:
            figure.savefig(directory / file, metadata={"Date": None}, bbox_inches="tight")
            files[caption] = file
    return files


def _bars(run: Run) -> Figure | None:
    panels = [(title, medians) for key, metric, title in _BARS if (medians := _medians(run, key, metric))]
    if not panels:
        return None
    figure = Figure(figsize=(9.6, 2.6))
    for number, (title, medians) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), number)
        names = list(reversed(medians))
        bars = axes.barh(
            [run.titles[name] for name in names],
            [medians[name] for name in names],
            color=[_OWN if name == "gateway" else _OTHERS for name in names],
        )
        axes.bar_label(bars, labels=[f"{medians[name]:,.0f}" for name in names], padding=2, fontsize=8)
        if max(medians.values()) > _MAX_LINEAR_RATIO * min(medians.values()):
            axes.set_xscale("log")
            axes.set_xlabel("log", fontsize=8)
        axes.margins(x=0.2)
        axes.set_title(title, fontsize=9)
        _hide_frame(axes)
    figure.tight_layout()
    return figure


def _medians(run: Run, key: str, metric: str) -> dict[str, float]:
    measurement = find_measurement(run, key)
    if measurement is None:
        return {}
    by_name = {name: values(measurement, name, metric) for name in run.titles if name != "direct"}
    return {name: statistics.median(one) for name, one in by_name.items() if one}


def _curves(run: Run, key: str, kind: str, label: str) -> Figure | None:
    measurement = find_measurement(run, key)
    samples = {} if measurement is None else measurement.samples
    histograms = {name: one.histograms[kind] for name, one in samples.items() if kind in one.histograms}
    if not histograms:
        return None
    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.add_subplot()
    places = [1 / (1 - percent / 100) for percent in PERCENTILES]
    for name in run.titles:
        if name in histograms:
            values_us = percentiles(histograms[name])
            axes.plot(
                places[: len(values_us)], values_us, label=run.titles[name], color=_LINES.get(name), linewidth=_width(name)
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [percent for percent in PERCENTILES if percent in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)]
    axes.set_xticks([1 / (1 - percent / 100) for percent in ticks], [f"{percent:g} %" for percent in ticks])
    axes.minorticks_off()
    axes.set_xlabel("percentile")
    axes.set_ylabel(f"{label}, µs (log)")
    _legend(axes)
    return figure


def _growth(run: Run) -> Figure | None:
    points = [one for one in run.measurements if one.point.scenario == "stream"]
    if len(points) < 2:
        return None
    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.add_subplot()
    for name in run.titles:
        line = [(int(one.point.name), statistics.median(costs)) for one in points if (costs := values(one, name, "cpu_us"))]
        if line:
            axes.plot(
                *zip(*line, strict=True), label=run.titles[name], color=_LINES.get(name), linewidth=_width(name), marker="."
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    places = [int(one.point.name) for one in points]
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.minorticks_off()
    axes.set_xlabel("streams at once")
    axes.set_ylabel("CPU per event, µs (log)")
    _legend(axes)
    return figure


def _width(name: str) -> float:
    return 2.4 if name == "gateway" else 1.2


def _legend(axes: Axes) -> None:
    _hide_frame(axes)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _hide_frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
