"""Compares this tree with another commit, pair by pair, and tells whether a difference is outside the noise.

    python -m bench.compare BASE [--scenarios FILE] [--only SCENARIO …] [--rounds N] [--out FILE]

BASE is any commit that git knows. It is exported and built beside the installed build of this tree; the rounds of both are
interleaved on the same machine. The exit code is 1 if something failed, or if CPU time is a regression outside the noise.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench import analysis
from bench.figures import in_full, label
from bench.processes import ROOT
from bench.results import Run
from bench.scenario import Scenarios
from bench.scenario_file import FILE, read
from bench.statistics import Interval, interval, ratios
from bench.suite import RESULTS, log_progress, measure
from bench.systems.gateway import Gateway
from bench.yaml_lines import FileError

_BUILDS: Final = ROOT / "build" / "base"
_HIGHER_IS_BETTER: Final = frozenset({"rate_per_s", "sustained_per_s"})


def main() -> int:
    """Compare; returns the exit code."""
    options = _options()
    try:
        commit = commit_of(options.base)
    except subprocess.CalledProcessError:
        log_progress(f"{options.base} is not a commit of this repository; see git log")
        return 2
    try:
        scenarios = read("compare", options.scenarios)
    except (FileError, OSError) as error:
        log_progress(f"{options.scenarios}: {(error.strerror or '').lower()}" if isinstance(error, OSError) else str(error))
        return 2
    try:
        scenarios = scenarios.only(options.only) if options.only else scenarios
    except KeyError as error:
        log_progress(f"there is no scenario {error.args[0]} to compare; there are: {scenarios.scenario_names()}")
        return 2
    points = tuple(msgspec.structs.replace(point, rounds=options.rounds or point.rounds) for point in scenarios.points)
    try:
        site = build(commit)
    except subprocess.CalledProcessError as error:
        log_progress(f"{commit} can't be built: {error}")
        return 2
    systems = {"gateway": Gateway(title="this tree"), "base": Gateway(name="base", title=commit, path=site)}
    run = measure("compare", Scenarios(points, scenarios.budget, scenarios.slow), systems, options.out, pin=True)
    compared = comparisons(run)
    versions = ", ".join(f"{name}: {version}" for name, version in run.versions.items())
    sys.stdout.write(f"# {run.commit} compared with {commit}\n\n{versions}\n\n{table(compared)}\n")
    return 130 if run.interrupted else exit_code(compared)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("base", help="the commit to compare this tree with: HEAD~1, main, a tag")
    parser.add_argument("--scenarios", type=Path, default=FILE, metavar="FILE", help="scenarios of your own")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="scenarios, or points of one: short stream@100")
    parser.add_argument("--rounds", type=int, help="number of pairs (default: the scenario's; fewer than 6 prove nothing)")
    parser.add_argument("--out", type=Path, default=RESULTS / "compare.json", help="where the JSON goes")
    return parser.parse_args()


def commit_of(name: str) -> str:
    """The commit that git knows by this name. Raises subprocess.CalledProcessError."""
    command = ["git", "rev-parse", "--short=12", f"{name}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def build(commit: str) -> Path:
    """Build a commit as an installation does; returns the directory from which its package can be imported."""
    site, draft, source = (_BUILDS / commit / name for name in ("site", "draft", "source"))
    if site.is_dir():
        return site
    log_progress(f"building {commit} (half a minute)")
    shutil.rmtree(_BUILDS / commit, ignore_errors=True)
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", f"--directory={source}"], input=archive, check=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", f"--target={draft}", str(source)], check=True)
    draft.rename(site)  # atomic: a directory with that name is complete
    return site


class Comparison(msgspec.Struct, frozen=True):
    """One metric of both commits: the medians, the paired ratio, and the verdict."""

    title: str
    base: float | None
    own: float | None
    ratio: Interval | None
    verdict: str


def comparisons(run: Run) -> list[Comparison]:
    """One comparison for each metric of each point, also for those that failed. Pure."""
    compared = []
    for measurement in run.measurements:
        for metric in measurement.point.report:
            title = f"{in_full(measurement.point.title)}, {label(metric)}"
            base, own = (analysis.median_interval(analysis.values(measurement, name, metric)) for name in ("base", "gateway"))
            pairs = ratios(analysis.values(measurement, "gateway", metric), analysis.values(measurement, "base", metric))
            if base is None or own is None:
                reasons = [f"{name}: {one.failed}" for name, one in measurement.samples.items() if one.failed is not None]
                verdict = f"failed: {'; '.join(reasons) or 'one of them has no value'}"
                compared.append(Comparison(title, None, None, None, verdict))
            elif not pairs:
                compared.append(Comparison(title, base.median, own.median, None, "no ratio: the base is zero"))
            else:
                ratio = interval(pairs)
                verdict = ratio_verdict(ratio, higher_is_better=metric in _HIGHER_IS_BETTER)
                compared.append(Comparison(title, base.median, own.median, ratio, verdict))
    return compared


def table(compared: Sequence[Comparison]) -> str:
    """The comparisons as a Markdown table. Pure."""
    rows = ["| | base | this tree | this tree ÷ base | verdict |", "| --- | ---: | ---: | ---: | --- |"]
    for one in compared:
        figures = ["–" if value is None else f"{value:,.2f}" for value in (one.base, one.own)]
        ratio = one.ratio
        figures.append("–" if ratio is None else f"{ratio.median:.3f} ({ratio.low:.3f}–{ratio.high:.3f})")
        rows.append(f"| {one.title} | {' | '.join(figures)} | {one.verdict} |")
    return "\n".join(rows)


def exit_code(compared: Sequence[Comparison]) -> int:
    """1 if something failed or CPU time is a regression. Latency does not count: of many percentiles one is always outside."""
    return int(
        any(one.verdict.startswith("failed") or (one.verdict == "regression" and "CPU" in one.title) for one in compared)
    )


def ratio_verdict(ratio: Interval, *, higher_is_better: bool) -> str:
    """`regression` or `improvement` if the interval excludes 1; otherwise the reason why there is no verdict."""
    if not ratio.is_conclusive:
        return "too few rounds"
    if not ratio.excludes(1.0):
        return "within the noise"
    return "improvement" if (ratio.median > 1.0) == higher_is_better else "regression"


if __name__ == "__main__":
    sys.exit(main())
