"""Every input that has broken a law keeps it now; so does every input that the fuzzer begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.catalogue import CORPUS, FOUND, TARGETS, inputs
from tests.fuzz.target import Target

RUNNABLE = {name: target for name, target in TARGETS.items() if target.is_runnable}
ALL = [pytest.param(target, id=name) for name, target in RUNNABLE.items()]
BROKEN = [
    pytest.param(target, path, id=f"{name}-{path.name}") for name, target in RUNNABLE.items() for path in inputs(FOUND, target)
]


@pytest.mark.parametrize(("target", "path"), BROKEN)
def test_an_input_that_was_found_breaks_no_law_any_more(target: Target, path: Path) -> None:
    target.law(path.read_bytes())


@pytest.mark.parametrize("target", ALL)
def test_no_input_of_the_corpus_breaks_a_law(target: Target) -> None:
    seeds = [*target.seeds(), *(path.read_bytes() for path in inputs(CORPUS, target))]
    assert seeds
    for data in seeds:
        target.law(data)


def test_every_file_belongs_to_a_target() -> None:
    assert {path.name for place in (CORPUS, FOUND) for path in place.iterdir() if path.is_dir()} <= set(TARGETS)
