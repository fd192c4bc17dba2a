"""An effort becomes the nearest one that a source takes."""

from __future__ import annotations

import pytest

from kyma_proxy.dialect.effort import EFFORTS, nearest_effort

USUAL = ("low", "medium", "high")


@pytest.mark.parametrize(("effort", "taken", "sent"), [
    ("high", USUAL, "high"), ("xhigh", USUAL, "high"), ("max", USUAL, "high"), ("minimal", USUAL, "low"),
    ("none", USUAL, "low"), ("xhigh", ("low", "medium", "high", "max"), "high"), ("low", ("none", "default"), "default"),
    ("none", ("none", "default"), "none"),
    ("minimal", ("none", "low"), "low"), ("high", (), None), ("high", ("none",), None), ("none", ("none",), "none"),
    ("medium", ("high",), "high"), ("a lot", USUAL, None),
])  # fmt: skip
def test_the_nearest_effort_is_sent(effort: str, taken: tuple[str, ...], sent: str | None) -> None:
    assert nearest_effort(effort, taken) == sent


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_that_is_taken_stays(effort: str) -> None:
    assert nearest_effort(effort, EFFORTS) == effort
