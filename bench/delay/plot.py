"""Draws the added delay of every event over time, above the moments that the gateway has noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.delay.arrivals import Arrivals
from bench.delay.causes import KINDS, Mark

_COLOURS: Final = {
    "collector": "#be185d", "sweeper": "#64748b", "timer": "#a16207", "log": "#0e7490", "ledger": "#15803d", "held": "#dc2626",
}  # fmt: skip
_MIN_WIDTH_S: Final = 0.02


def write_plot(path: Path, title: str, seen: Mapping[str, Arrivals], marks: Sequence[Mark], direct_ns: float) -> None:
    """Write one figure: a panel for each system on one scale, and the marks of the gateway below its events."""
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})
    figure = Figure(figsize=(12, 2.4 * len(seen) + 1.8))
    heights = [*(3 for _ in seen), 2]
    panels = figure.subplots(len(seen) + 1, 1, height_ratios=heights, sharex=True)
    top_ms = max(max(one.delay_ns) - direct_ns for one in seen.values()) / 1e6
    start_ns = {name: one.came_ns[0] for name, one in seen.items()}
    for axes, (name, one) in zip(panels, seen.items(), strict=False):
        came_s = (np.frombuffer(one.came_ns, dtype=np.int64) - start_ns[name]) / 1e9
        added_ms = (np.frombuffer(one.delay_ns, dtype=np.int64) - direct_ns) / 1e6
        axes.scatter(
            came_s, added_ms, s=1.5, linewidths=0, color="#c2410c" if name == "gateway" else "#94a3b8", rasterized=True
        )
        axes.set_ylim(min(0.0, float(added_ms.min())), top_ms * 1.05)
        axes.set_ylabel("added delay, ms")
        axes.set_title(name, loc="left", fontsize=9)
        _hide_frame(axes)
    _draw_marks(panels[-1], marks, start_ns["gateway"])
    panels[-1].set_xlabel("seconds")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", dpi=150)


def _draw_marks(axes: Axes, marks: Sequence[Mark], start_ns: int) -> None:
    for row, kind in enumerate(KINDS):
        spans = [
            ((one.start_ns - start_ns) / 1e9, max(_MIN_WIDTH_S, (one.end_ns - one.start_ns) / 1e9))
            for one in marks
            if one.kind == kind and one.start_ns >= start_ns
        ]
        axes.broken_barh(spans, (row - 0.35, 0.7), facecolors=_COLOURS[kind], rasterized=True)
    axes.set_yticks(range(len(KINDS)), KINDS)
    axes.set_ylim(len(KINDS) - 0.4, -0.6)
    axes.set_title("what the gateway did", loc="left", fontsize=9)
    _hide_frame(axes)


def _hide_frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
