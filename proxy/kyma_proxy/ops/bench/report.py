"""Writes the result of a comparison: a table in Markdown, and a plot in SVG. Pure."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from html import escape
from typing import Final

from kyma_proxy.ops.bench.asking import Asked
from kyma_proxy.ops.bench.figures import DIRECT, GATEWAY, Row, all_values, rows

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 380, 200, 46, 46, 70
_SHARE: Final = 0.99
"""An axis ends with this share of the values, so that one odd request does not squeeze all others."""
_COLOURS: Final = {DIRECT: "#64748b", GATEWAY: "#c2410c"}
_MAX_POINTS: Final = 400
_MAX_FAILURES: Final = 5


def table(asked: Sequence[Asked]) -> str:
    """The figures as a table, the differences in words, and the failures."""
    lines = [f"| | {DIRECT} | {GATEWAY} | difference of the pairs (95 %) |", "| --- | ---: | ---: | ---: |"]
    found = rows(asked)
    lines += [f"| {row.title} | {_number(row.direct)} | {_number(row.gateway)} | {_difference(row)} |" for row in found]
    for way in (DIRECT, GATEWAY):
        own = [one for one in asked if one.way == way]
        failures = collections.Counter(one.failure for one in own if one.failure is not None)
        lines += ["", f"{way}: {len(own)} requests, {failures.total()} failed" + (":" if failures else "")]
        lines += [f"- {count} × {reason}" for reason, count in failures.most_common(_MAX_FAILURES)]
    return "\n".join([*lines, *(f"\n{line}" for line in verdicts(found))])


def verdicts(found: Sequence[Row]) -> list[str]:
    """A sentence for each difference that could be told: if it is outside the provider's own noise."""
    lines = []
    for row in found:
        if row.difference is not None:
            low, median, high = row.difference
            name = row.title.partition(",")[0]
            if low <= 0 <= high:
                lines.append(f"The {name}: no difference outside the noise of {_number(low)} to {_number(high)}.")
            else:
                lines.append(f"The {name}: {median:+.2f} ({_number(low)} to {_number(high)}) through the gateway.")
    return lines


def _difference(row: Row) -> str:
    if row.difference is None:
        return "–"
    low, median, high = row.difference
    return f"{median:+.2f} ({_number(low)} to {_number(high)})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def plot(asked: Sequence[Asked], title: str) -> str:
    """Two panels: the share of requests, and of events, that came within a time. The lines lie on each other if all is well."""
    panels = [one for one in all_values(asked) if all(one[1])]
    width = _LEFT + len(panels) * (_WIDTH + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + _TOP + 60}" font-family="sans-serif" '
        'font-size="11" fill="#1e293b">',
        f'<rect width="100%" height="100%" fill="#ffffff"/><text x="{_LEFT}" y="18" font-size="13">{escape(title)}</text>',
    ]
    for at, (name, values) in enumerate(panels):
        parts += _panel(_LEFT + at * (_WIDTH + _GAP), name, values)
    for at, way in enumerate((DIRECT, GATEWAY)):
        y, x = _HEIGHT + _TOP + 48, _LEFT + at * 90
        parts.append(f'<path d="M{x} {y - 4}h18" stroke="{_COLOURS[way]}" stroke-width="2.5"/>')
        parts.append(f'<text x="{x + 24}" y="{y}">{way}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: int, name: str, values: Sequence[Sequence[float]]) -> list[str]:
    end = max(ordered[int(_SHARE * (len(ordered) - 1))] for ordered in values) * 1.05 or 1.0
    bottom = _TOP + _HEIGHT
    parts = [f'<path d="M{left} {_TOP}V{bottom}H{left + _WIDTH}" stroke="#94a3b8" fill="none"/>']
    for share in (0, 50, 90, 100):
        y = bottom - _HEIGHT * share / 100
        parts.append(f'<path d="M{left} {y:.1f}H{left + _WIDTH}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{share} %</text>')
    for at in range(5):
        x = left + _WIDTH * at / 4
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{_number(end * at / 4)}</text>')
    parts.append(f'<text x="{left + _WIDTH / 2:.1f}" y="{bottom + 30}" text-anchor="middle">{escape(name)}</text>')
    for way, ordered in zip((DIRECT, GATEWAY), values, strict=True):
        step = max(1, len(ordered) // _MAX_POINTS)
        count = len(ordered)
        points = [(0.0, 0.0), *((min(ordered[at] / end, 1.0), (at + 1) / count) for at in range(0, count, step))]
        path = "L".join(f"{left + _WIDTH * x:.1f} {bottom - _HEIGHT * y:.1f}" for x, y in points)
        parts.append(f'<path d="M{path}" stroke="{_COLOURS[way]}" stroke-width="1.8" fill="none"/>')
    return parts
