"""The file of a run: samples, versions, machine, and the load that disturbed it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.scenario import BudgetRow, Point


class Cores(msgspec.Struct, frozen=True, kw_only=True):
    """The cores to which each role is pinned; None: the kernel chooses."""

    system: int | None = None
    provider: int | None = None
    load: int | None = None


class Samples(msgspec.Struct, kw_only=True):
    """The samples of one system at one point: the values of each metric by round, and one histogram of all rounds.

    A system that failed has no values; `failed` is the reason.
    """

    values: dict[str, list[float]] = {}
    histograms: dict[str, str] = {}
    failed: str | None = None


class Measurement(msgspec.Struct, kw_only=True):
    """A point and its samples by system."""

    point: Point
    samples: dict[str, Samples] = msgspec.field(default_factory=dict, name="taken")


class Run(msgspec.Struct, kw_only=True):
    """The whole run, from which the report can be made again.

    `others_cores` is the number of cores that all other processes kept busy meanwhile; above 0.1 they disturb the figures.
    """

    at: str
    commit: str
    plan: str
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    titles: dict[str, str]
    cores: Cores
    absent: dict[str, str]
    budget: tuple[BudgetRow, ...]
    interrupted: bool = False
    seconds: float = 0.0
    others_cores: float = 0.0
    measurements: list[Measurement] = msgspec.field(default_factory=list, name="measured")

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        draft.replace(path)


def read(path: Path) -> Run:
    """Reads the file of a run. Raises OSError or msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Run)
