"""Draws the plots of a report from the file of a run; the same file gives the same bytes.

All axes that show figures are linear, and each figure has its confidence interval. A value that is many times the smallest one
is cut off and written beside its bar; a system that failed is named, without a bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis import find_measurement, median_interval, values
from bench.figures import FAILED, number, origin
from bench.results import Measurement, Run
from bench.statistics import Interval

Panel = tuple[str, str, str]
"""A point, a metric, and a title."""

_OWN: Final = "#c2410c"
_OTHERS: Final = "#94a3b8"
_LINES: Final = {
    "gateway": "#c2410c", "gateway-metered": "#ea580c", "gateway-interpreted": "#fdba74",
    "nginx": "#15803d", "haproxy": "#1d4ed8", "envoy": "#7e22ce",
    "smg": "#0e7490", "portkey": "#a16207", "litellm": "#be185d", "direct": "#64748b",
}  # fmt: skip
_COST: Final[Sequence[Panel]] = (
    ("short@20", "cpu_us", "CPU per short request, µs"),
    ("stream@100", "cpu_us", "CPU per streamed event, µs"),
    ("memory", "stream_kib", "memory per open stream, KiB"),
)
_DELAY: Final[Sequence[Panel]] = (
    ("delay", "added_delay_p50_us", "median, µs"),
    ("delay", "added_delay_p90_us", "90th percentile, µs"),
    ("delay", "added_delay_p99_us", "99th percentile, µs"),
)
_FIRST_BYTE: Final[Sequence[Panel]] = tuple(
    ("first-byte", metric.replace("delay", "first_byte"), title) for _, metric, title in _DELAY
)
_MAX_RATIO: Final = 16.0
_GLANCE: Final = ("direct", "nginx", "gateway", "envoy", "litellm")
_MAX_GLANCE_RATIO: Final = 30.0
"""A direct request takes so little that a gateway's would else leave the plot."""
_GLANCE_TITLE: Final = "Time until a short request is answered, one at a time (median, ms)"
_INTERVALS: Final = "The whiskers are the 95 % confidence intervals of the medians; an arrow leaves the plot."


def write_plots(run: Run, directory: Path) -> dict[str, str]:
    """Write the plots for which the run has figures; returns the files by caption."""
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})
    figures = {
        "What stands between you and the provider costs this much (less is better)": ("glance.svg", _glance(run)),
        "CPU time and memory (less is better)": ("cost.svg", _bars(run, _COST)),
        "Added delay of an event, 100 streams (less is better)": ("delay.svg", _bars(run, _DELAY)),
        "Added time to first byte of a stream (less is better)": ("first-byte.svg", _bars(run, _FIRST_BYTE)),
        "CPU time per event as the number of streams grows": ("streams.svg", _growth(run)),
    }
    files = {}
    for caption, (file, figure) in figures.items():
        if figure is not None:
            figure.savefig(directory / file, metadata={"Date": None}, bbox_inches="tight")
            files[caption] = file
    return files


def _glance(run: Run) -> Figure | None:
    """One figure for who has never seen such a table: the whole time of a request, without anything between and with each."""
    measurement = find_measurement(run, "alone")
    if measurement is None:
        return None
    found = {name: median_interval(values(measurement, name, "first_byte_p50_us")) for name in _GLANCE}
    medians = {name: figure.median / 1000 for name, figure in found.items() if figure is not None}
    if not {"direct", "gateway"} < set(medians):
        return None
    end = _limit(medians.values(), _MAX_GLANCE_RATIO) * 1.15
    figure = Figure(figsize=(7.2, 0.8 + 0.34 * len(medians)))
    axes = figure.add_subplot()
    for row, (name, median) in enumerate(medians.items()):
        is_cut = median > end
        colour = _OWN if name == "gateway" else _OTHERS
        axes.barh(row, end if is_cut else median, color=colour, hatch="///" if is_cut else None, height=0.7)
        axes.text(min(median, end), row, f"  {number(median)}{' →' if is_cut else ''}", va="center", fontsize=9)
    axes.set_yticks(range(len(medians)), ["kyma-proxy" if name == "gateway" else run.titles[name] for name in medians])
    axes.set_xlim(0, end * 1.2)
    axes.set_ylim(len(medians) - 0.4, -0.6)
    axes.set_title(_GLANCE_TITLE, fontsize=10, loc="left")
    figure.text(0.01, -0.02, f"{origin(run)}. An arrow leaves the plot.", fontsize=7, va="top", color="#475569")
    _hide_frame(axes)
    return figure


