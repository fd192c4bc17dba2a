"""Usage is priced as the catalogue says, and a body's two ends are sampled in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.config.snapshot import NANO, Price
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage, cost_nano_usd, most_nano_usd

PRICE = Price(input=int(0.68 * NANO), output=int(4.05 * NANO), cached_input=int(0.068 * NANO))
TOKENS = st.integers(0, 10**9)


def usage(prompt: int | None, completion: int | None = None, cached: int | None = None) -> Usage:
    return Usage(prompt, completion, cached, "reported")


@pytest.mark.parametrize(("used", "nano_usd"), [
    (usage(1_000_000, 0), 680_000_000),
    (usage(0, 1_000_000), 4_050_000_000),
    (usage(1_000_000, 1_000_000), 4_730_000_000),
    (usage(1_000_000, 0, 1_000_000), 68_000_000),
    (usage(1_000_000, 0, 400_000), 435_200_000),
    (usage(1, 1), 4730),
    (usage(100), 68_000),
    (usage(100, 0, 1_000), 6_800),
    (usage(0, 0), 0),
])  # fmt: skip
def test_tokens_cost_what_the_catalogue_says(used: Usage, nano_usd: int) -> None:
    assert cost_nano_usd(used, PRICE) == nano_usd


def written(minutes: int = 0, hour: int = 0, other: int = 0, cached: int = 0) -> Usage:
    return Usage(1_000_000, 0, cached, "reported", minutes, hour, other)


@pytest.mark.parametrize(("used", "price", "nano_usd"), [
    (written(minutes=1_000_000), Price(NANO), 1_250_000_000),
    (written(hour=1_000_000), Price(NANO), 2_000_000_000),
    (written(other=1_000_000), Price(NANO), 1_000_000_000),  # no lifetime, so not Anthropic's: the price of input
    (written(other=1_000_000), Price(NANO, cached_write=2 * NANO), 2_000_000_000),
    (written(minutes=1_000_000), Price(NANO, cached_write=3 * NANO), 3_000_000_000),
    (written(hour=1_000_000), Price(NANO, cached_write=3 * NANO), 3_000_000_000),  # an hour is never cheaper
    (written(hour=1_000_000), Price(NANO, cached_write=3 * NANO, cached_write_1h=4 * NANO), 4_000_000_000),
    (written(minutes=1_000_000), Price(NANO, cached_write=0), 0),
    (written(200_000, 300_000, 0, 400_000), Price(NANO, cached_input=NANO // 10), 990_000_000),
    (written(minutes=5_000_000), Price(NANO), 1_250_000_000),  # no more than the prompt
    (written(5_000_000, 5_000_000, 5_000_000, 5_000_000), Price(NANO), 1_000_000_000),
    (written(minutes=1), Price(1), 2),
])  # fmt: skip
def test_input_that_is_written_to_a_cache_has_its_price(used: Usage, price: Price, nano_usd: int) -> None:
    assert cost_nano_usd(used, price) == nano_usd


@given(TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_no_usage_of_so_many_tokens_costs_more_than_the_most(
    prompt: int, output: int, minutes: int, hour: int, other: int
) -> None:
    for price in (
        Price(NANO, 2 * NANO, NANO // 10, may_write_cache=True),
        Price(NANO, NANO, None, None, 3 * NANO, 5 * NANO, may_write_cache=True),
        Price(3, 7, 1, None, 5, None, may_write_cache=True),
    ):  # fmt: skip
        cost = cost_nano_usd(Usage(prompt, output, 0, "reported", minutes, hour, other), price)
        assert cost is not None
        assert cost <= most_nano_usd(prompt, output, price)


def test_a_price_for_writing_counts_in_a_hold_where_a_source_may_charge_it() -> None:
    assert most_nano_usd(1_000_000, 0, Price(NANO)) == NANO
    assert most_nano_usd(1_000_000, 0, Price(NANO, cached_write=3 * NANO)) == 3 * NANO
    assert most_nano_usd(1_000_000, 0, Price(NANO, may_write_cache=True)) == 2 * NANO
    assert most_nano_usd(1_000_000, 1_000_000, Price()) == 0


def test_cached_input_costs_as_much_as_other_input_if_it_has_no_price() -> None:
    assert cost_nano_usd(usage(1_000_000, 0, 1_000_000), Price(input=NANO, output=NANO)) == NANO


def test_output_without_a_price_is_free() -> None:
    assert cost_nano_usd(usage(1_000_000, 5), Price(input=NANO)) == NANO


def test_a_fraction_of_a_nano_dollar_is_rounded_up() -> None:
    assert cost_nano_usd(usage(1), Price(input=1)) == 1


def test_unknown_usage_or_an_unknown_price_has_no_cost() -> None:
    assert cost_nano_usd(NO_USAGE, PRICE) is None
    assert cost_nano_usd(usage(None, 5), PRICE) is None
    assert cost_nano_usd(usage(5, 5), Price()) is None


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_more_tokens_never_cost_less_and_cache_hits_never_cost_more(a: int, b: int, cached: int, more: int) -> None:
    plain, larger = cost_nano_usd(usage(a, b), PRICE), cost_nano_usd(usage(a + more, b + more), PRICE)
    hit = cost_nano_usd(usage(a, b, cached), PRICE)
    assert plain is not None
    assert larger is not None
    assert hit is not None
    assert 0 <= hit <= plain <= larger
