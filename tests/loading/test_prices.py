"""Prices are compiled exactly, and what they name is what metered callers may use."""

from __future__ import annotations

import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.snapshot import Price
from kyma_proxy.loading.compiling import load

TEXT = """\
providers: [{name: one, base_url: http://one.example, dialect: DIALECT}]
models: [{id: small, price: {PRICE}, pool: [{provider: one, model: m}]}]
accounts: {ACCOUNTS}
"""


def compiled(price: str, dialect: str = "openai") -> Price:
    return load(TEXT.replace("PRICE", price).replace("DIALECT", dialect).replace("ACCOUNTS", ""), {}).models["small"].price


def test_every_price_is_an_integer_of_nano_dollars_or_thousandths() -> None:
    price = compiled(
        "input: 3, output: 15, cached_input: 0.3, cached_write: 3.75, cached_write_1h: 6, per_search: 0.01, priority: 1.75, "
        "flex: 0.5, included: [mcp, web_fetch_20250910, previous_response_id]"
    )
    assert price == Price(
        input=3_000_000_000, output=15_000_000_000, cached_input=300_000_000, cached_write=3_750_000_000,
        cached_write_1h=6_000_000_000, per_search=10_000_000, priority=1750, flex=500,
        included=("mcp", "web_fetch_20250910", "previous_response_id"),
    )  # fmt: skip


def test_a_price_names_nothing_by_itself() -> None:
    assert compiled("input: 3, output: 15") == Price(input=3_000_000_000, output=15_000_000_000)


@pytest.mark.parametrize(("dialect", "may_write"), [("openai", False), ("anthropic", True)])
def test_a_source_that_speaks_anthropics_dialect_may_charge_for_writing_its_cache(dialect: str, may_write: bool) -> None:
    assert compiled("input: 3", dialect).may_write_cache is may_write


@pytest.mark.parametrize(("price", "path"), [
    ("priority: 0", "priority"), ("flex: -1", "flex"), ("priority: fast", "priority"), ("per_search: -0.01", "per_search"),
    ("included: [Not A Name]", "included[0]"), ("per_searches: 1", "per_searches"), ("cached_write: free", "cached_write"),
])  # fmt: skip
def test_a_price_that_makes_no_sense_is_a_problem_with_its_path(price: str, path: str) -> None:
    with pytest.raises(ConfigError) as found:
        compiled(f"input: 1, {price}")
    assert [problem.path for problem in found.value.problems] == [f"models[0].price.{path}"]


@pytest.mark.parametrize(("accounts", "tokens"), [("", 4096), ("hold_tokens: 500", 500)])
def test_the_tokens_that_are_held_for_an_answer_are_configured(accounts: str, tokens: int) -> None:
    text = TEXT.replace("PRICE", "input: 1").replace("DIALECT", "openai").replace("ACCOUNTS", accounts)
    assert load(text, {}).accounts.hold_tokens == tokens
