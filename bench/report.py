"""The report: a pure function of a run's file, so that it can be made again.

    python -m bench.report RUN.json [--out DIRECTORY]

Without a directory the Markdown goes to standard output; with one, it and its plots are written there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import results, verdicts
from bench.histogram import tail
from bench.results import Measured, Run
from bench.scenario import Row
from bench.statistics import Interval
from bench.verdicts import values

NONE: Final = "–"
_TAIL: Final = 99.9
_TAILS: Final = {"delay": "delay p99.9, all rounds (µs)", "first_byte": "first byte p99.9, all rounds (µs)"}
_UNITS: Final = {"_us": "µs", "_kib": "KiB", "_mib": "MiB", "_per_s": "1/s", "_s": "s"}
_HEADLINE: Final = (
    ("short@20", "cpu_us", "CPU per short request (µs)"),
    ("stream@100", "cpu_us", "CPU per event, 100 streams (µs)"),
    ("delay", "added_delay_p50_us", "added delay per event, p50 (µs)"),
    ("delay", "added_delay_p99_us", "p99 (µs)"),
    ("first-byte", "added_first_byte_p50_us", "added time to first byte, p50 (µs)"),
    ("memory", "stream_kib", "memory per open stream (KiB)"),
    ("sustained", "sustained_per_s", "highest rate, p99 < 10 ms (1/s)"),
)
_HOW_TO_READ: Final = """\
Each figure is the median over the rounds; in brackets is where that median lies with 95 % confidence (the sign test's
interval), or the lowest and the highest value where there are fewer than six rounds. All systems of a round were measured
one after the other. What is *added* is over the direct connection in the same round. CPU is the processor time of the
system and its children, the kernel's on their behalf included, by the scheduler's own count. Times count from when a request
was due in open loads, and from when it was sent in closed ones. Absolute figures say little about another machine; ratios say
more."""


def markdown(run: Run, plots: Mapping[str, str] | None = None) -> str:
    """The whole report. `plots` are the images that exist, file by caption."""
    parts = [
        f"# What a gateway costs: {run.commit}",
        _of_what(run),
        headline(run),
        *(f"![{caption}]({file})" for caption, file in (plots or {}).items()),
        "## The budget\n\n" + budget(run),
        _HOW_TO_READ,
        *(_section(run, name) for name in dict.fromkeys(one.point.scenario for one in run.measured)),
        _cross_check(run),
        _missing(run),
    ]
    return "\n\n".join(part for part in parts if part)


def _of_what(run: Run) -> str:
    cores, machine = run.cores, run.machine
    pinned = f"the system on core {cores.system}, the provider on {cores.provider}, the load on {cores.load}"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    lines = [
        f"Measured {run.at} in {run.seconds / 60:.0f} minutes, plan `{run.plan}`.",
        f"{machine['cores']} cores of {machine['processor']}, {machine['kernel']}; "
        f"{pinned if cores.system is not None else 'no core was pinned'}; others kept {run.others_cores:g} cores busy.",
        f"{versions}.",
    ]
    if run.interrupted:
        lines.append("**It was interrupted, so it is not complete.**")
    return "\n".join(lines)


def headline(run: Run) -> str:
    """The table that people look at first: a line for each system, the direct connection left out."""
    rows = [(measured, metric, title) for key, metric, title in _HEADLINE if (measured := verdicts.find(run, key)) is not None]
    systems = [name for name in run.titles if name != "direct" and any(name in one.taken for one, _, _ in rows)]
    lines = [[run.titles[name], *(_cell(measured, name, metric) for measured, metric, _ in rows)] for name in systems]
    return _table(["", *(title for _, _, title in rows)], lines)


def budget(run: Run) -> str:
    """Each row of the budget, with the gateway's figure, those that it is compared with, and the verdicts."""
    others = [name for name in ("nginx", "envoy") if name in run.titles and name not in run.absent]
    lines = []
    for row in run.budget:
        measured = verdicts.find(run, row.of)
        if measured is None:
            continue
        own = verdicts.row_interval(run, row, "gateway")
        compared = [verdicts.ratio(run, row, name) for name in others]
        lines.append([
            f"{row.row} ({row.unit})" if row.unit else row.row,
            "failed" if own is None else _number(own.middle),
            *(NONE if ratio is None else f"{_number(ratio.middle)} × ({_span(ratio)})" for ratio in compared),
            *(_judged(run, row, kind) for kind in ("must", "aim")),
        ])  # fmt: skip
    return _table(["", "gateway", *(f"÷ {run.titles[name]}" for name in others), "must", "aim"], lines)


