"""The corpus keeps its own rules: each item has a source, and no charge that does not follow from its usage."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from tests.recorded.corpus import ITEMS, charge_of, read

ITEM = """\
provider: Nobody
dialect: openai
items:
  - name: one
    source: https://example.com/
    body: '{}'
    expected: {verdict: moved_on}
"""


def test_the_corpus_is_large_and_of_many_providers() -> None:
    assert len(ITEMS) >= 90
    assert len({item.provider for item in ITEMS.values()}) >= 25
    assert set(Counter(item.expected.verdict for item in ITEMS.values())) == {"answered", "broken", "moved_on", "relayed"}


@pytest.mark.parametrize(
    ("written", "instead"),
    [("    body:", "    bodies:"), ("verdict:", "judgement:"), ("dialect: openai", "dialect: klingon"), ("moved_on", "maybe")],
)
def test_a_member_that_is_not_known_is_refused(written: str, instead: str) -> None:
    assert read(ITEM)
    with pytest.raises(msgspec.ValidationError):
        read(ITEM.replace(written, instead))


@pytest.mark.parametrize("name", ITEMS)
def test_every_item_names_its_source_and_has_a_charge_that_follows_from_its_usage(name: str) -> None:
    item = ITEMS[name]
    expected, usage = item.expected, item.expected.usage
    assert item.source.startswith("https://")
    if usage is not None and usage.source == "reported":
        assert expected.charge == pytest.approx(charge_of(usage), abs=1e-9)
    if expected.verdict == "broken":
        assert expected.error_code
    if item.is_translatable and expected.verdict == "answered":
        assert expected.finish in {"stop", "length", "tool_calls", "content_filter"}
