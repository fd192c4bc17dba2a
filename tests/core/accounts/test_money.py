"""Money is written exactly, to the nano-dollar, and the same everywhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.accounts.money import to_nano, usd


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"), (10**9, "$1.00"), (1, "$0.000000001"), (-15 * 10**8, "-$1.50"), (1_234_500_000, "$1.2345"),
        (1_234_567 * 10**9, "$1,234,567.00"),
    ],
)  # fmt: skip
def test_money_is_written_with_its_cents_and_as_many_digits_as_there_are(nano: int, text: str) -> None:
    assert usd(nano) == text


@given(st.integers(-(10**15), 10**15))
def test_no_nano_dollar_is_lost_in_writing(nano: int) -> None:
    text = usd(nano)
    assert re.fullmatch(r"-?\$\d{1,3}(,\d{3})*\.\d{2,9}", text)
    whole, digits = re.sub(r"[$,]", "", text).split(".")
    assert int(whole.strip("-")) * NANO + int(digits.ljust(9, "0")) == abs(nano)
    assert text.startswith("-") == (nano < 0)


@given(st.integers(-(10**15), 10**15))
def test_dollars_of_a_document_are_the_nano_dollars_that_they_were_made_of(nano: int) -> None:
    assert to_nano(nano / NANO) == nano
