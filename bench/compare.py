"""Holds this tree against another commit, pair by pair, and says whether a difference is outside the noise.

    python -m bench.compare BASE [--only SCENARIO …] [--rounds N] [--out FILE]

BASE is any commit that git knows. It is exported and built beside the installed build of this tree; both then take turns
on the same machine. The exit code is 1 where something failed, or processor time is dearer outside the noise.
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

from bench import verdicts
from bench.processes import ROOT
from bench.results import Measured, Run
from bench.scenario import Scenarios, read
from bench.statistics import Interval, interval, ratios
from bench.suite import RESULTS, measure, say
from bench.systems.gateway import Gateway

_BUILDS: Final = ROOT / "build" / "base"
_HIGHER_IS_BETTER: Final = frozenset({"rate_per_s", "sustained_per_s"})


def main() -> int:
    """Compare; returns the exit code."""
    options = _options()
    try:
        commit = _git("rev-parse", "--short=12", f"{options.base}^{{commit}}")
    except subprocess.CalledProcessError:
        say(f"{options.base} is not a commit of this repository; see git log")
        return 2
    scenarios = read("compare")
    try:
        scenarios = scenarios.only(options.only) if options.only else scenarios
    except KeyError as error:
        say(f"there is no scenario {error.args[0]} to compare; there are: {scenarios.names()}")
        return 2
    points = tuple(msgspec.structs.replace(point, rounds=options.rounds or point.rounds) for point in scenarios.points)
    try:
        built = _built(commit)
    except subprocess.CalledProcessError as error:
        say(f"{commit} can't be built: {error}")
        return 2
    systems = {"gateway": Gateway(title="this tree"), "base": Gateway(name="base", title=commit, path=built)}
    run = measure("compare", Scenarios(points, scenarios.budget, scenarios.slow), systems, options.out, pin=True)
    found = lines(run)
    versions = ", ".join(f"{name}: {version}" for name, version in run.versions.items())
    sys.stdout.write(f"# {run.commit} against {commit}\n\n{versions}\n\n{table(found)}\n")
    return 130 if run.interrupted else exit_code(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("base", help="the commit to hold this tree against: HEAD~1, main, a tag")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="scenarios, or points of one: short stream@100")
    parser.add_argument("--rounds", type=int, help="how many pairs (default: the scenario's; fewer than 6 prove nothing)")
    parser.add_argument("--out", type=Path, default=RESULTS / "compare.json", help="where the JSON goes")
    return parser.parse_args()


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _built(commit: str) -> Path:
    """A directory from which that commit's package can be imported, built as an installation builds it."""
    site, draft, source = (_BUILDS / commit / name for name in ("site", "draft", "source"))
    if site.is_dir():
        return site
    say(f"building {commit} (half a minute)")
    shutil.rmtree(_BUILDS / commit, ignore_errors=True)
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", f"--directory={source}"], input=archive, check=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", f"--target={draft}", str(source)], check=True)
    draft.rename(site)  # whole or not at all
    return site


class Line(msgspec.Struct, frozen=True):
    """A metric of both: the medians, the ratio pair by pair, and what it means."""

    title: str
    base: float | None
    own: float | None
    ratio: Interval | None
    verdict: str


def lines(run: Run) -> list[Line]:
    """Everything that was compared, or could not be. Pure."""
    found = []
    for measured in run.measured:
        for metric in measured.point.report:
            title = f"{measured.point.title}, {metric}"
            base, own = (verdicts.median_interval(verdicts.values(measured, name, metric)) for name in ("base", "gateway"))
            pairs = _pairs(measured, metric)
            if base is None or own is None:
                reasons = [f"{name}: {one.failed}" for name, one in measured.taken.items() if one.failed is not None]
                found.append(Line(title, None, None, None, f"failed: {'; '.join(reasons) or 'one of them has no value'}"))
            elif not pairs:
                found.append(Line(title, base.middle, own.middle, None, "no ratio to nothing"))
            else:
                seen = interval(pairs)
                verdict = judged(seen, higher_is_better=metric in _HIGHER_IS_BETTER)
                found.append(Line(title, base.middle, own.middle, seen, verdict))
    return found


def table(found: Sequence[Line]) -> str:
    """The lines as Markdown. Pure."""
    rows = ["| | base | this tree | this tree ÷ base | verdict |", "| --- | ---: | ---: | ---: | --- |"]
    for line in found:
        figures = ["–" if value is None else f"{value:,.2f}" for value in (line.base, line.own)]
        seen = line.ratio
        figures.append("–" if seen is None else f"{seen.middle:.3f} ({seen.low:.3f}–{seen.high:.3f})")
        rows.append(f"| {line.title} | {' | '.join(figures)} | {line.verdict} |")
    return "\n".join(rows)


def exit_code(found: Sequence[Line]) -> int:
    """1 where something failed, or processor time is dearer; of many tail metrics one is always outside its interval."""
    return int(any(line.verdict.startswith("failed") or (line.verdict == "dearer" and "cpu" in line.title) for line in found))


def _pairs(measured: Measured, metric: str) -> list[float]:
    return ratios(verdicts.values(measured, "gateway", metric), verdicts.values(measured, "base", metric))


def judged(seen: Interval, *, higher_is_better: bool) -> str:
    """Whether the ratio's interval leaves out 1, and on which side."""
    if not seen.is_sure:
        return "too few rounds"
    if not seen.excludes(1.0):
        return "within the noise"
    return "cheaper" if (seen.middle > 1.0) == higher_is_better else "dearer"


if __name__ == "__main__":
    sys.exit(main())
