"""Fuzzes one target until libFuzzer's options say that it is enough: `python -m tests.fuzz.child TARGET [-option=value] [DIR]`.

It must import nothing of the package before its instrumentation begins, so only the name of the target comes from outside.
"""

from __future__ import annotations

import sys
from random import Random
from typing import Any

import atheris

with atheris.instrument_imports(include=["kyma_proxy"]):
    from kyma_proxy import errors
    from tests.fuzz.catalogue import TARGETS
    from tests.fuzz.target import Target

_STRUCTURED = 0.8
"""The share of changes that keep the structure, where the target has a mutator."""


def _mutator(target: Target) -> dict[str, Any]:
    mutate = target.mutator
    if mutate is None:
        return {}

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        chance = Random(seed)
        if chance.random() < _STRUCTURED:
            changed = mutate(data, chance)
            if len(changed) <= max_size:
                return changed
        return bytes(atheris.Mutate(data, max_size))

    return {"custom_mutator": mutated}


def main() -> None:
    """Fuzz the target that the first argument names."""
    target = TARGETS[sys.argv[1]]
    if not str(errors.__file__).endswith(".py"):
        raise SystemExit("Compiled modules have no coverage: set PYTHONPATH=proxy.")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.law, **_mutator(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
