"""Makes the report from the file of a run. The report is a pure function of that file.

    python -m bench.report RUN.json [--out DIRECTORY] [--readme README.md]

Without a directory the Markdown goes to standard output; with one, the Markdown and its plots are written there. `--readme`
puts the summary into a page, between the lines that mark its places.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import analysis, results
from bench.analysis import values
from bench.figures import cell, in_full, label, number, origin, span
from bench.histogram import percentile
from bench.machine import tree_version
from bench.results import Measurement, Run
from bench.scenario import BudgetRow

NONE: Final = "–"
_TAIL_PERCENT: Final = 99.9
_TAILS: Final = {
    "delay": "delay, 99.9th percentile of all rounds (µs)",
    "first_byte": "first byte, 99.9th percentile of all rounds (µs)",
}
_ADDED_TAIL: Final = "added_delay_tail_us"
"""It is no metric of a round: a tail needs the events of all rounds."""
_DISAGREE: Final = 0.1
_HEADLINE: Final = (
    ("short@20", "cpu_us", "CPU per short request (µs)"),
    ("stream@100", "cpu_us", "CPU per event, 100 streams (µs)"),
    ("delay", "added_delay_p50_us", "added delay per event, median (µs)"),
    ("delay", "added_delay_p99_us", "added delay per event, 99th percentile (µs)"),
    ("delay", _ADDED_TAIL, "added delay per event, 99.9th percentile of all rounds (µs)"),
    ("first-byte", "added_first_byte_p50_us", "added time to first byte, median (µs)"),
    ("memory", "stream_kib", "memory per open stream (KiB)"),
    ("sustained", "sustained_per_s", "highest rate with the 99th percentile of the first byte under 10 ms (1/s)"),
)
_HOW_TO_READ: Final = """\
Each figure is the median over the rounds. In brackets is its 95 % confidence interval (by the sign test), or the lowest and
the highest value if there are fewer than six rounds. The rounds of all systems are interleaved. An *added* figure is the
difference to the direct connection in the same round. CPU is the CPU time of the system and its children, kernel time
included, as the scheduler counts it. In open loads, a request's time counts from its scheduled time; in closed loads, from
its sending. A verdict is *inconclusive* if the interval includes the limit, or if there are too few rounds. Absolute
figures say little about another machine; ratios say more. *failed* is explained below the table; a dash was not measured:
much slower systems get no point with more connections than they can serve."""
_PAIRS: Final = """\
\\† The ratio is the median of the rounds' ratios. Where it differs from the ratio of the two medians by more than a tenth, the
machine's speed has changed between rounds: both systems of a round have met the same machine, so the pairs say more."""


def markdown(run: Run, plots: Mapping[str, str] | None = None) -> str:
    """The whole report. `plots` maps captions to image files."""
    parts = [
        f"# What a gateway costs: {run.commit}",
        _provenance(run),
        headline(run) if any(analysis.find_measurement(run, key) is not None for key, _, _ in _HEADLINE) else "",
        _failures(run, [one for key, _, _ in _HEADLINE if (one := analysis.find_measurement(run, key)) is not None]),
        f"*{origin(run)}.*",
        *(f"![{caption}]({file})" for caption, file in (plots or {}).items()),
        "## The budget\n\n" + budget(run) if any(analysis.find_measurement(run, row.of) for row in run.budget) else "",
        _HOW_TO_READ,
        *(_section(run, name) for name in dict.fromkeys(one.point.scenario for one in run.measurements)),
        _cross_check(run),
        _missing(run),
    ]
    return "\n\n".join(part for part in parts if part)


def _provenance(run: Run) -> str:
    cores, machine = run.cores, run.machine
    pinned = "no core was pinned"
    if cores.system is not None:
        pinned = f"the system on core {cores.system}, the provider on {cores.provider}, the load on {cores.load}"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    lines = [
        f"Measured {run.at} in {run.seconds / 60:.0f} minutes, plan `{run.plan}`.",
        f"{machine['cores']} cores of {machine['processor']}, {machine['kernel']}; {pinned}; "
        f"other processes kept {run.others_cores:g} cores busy.",
        f"{versions}.",
    ]
    if run.interrupted:
        lines.append("**The run was interrupted, so it is not complete.**")
    return "\n".join(lines)


