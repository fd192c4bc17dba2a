"""Makes tables of counts, compares them, and judges them by the budget. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from bench.instructions.counting import Count
from bench.instructions.profile import shares

LOADS: Final = ("short", "event", "prompt")
_TITLES: Final = {"short": "a short request", "event": "a streamed event", "prompt": "a prompt of 100 KB"}
_SHOWN: Final = 20

Counts = Mapping[str, Mapping[str, Count]]
"""By row and load."""


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most instructions of all threads, by row and load, and the tolerance as a fraction."""

    tolerance: float
    instructions: dict[str, dict[str, int]]


def table(counts: Counts) -> str:
    """The instructions of each row and load, of all threads and of the one with the loop, as a Markdown table."""
    lines = ["| instructions | " + " | ".join(_TITLES[load] for load in LOADS) + " |", "|---|" + "--:|" * len(LOADS)]
    for row, by_load in counts.items():
        cells = [_cell(by_load[load]) if load in by_load else "" for load in LOADS]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(count: Count) -> str:
    whole, loop = count.whole.total, count.loop.total
    return f"{whole:,}" if whole - loop < whole / 100 else f"{whole:,} (the loop's thread {loop:,})"


def where(row: str, load: str, count: Count) -> str:
    """The most expensive functions of the gateway with all that they call, and what the rest is for."""
    total = count.loop.total
    ours = [(cost, function) for function, cost in count.loop.inclusive.items() if function.is_ours]
    lines = [
        f"{row}, {_TITLES[load]}: {total:,} instructions of the loop's thread",
        "",
        "| with all that it calls | by itself | function |",
    ]
    lines.append("|--:|--:|---|")
    for cost, function in sorted(ours, reverse=True)[:_SHOWN]:
        lines.append(f"| {cost:,} | {count.loop.own[function]:,} | {_readable(function.name)} |")
    lines += ["", "| by itself | function, of whomever |", "|--:|---|"]
    for function, cost in count.loop.own.most_common(_SHOWN):
        lines.append(f"| {cost:,} | {_readable(function.name)} ({Path(function.shared_object).name}) |")
    lines += ["", "| for | instructions | share |", "|---|--:|--:|"]
    for name, cost in shares(count.loop).most_common():
        lines.append(f"| {name} | {cost:,} | {cost / max(1, total):.0%} |")
    return "\n".join(lines)


def _readable(name: str) -> str:
    kind = " (called by the interpreter)" if name.startswith("CPyPy_") else ""
    return name.removeprefix("CPyDef_").removeprefix("CPyPy_").replace("___", ".") + kind


def difference(base: Counts, own: Counts) -> str:
    """The changes of each row and load, function by function."""
    parts = []
    for row, by_load in own.items():
        for load, count in by_load.items():
            before = base.get(row, {}).get(load)
            if before is None or not before.whole.total:
                continue
            now, then = count.whole.total, before.whole.total
            lines = [
                f"{row}, {_TITLES[load]}: {then:,} -> {now:,} ({now / then - 1:+.1%})",
                "",
                "| change | by itself, before | now | function |",
            ]
            lines.append("|--:|--:|--:|---|")
            changes = count.whole.own.copy()
            changes.subtract(before.whole.own)
            ranked = sorted(changes.items(), key=lambda item: -abs(item[1]))
            for function, change in ranked[:_SHOWN]:
                if change:
                    was, is_now = before.whole.own[function], count.whole.own[function]
                    lines.append(f"| {change:+,} | {was:,} | {is_now:,} | {_readable(function.name)} |")
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def exceeded(counts: Counts, budget: Budget) -> list[str]:
    """The lines of the budget that were exceeded, in words."""
    found = []
    for row, by_load in counts.items():
        for load, count in by_load.items():
            most = budget.instructions.get(row, {}).get(load)
            total = count.whole.total
            if most is not None and total > most * (1 + budget.tolerance):
                found.append(
                    f"{row}, {_TITLES[load]}: {total:,} instructions, the budget is {most:,} ({total / most - 1:+.1%})"
                )
    return found
