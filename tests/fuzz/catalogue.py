"""Lists all targets, and the inputs that each begins with or was once broken by."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.target import Target
from tests.fuzz.targets import bodies, configuration, edge, streams, translations, upstream, words

_MODULES = (edge, upstream, bodies, translations, streams, configuration, words)
TARGETS: dict[str, Target] = {target.name: target for module in _MODULES for target in module.TARGETS}
HERE = Path(__file__).parent
FOUND = HERE / "found"
CORPUS = HERE / "corpus"


def inputs(directory: Path, target: Target) -> list[Path]:
    """The files of a target in CORPUS or FOUND."""
    return sorted((directory / target.name).glob("*"))