def headline(run: Run) -> str:
    """The summary table: one line for each system, without the direct connection."""
    rows = [
        (measurement, metric, title)
        for key, metric, title in _HEADLINE
        if (measurement := analysis.find_measurement(run, key)) is not None
    ]
    systems = [name for name in run.titles if name != "direct" and any(name in one.samples for one, _, _ in rows)]
    lines = [
        [run.titles[name], *(_headline_cell(measurement, name, metric) for measurement, metric, _ in rows)] for name in systems
    ]
    return _table(["", *(title for _, _, title in rows)], lines)


def _headline_cell(measurement: Measurement, system: str, metric: str) -> str:
    samples = measurement.samples.get(system)
    if metric != _ADDED_TAIL or samples is None or samples.failed is not None:
        return cell(measurement, system, metric)
    own, control = _tail(measurement, system, "delay"), _tail(measurement, "direct", "delay")
    return NONE if own is None or control is None else number(own - control)


def summary(run: Run, plot: str, version: str) -> dict[str, str]:
    """The parts of a page about the whole project, by the names of their places; `version` is that of this tree."""
    measured = [one for key, _, _ in _HEADLINE if (one := analysis.find_measurement(run, key)) is not None]
    of_run = origin(run)
    if f"version {version}," not in of_run:
        of_run += f", which is older than this tree (version {version})"
    return {
        "plot": f"![What stands between you and the provider costs this much. {origin(run)}.]({plot})\n\n*{of_run}.*",
        "table": "\n\n".join(part for part in (f"*{of_run}.*", headline(run), _failures(run, measured)) if part),
    }