def _bars(run: Run, panels: Sequence[Panel]) -> Figure | None:
    """One panel beside the other, with a row for each system that was measured in any of them."""
    places = [(title, metric, find_measurement(run, key)) for key, metric, title in panels]
    found = [(title, metric, one) for title, metric, one in places if one is not None and _medians(run, one, metric)]
    names = [name for name in run.titles if name != "direct" and any(name in one.samples for _, _, one in found)]
    if not found:
        return None
    figure = Figure(figsize=(9.6, 0.9 + 0.25 * len(names)))
    for at, (title, metric, measurement) in enumerate(found, 1):
        axes = figure.add_subplot(1, len(found), at)
        _panel(axes, run, measurement, metric, names)
        axes.set_yticks(range(len(names)), [run.titles[name] if at == 1 else "" for name in names])
        axes.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.text(0.01, -0.02, f"{origin(run)}. {_INTERVALS}", fontsize=7, va="top", color="#475569")
    return figure


def _panel(axes: Axes, run: Run, measurement: Measurement, metric: str, names: Sequence[str]) -> None:
    medians = _medians(run, measurement, metric)
    limit = _limit(one.median for one in medians.values())
    end = max(limit * 1.1, *(min(one.high, 2 * limit) for one in medians.values() if one.median <= limit))
    for row, name in enumerate(names):
        figure, samples = medians.get(name), measurement.samples.get(name)
        if figure is None:
            text = FAILED if samples is not None and samples.failed is not None else "not measured"
            axes.text(0, row, f" {text}", va="center", fontsize=8, color="#b91c1c" if text == FAILED else "#64748b")
            continue
        is_cut = figure.median > limit
        colour = _OWN if name == "gateway" else _OTHERS
        axes.barh(row, end if is_cut else figure.median, color=colour, hatch="///" if is_cut else None)
        if not is_cut:
            axes.plot([figure.low, min(figure.high, end)], [row, row], color="#1e293b", linewidth=0.8, marker="|", markersize=4)
        leaves = " →" if is_cut or figure.high > end else ""
        at = end if is_cut else max(min(figure.high, end), figure.median)
        axes.text(at, row, f"  {number(figure.median)}{leaves}", va="center", fontsize=8)
    low = min(0.0, *(one.low for one in medians.values()))
    axes.set_xlim(max(low, -end), end * 1.35)
    axes.set_ylim(len(names) - 0.4, -0.6)
    _hide_frame(axes)


def _limit(medians: Iterable[float], max_ratio: float = _MAX_RATIO) -> float:
    """The largest value that is drawn whole: not so many times the smallest that this one can't be seen any more."""
    ordered = sorted(value for value in medians if value > 0) or [1.0]
    return max(value for value in ordered if value <= max_ratio * ordered[0])


def _medians(run: Run, measurement: Measurement, metric: str) -> dict[str, Interval]:
    found = {name: median_interval(values(measurement, name, metric)) for name in run.titles if name != "direct"}
    return {name: figure for name, figure in found.items() if figure is not None}


def _growth(run: Run) -> Figure | None:
    points = [one for one in run.measurements if one.point.scenario == "stream"]
    if len(points) < 2:
        return None
    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.add_subplot()
    lines = {name: [_medians(run, one, "cpu_us").get(name) for one in points] for name in run.titles if name != "direct"}
    several = (one.median for line in lines.values() for one in line[1:] if one is not None)  # one stream fills no core
    limit = _limit(several)
    for name, line in lines.items():
        failed = [one.point.name for one in points if name in one.samples and one.samples[name].failed is not None]
        drawn = [(at, one) for at, one in enumerate(line) if one is not None]
        if not drawn and not failed:
            continue
        note = f" (failed at {', '.join(failed)})" if failed else ""
        axes.errorbar(
            [at for at, _ in drawn],
            [one.median for _, one in drawn],
            yerr=[[one.median - one.low for _, one in drawn], [one.high - one.median for _, one in drawn]],
            label=f"{run.titles[name]}{note}", color=_LINES.get(name), linewidth=2.4 if name == "gateway" else 1.2,
            elinewidth=0.8, capsize=2, marker=".",
        )  # fmt: skip
    axes.set_xticks(range(len(points)), [f"{int(one.point.name):,}" for one in points])
    axes.set_ylim(0, limit * 1.3)
    axes.set_xlabel("streams at once")
    axes.set_ylabel("CPU per event, µs")
    explained = f"{origin(run)}.\n{_INTERVALS}"
    figure.text(0.01, -0.02, explained, fontsize=7, va="top", color="#475569")
    _hide_frame(axes)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _hide_frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
