"""What a run leaves behind: what was measured, of which versions, on which machine, and who disturbed it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.scenario import Point, Row


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """Which core does what; None: whichever the kernel likes."""

    system: int | None = None
    provider: int | None = None
    load: int | None = None


class Taken(msgspec.Struct, kw_only=True):
    """What was measured of one system at one point: each metric's value by round, and all rounds' histograms in one.

    One that has failed has no values, but the reason.
    """

    values: dict[str, list[float]] = {}
    histograms: dict[str, str] = {}
    failed: str | None = None


class Measured(msgspec.Struct, kw_only=True):
    """A point and what was measured there, by system."""

    point: Point
    taken: dict[str, Taken] = {}


class Run(msgspec.Struct, kw_only=True):
    """A run's file: enough to make the report again, and to know what it is of.

    `others_cores` is how many cores everything else on the machine kept busy meanwhile: more than 0.1 disturbs.
    """

    at: str
    commit: str
    plan: str
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    titles: dict[str, str]
    cores: Roles
    absent: dict[str, str]
    budget: tuple[Row, ...]
    interrupted: bool = False
    seconds: float = 0.0
    others_cores: float = 0.0
    measured: list[Measured] = []

    def keep(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        draft.replace(path)


def read(path: Path) -> Run:
    """A run's file. Raises OSError or msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Run)
