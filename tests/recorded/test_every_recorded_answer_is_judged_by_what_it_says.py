"""An answer is judged by what it says, not by its status: for callers of either dialect, with an account and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.recorded.corpus import ITEMS, MODES, Mode
from tests.recorded.judging import judge, judge_exhausted
from tests.recorded.replay import Stage, as_recorded

pytestmark = pytest.mark.asyncio(loop_scope="module")
SAME, TRANSLATED = (Mode(is_translated, True) for is_translated in (False, True))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, id=f"{name}-{mode}")
        for name, item in ITEMS.items()
        for mode in MODES
        if item.is_translatable or not mode.is_translated
    ],
)
async def test_an_answer_gets_its_judgement(stage_of: Callable[[Mode], Stage], name: str, mode: Mode) -> None:
    item = ITEMS[name]
    judge(item, mode, await stage_of(mode).play(item, mode, as_recorded(item)))


@pytest.mark.parametrize("mode", [SAME, TRANSLATED], ids=str)
@pytest.mark.parametrize("name", [name for name, item in ITEMS.items() if item.expected.verdict == "moved_on"])
async def test_the_gateway_speaks_for_itself_where_no_source_is_left(
    stage_of: Callable[[Mode], Stage], name: str, mode: Mode
) -> None:
    item = ITEMS[name]
    if mode.is_translated and not item.is_translatable:
        mode = SAME
    judge_exhausted(item, await stage_of(mode).play(item, mode, as_recorded(item), alone=True))
