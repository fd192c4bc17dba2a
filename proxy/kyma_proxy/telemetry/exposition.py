"""Writes metrics in Prometheus' text format, or as OpenMetrics, in pieces that each take well under a millisecond.

A gateway with many models has tens of thousands of lines, and the loop that writes them has streams to serve. So the lines are
made lazily: whoever takes the pieces may do something else between two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Final, NamedTuple

from kyma_proxy.telemetry.counters import Histogram

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MAX_LINES: Final = 128
"""A piece has no more lines than this and those of one family's head."""
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_QUALITY: Final = re.compile(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", re.IGNORECASE)


class Family(NamedTuple):
    """A metric with all its samples. `kind` is counter, gauge or histogram; the name of a counter lacks its `_total`."""

    name: str
    kind: str
    text: str
    lines: Iterable[str]


def media_type(accept: str) -> str:
    """OPEN_METRICS if a request's `Accept` asks for it no less than for plain text, else PROMETHEUS."""
    asked = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for one in accept.split(","):
        name, *parameters = one.split(";")
        name = name.strip().lower()
        if name in asked:
            weights = [float(match[1]) for part in parameters if (match := _QUALITY.fullmatch(part))]
            asked[name] = max(asked[name], weights[0] if weights else 1.0)
    open_metrics, plain = asked.values()
    return OPEN_METRICS if open_metrics and open_metrics >= plain else PROMETHEUS


def written(families: Iterable[Family], *, is_open_metrics: bool) -> Iterator[str]:
    """The text of these families, in pieces; without the mark at the end of a scrape."""
    for family in families:
        suffix = "_total" if family.kind == "counter" and not is_open_metrics else ""
        name = family.name + suffix
        piece = [f"# HELP {name} {family.text}\n# TYPE {name} {family.kind}\n"]
        lines = iter(family.lines)
        while True:
            piece += islice(lines, MAX_LINES)
            if not piece:
                break
            yield "".join(piece)
            piece = []


def counter(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Family:
    """A counter: for each of `values` a sample with these labels."""
    return Family(name, "counter", text, _samples(f"{name}_total", labels, values))


def gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Family:
    """A gauge: for each of `values` a sample with these labels."""
    return Family(name, "gauge", text, _samples(name, labels, values))


def histogram(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], Histogram]]) -> Family:
    """A histogram for each of `values`. All lines of one are made at once, so that they agree."""
    return Family(name, "histogram", text, _histograms(name, labels, values))


def _samples(name: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Iterator[str]:
    for of_sample, value in values:
        pairs = _pairs(labels, of_sample)
        yield f"{name}{{{pairs}}} {float(value)}\n" if pairs else f"{name} {float(value)}\n"


def _histograms(name: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], Histogram]]) -> Iterator[str]:
    for of_sample, found in values:
        pairs = _pairs(labels, of_sample)
        cumulative = list(accumulate(found.counts))
        total = found.total
        for bound, count in zip((*found.bounds, "+Inf"), cumulative, strict=True):
            yield f'{name}_bucket{{{pairs},le="{bound}"}} {count}.0\n'
        yield f"{name}_count{{{pairs}}} {cumulative[-1]}.0\n"
        yield f"{name}_sum{{{pairs}}} {total}\n"


def _pairs(labels: Sequence[str], values: Sequence[str]) -> str:
    return ",".join([f'{label}="{value.translate(_ESCAPED)}"' for label, value in zip(labels, values, strict=True)])
