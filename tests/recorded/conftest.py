"""The stages on which recorded answers are played; one for all tests of a file, as an item needs no gateway of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.recorded.corpus import Mode
from tests.recorded.replay import Stage, stage

pytest.register_assert_rewrite("tests.recorded.judging")  # so that a failure says what was seen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def free_stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Callers without accounts."""
    async with stage(tmp_path_factory.mktemp("free"), metered=False) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def metered_stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Callers with accounts."""
    async with stage(tmp_path_factory.mktemp("metered"), metered=True) as made:
        yield made


@pytest.fixture
def stage_of(free_stage: Stage, metered_stage: Stage) -> Callable[[Mode], Stage]:
    """The stage for callers of a mode."""
    return lambda mode: metered_stage if mode.is_metered else free_stage
