"""Compressed, in the smallest pieces, or ended by its connection: an answer says the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import Step
from tests.recorded.codings import CODINGS
from tests.recorded.corpus import ITEMS, Item, Mode
from tests.recorded.judging import judge
from tests.recorded.replay import Stage, close_delimited, in_coding, in_small_pieces

pytestmark = pytest.mark.asyncio(loop_scope="module")
WAYS: dict[str, Callable[[Item], list[Step]]] = {
    "small-pieces": in_small_pieces,
    "close-delimited": close_delimited,
    **{coding: in_coding(coding) for coding in CODINGS},
}
METERED = [Mode(is_translated, True) for is_translated in (False, True)]


def fits(item: Item, way: str) -> bool:
    """True if the item can be sent so: only what is there can be compressed, and a stream without an end needs its chunks."""
    return not (way == "close-delimited" and item.framing == "chunks") and bool(item.data or way == "close-delimited")


@pytest.mark.parametrize(
    ("name", "mode", "way"),
    [
        pytest.param(name, mode, way, id=f"{name}-{mode}-{way}")
        for name, item in ITEMS.items()
        for mode in METERED
        for way in WAYS
        if (item.is_translatable or not mode.is_translated) and fits(item, way)
    ],
)
async def test_the_way_in_which_an_answer_is_sent_changes_nothing(
    stage_of: Callable[[Mode], Stage], name: str, mode: Mode, way: str
) -> None:
    item = ITEMS[name]
    judge(item, mode, await stage_of(mode).play(item, mode, WAYS[way](item)))
