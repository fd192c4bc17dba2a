"""Names of tools that a source would refuse are shortened, always alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.tool_names import MAX_NAME, ToolNames, fit_name

LONG = "mcp__a_server_with_a_long_name__and_a_tool_with_a_name_that_is_no_shorter"


@pytest.mark.parametrize("name", ["a", "x" * MAX_NAME, "mcp__server__tool-1"])
def test_a_name_that_fits_stays_as_it_is(name: str) -> None:
    names = ToolNames(MAX_NAME)
    assert (names.fit(name), names.original) == (name, {})


@given(st.text(max_size=100), st.integers(16, 128))
def test_every_name_is_accepted_and_found_again(name: str, most: int) -> None:
    names = ToolNames(most)
    fit = names.fit(name)
    assert re.fullmatch(rf"[A-Za-z0-9_-]{{1,{most}}}", fit)
    assert (names.original.get(fit, fit), fit) == (name, fit_name(name, most))


@given(st.sets(st.text(max_size=80), max_size=8))
def test_two_names_never_become_one(given_names: set[str]) -> None:
    names = ToolNames(MAX_NAME)
    assert len({names.fit(name) for name in given_names}) == len(given_names)


def test_long_names_that_begin_alike_stay_apart() -> None:
    assert fit_name(LONG + "_read") != fit_name(LONG + "_write")
