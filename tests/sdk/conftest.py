"""The official clients speak to a real gateway process, in front of a real simulated provider process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import Running, started


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One gateway for all tests of this directory."""
    with started(tmp_path_factory.mktemp("gateway")) as running:
        yield running