def _judged(run: Run, row: Row, kind: str) -> str:
    limit = row.limit("must" if kind == "must" else "aim")
    if limit is None:
        return NONE
    bound = f"≤ {limit.at_most:g}" + (f" × {run.titles.get(limit.of, limit.of)}" if limit.of else "")
    return f"{bound}: {verdicts.verdict(run, row, limit)}"


def _section(run: Run, scenario: str) -> str:
    all_measured = [one for one in run.measured if one.point.scenario == scenario]
    systems = [name for name in run.titles if any(name in one.taken for one in all_measured)]
    lines = []
    for measured in all_measured:
        for metric in measured.point.report:
            cells = [_cell(measured, name, metric) for name in systems]
            if any(cell != NONE for cell in cells):
                lines.append([" ".join(filter(None, (measured.point.name, _named(metric)))), *cells])
        for kind, words in _TAILS.items():
            if f"added_{kind}_p99_us" not in measured.point.report:
                continue
            cells = [_tail_cell(measured, name, kind) for name in systems]
            if any(cell != NONE for cell in cells):
                lines.append([" ".join(filter(None, (measured.point.name, words))), *cells])
    title = all_measured[0].point.title.partition(": ")[0] if all_measured[0].point.name else all_measured[0].point.title
    return f"## {title}\n\n" + _table(["", *(run.titles[name] for name in systems)], lines)


def _tail_cell(measured: Measured, system: str, kind: str) -> str:
    """p99.9 of all rounds together, and what that adds to the direct connection's."""
    tails = [
        tail(taken.histograms[kind], _TAIL) if (taken := measured.taken.get(name)) and kind in taken.histograms else None
        for name in (system, "direct")
    ]
    own, control = tails
    if own is None:
        return NONE
    return _number(own) if control is None or system == "direct" else f"{_number(own)} (+{_number(own - control)})"


def _cell(measured: Measured, system: str, metric: str) -> str:
    taken = measured.taken.get(system)
    if taken is None:
        return NONE
    if taken.failed is not None:
        return "failed"
    seen = verdicts.median_interval(values(measured, system, metric))
    if seen is None:
        return NONE
    return f"{_number(seen.middle)} ({_span(seen)})"


def _span(seen: Interval) -> str:
    return f"{_number(seen.low)}–{_number(seen.high)}"


def _named(metric: str) -> str:
    """A metric's name and unit for a reader: `added_delay_p99_us` is added delay p99 (µs)."""
    name, unit = next(((metric.removesuffix(end), unit) for end, unit in _UNITS.items() if metric.endswith(end)), (metric, ""))
    words = name.replace("cpu", "CPU").replace("_", " ")
    return f"{words} ({unit})" if unit else words


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _cross_check(run: Run) -> str:
    checks = [check for one in run.measured if (check := verdicts.cross_check(one)) is not None]
    if not checks:
        return ""
    lines = [
        [check.title, *map(_number, (check.own, check.added, check.added - check.own, check.hops)), check.verdict]
        for check in checks
    ]
    head = ["", "own count (µs)", "added, from outside", "left", "added by nginx", "verdict"]
    return f"## The gateway's own count of its overhead\n\n{verdicts.WHAT_IS_CHECKED}\n\n" + _table(head, lines)


def _missing(run: Run) -> str:
    lines = [f"- {run.titles.get(name, name)} was absent. {how}" for name, how in run.absent.items()]
    lines += [
        f"- {run.titles[name]} failed at *{measured.point.title}*: {taken.failed}"
        for measured in run.measured
        for name, taken in measured.taken.items()
        if taken.failed is not None
    ]
    return "## What is missing\n\n" + "\n".join(lines) if lines else ""


def main() -> int:
    """Make a report again; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Makes a report from a run's file.")
    parser.add_argument("run", type=Path, help="the run's JSON")
    parser.add_argument("--out", type=Path, help="a directory for README.md and its plots (default: Markdown to stdout)")
    options = parser.parse_args()
    run = results.read(options.run)
    if options.out is None:
        sys.stdout.write(markdown(run) + "\n")
        return 0
    from bench.plots import draw  # noqa: PLC0415  a table needs no plotting library

    options.out.mkdir(parents=True, exist_ok=True)
    plots = draw(run, options.out)
    (options.out / "README.md").write_text(markdown(run, plots) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