def put_summary(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part between the two lines that mark its place. Raises ValueError if one has no place."""
    for name, text in parts.items():
        begin, end = f"<!-- benchmark: {name} -->", f"<!-- end of benchmark: {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"the page has no place for the {name}: two lines, {begin} and {end}")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


def _failures(run: Run, measurements: Sequence[Measurement]) -> str:
    """A line for each system that failed at one of these points, with the reason."""
    reasons = {
        f"- *{run.titles[name]} failed* at {in_full(one.point.title)}: {samples.failed}"
        for one in measurements
        for name, samples in one.samples.items()
        if samples.failed is not None
    }
    return "\n".join(sorted(reasons))


def budget(run: Run) -> str:
    """The budget table: the gateway's figures, their ratios to other systems, and the verdicts."""
    others = [name for name in ("nginx", "envoy") if name in run.titles and name not in run.absent]
    lines: list[list[str]] = []
    notes: list[str] = []
    for row in run.budget:
        if analysis.find_measurement(run, row.of) is None:
            continue
        own = analysis.budget_interval(run, row, "gateway")
        compared = [_ratio(run, row, name, notes) for name in others]
        lines.append([
            f"{in_full(row.row)} ({row.unit})" if row.unit else in_full(row.row),
            "failed" if own is None else number(own.median),
            *compared,
            *(_verdict(run, row, kind) for kind in ("must", "aim")),
        ])  # fmt: skip
    table = _table(["", "gateway", *(f"÷ {run.titles[name]}" for name in others), "must", "aim"], lines)
    return "\n\n".join([table, _PAIRS, "\n".join(notes)] if notes else [table])


def _ratio(run: Run, row: BudgetRow, other: str, notes: list[str]) -> str:
    """The ratio of the pairs; a mark, and a note, where that of the medians is another."""
    ratio, of_medians = analysis.ratio_to(run, row, other), analysis.ratio_of_medians(run, row, other)
    if ratio is None:
        return NONE
    is_odd = of_medians is not None and abs(ratio.median / of_medians - 1) > _DISAGREE
    if is_odd and of_medians is not None:
        both = f"{number(ratio.median)} by pairs, {number(of_medians)} by medians"
        notes.append(f"- {in_full(row.row)}, ÷ {run.titles[other]}: {both}")
    return f"{number(ratio.median)} ×{' †' * is_odd} ({span(ratio)})"


def _verdict(run: Run, row: BudgetRow, kind: str) -> str:
    limit = row.limit("must" if kind == "must" else "aim")
    if limit is None:
        return NONE
    bound = f"≤ {limit.at_most:g}" + (f" × {run.titles.get(limit.of, limit.of)}" if limit.of else "")
    return f"{bound}: {analysis.budget_verdict(run, row, limit)}"


def _section(run: Run, scenario: str) -> str:
    measurements = [one for one in run.measurements if one.point.scenario == scenario]
    systems = [name for name in run.titles if any(name in one.samples for one in measurements)]
    lines = []
    for measurement in measurements:
        for metric in measurement.point.report:
            cells = [cell(measurement, name, metric) + _late(measurement, name, metric) for name in systems]
            if any(cell != NONE for cell in cells):
                lines.append([" ".join(filter(None, (measurement.point.name, label(metric)))), *cells])
        for kind, tail in _TAILS.items():
            if f"added_{kind}_p99_us" not in measurement.point.report:
                continue
            cells = [_tail_cell(measurement, name, kind) for name in systems]
            if any(cell != NONE for cell in cells):
                lines.append([" ".join(filter(None, (measurement.point.name, tail))), *cells])
    first = measurements[0].point
    title = first.title.partition(": ")[0] if first.name else first.title
    parts = [f"## {in_full(title)}", _table(["", *(run.titles[name] for name in systems)], lines), _failures(run, measurements)]
    return "\n\n".join(part for part in parts if part)


def _tail_cell(measurement: Measurement, system: str, kind: str) -> str:
    """p99.9 of all rounds together, and in brackets the difference to the direct connection."""
    own, control = _tail(measurement, system, kind), _tail(measurement, "direct", kind)
    if own is None:
        return NONE
    return number(own) if control is None or system == "direct" else f"{number(own)} (+{number(own - control)})"


def _tail(measurement: Measurement, system: str, kind: str) -> float | None:
    samples = measurement.samples.get(system)
    return percentile(samples.histograms[kind], _TAIL_PERCENT) if samples is not None and kind in samples.histograms else None


def _late(measurement: Measurement, system: str, metric: str) -> str:
    """A mark for the longest delay beside a hostile case, if its median is above the case's limit."""
    load = measurement.point.load
    if not load.hostile or not metric.endswith("_max_ms"):
        return ""
    figure = analysis.median_interval(values(measurement, system, metric))
    return " **late**" if figure is not None and figure.median > load.max_p99_ms else ""


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _cross_check(run: Run) -> str:
    checks = [check for one in run.measurements if (check := analysis.cross_check(one)) is not None]
    if not checks:
        return ""
    lines = [
        [in_full(check.title), *map(number, (check.own, check.added, check.added - check.own, check.hops)), check.verdict]
        for check in checks
    ]
    head = ["", "own count (µs)", "added, from outside", "remainder", "added by nginx", "verdict"]
    return f"## The gateway's own count of its overhead\n\n{analysis.CROSS_CHECK_NOTE}\n\n" + _table(head, lines)


def _missing(run: Run) -> str:
    lines = [f"- {run.titles.get(name, name)} was not installed: {hint}" for name, hint in run.absent.items()]
    lines += _failures(run, run.measurements).splitlines()
    return "## What is missing\n\n" + "\n".join(lines) if lines else ""


def main() -> int:
    """Make the report of a run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="the JSON file of the run")
    parser.add_argument(
        "--out", type=Path, help="a directory for README.md and its plots (default: Markdown to standard output)"
    )
    parser.add_argument("--readme", type=Path, help="a page that gets the summary; its plot is that of --out")
    options = parser.parse_args()
    try:
        run = results.read(options.run)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.run}: {error.strerror if isinstance(error, OSError) else error}\n")
        return 2
    if options.out is None:
        if options.readme is None:
            sys.stdout.write(markdown(run) + "\n")
        else:
            _write_summary(options.readme, run, options.run.parent)
        return 0
    from bench.plots import write_plots  # noqa: PLC0415  a table needs no plotting library

    options.out.mkdir(parents=True, exist_ok=True)
    plots = write_plots(run, options.out)
    (options.out / "README.md").write_text(markdown(run, plots) + "\n")
    if options.readme is not None:
        _write_summary(options.readme, run, options.out)
    return 0


def _write_summary(page: Path, run: Run, directory: Path) -> None:
    """Put the summary into a page; its plot is the simplest one of this directory."""
    plot = next((name for name in ("glance.svg", "cost.svg") if (directory / name).exists()), "cost.svg")
    path = os.path.relpath(directory / plot, page.parent)
    page.write_text(put_summary(page.read_text(), summary(run, path, tree_version())))


if __name__ == "__main__":
    sys.exit(main())
