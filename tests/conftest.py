"""Every test runs on the loop that the program runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    """What pytest-asyncio makes its loops with."""
    return {"uvloop": uvloop.new_event_loop}
