"""An answer that breaks off is never passed off as whole, wherever it breaks off: another answers, or the caller can see it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.recorded.corpus import ITEMS, Item, Mode, document_of
from tests.recorded.judging import judge_second
from tests.recorded.replay import HEALTHY_TEXT, Seen, Stage, cut

pytestmark = pytest.mark.asyncio(loop_scope="module")
WHOLE = [name for name, item in ITEMS.items() if item.expected.verdict == "answered" and item.data]


def places(item: Item, mode: Mode, framing: str) -> list[tuple[int, bool]]:
    """The sizes at which an item is cut, and whether what came may count as whole: at each event's end, or within a document.

    A translated stream is given its own end, so where no length and no chunk is missing the reason to stop is enough for it.
    """
    if not item.is_stream:
        size = len(item.data)
        return [(at, False) for at in sorted({1, size // 3, size // 2, size - 2})]
    sizes = [sum(map(len, item.events[:count])) for count in range(1, len(item.events))]
    whole_from = item.stopped_from if mode.is_translated and framing == "close" else item.whole_from
    return [(size, count >= whole_from) for count, size in enumerate(sizes, 1)]


def judge_cut(item: Item, mode: Mode, seen: Seen, *, may_be_whole: bool) -> None:
    """Assert that the caller can see the cut, or sees nothing of the answer, and does not pay for more than it."""
    if len(seen.record["attempts"]) == 2:
        judge_second(item, mode, seen)
        return
    assert HEALTHY_TEXT.encode() not in seen.body
    if not may_be_whole:
        assert seen.record["ending"] == "broken"
        assert not seen.is_whole or is_error_at_end(seen.body)
        assert not seen.body.rstrip().endswith(b"data: [DONE]")
    usage = item.expected.usage
    assert usage is not None
    if usage.source == "reported" and usage.completion:
        # An estimate goes by the text that went out: at least a token for each event, at most one for three bytes.
        by_text = max(len(item.events), len(item.text.encode()) // 3)
        assert (seen.record["completion_tokens"] or 0) <= max(usage.completion, by_text)


def is_error_at_end(body: bytes) -> bool:
    """True if the last event of a stream is an error, so that a client raises it."""
    last = body.rstrip().rsplit(b"\n\n", 1)[-1]
    return bool(document_of(last).get("error"))


@pytest.mark.parametrize("framing", ["chunks", "close"])
@pytest.mark.parametrize("is_translated", [False, True], ids=["same", "translated"])
@pytest.mark.parametrize("name", WHOLE)
async def test_a_cut_is_seen_at_every_event(
    stage_of: Callable[[Mode], Stage], name: str, is_translated: bool, framing: str
) -> None:
    item = ITEMS[name]
    mode = Mode(is_translated and item.is_translatable, True)
    for size, may_be_whole in places(item, mode, framing):
        seen = await stage_of(mode).play(item, mode, cut(item, size, framing))
        try:
            judge_cut(item, mode, seen, may_be_whole=may_be_whole)
        except AssertionError as failure:
            failure.add_note(f"cut after {size} bytes: {json.dumps(seen.record)}")
            raise
