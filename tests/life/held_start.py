"""Runs `kyma-proxy`, and holds it at one step of a replacement until a pipe is opened and closed by somebody else.

python -m tests.life.held_start "before prepare" PIPE serve --config FILE --replace
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kyma_proxy.ops.cli import main
from kyma_proxy.ops.predecessor import Predecessor

STEPS = ("before prepare", "after prepare", "before leave", "after leave", "before follow")
"""In their order; from `after leave` on the other process has left."""


def hold(step: str, pipe: Path) -> None:
    """Have the step say on standard error that it is reached, and wait there."""
    moment, _, name = step.partition(" ")
    original = getattr(Predecessor, name)

    def wait() -> None:
        print(f"held {step}", file=sys.stderr, flush=True)
        pipe.read_bytes()

    def held(self: Predecessor, *args: Any, **kwargs: Any) -> Any:
        if moment == "before":
            wait()
        result = original(self, *args, **kwargs)
        if moment == "after":
            wait()
        return result

    setattr(Predecessor, name, held)


if __name__ == "__main__":
    _, the_step, the_pipe, *arguments = sys.argv
    hold(the_step, Path(the_pipe))
    sys.exit(main(arguments))
