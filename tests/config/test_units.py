"""Durations, sizes, amounts and secrets are parsed as they are written in YAML, and other texts are refused."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.config.units import Secret, parse_duration, parse_size, parse_usd

HOW_TO_WRITE = {
    parse_duration: "a duration is a number with a unit, such as 250ms, 2s, 5m or 1h",
    parse_size: "a size is a whole number of bytes with or without a unit, such as 64KiB, 32MiB or 1MB",
    parse_usd: "a price is a number of US dollars, such as 0.68",
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("1.5m", 90.0), ("5m", 300.0), ("1h", 3600.0), ("0s", 0.0), ("0.1s", 0.1), ("007s", 7.0)],
)
def test_a_duration_is_parsed_into_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0),
        (1234, 1234),
        ("1234", 1234),
        ("7B", 7),
        ("1KB", 1000),
        ("64KiB", 65536),
        ("1MB", 10**6),
        ("32MiB", 33554432),
        ("2GB", 2 * 10**9),
        ("1GiB", 2**30),
    ],
)
def test_a_size_is_parsed_into_bytes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize(
    ("written", "usd"),
    [
        (0, "0"),
        (5, "5"),
        (0.68, "0.68"),
        (0.1, "0.1"),
        (1.19, "1.19"),
        (0.0003, "0.0003"),
        (10**6, "1000000"),
        ("$0.68", "0.68"),
        ("$5", "5"),
    ],
)
def test_a_price_is_parsed_exactly(written: object, usd: str) -> None:
    assert parse_usd(written) == Decimal(usd)


@pytest.mark.parametrize(
    "written",
    [
        "2",
        "s",
        "",
        " 2s",
        "2 s",
        "2s\n",
        "-1s",
        "+1s",
        "1,5s",
        ".5s",
        "1.s",
        "1e3s",
        "2S",
        "2d",
        "2min",
        "1_0s",
        "\u0662s",
        "\uff12s",
    ],
)
def test_the_error_for_an_invalid_duration_says_how_to_write_one(written: str) -> None:
    assert refusal(parse_duration, written) == HOW_TO_WRITE[parse_duration]


@pytest.mark.parametrize("written", [2, 2.0, None, True, ["2s"]])
def test_a_duration_without_a_unit_is_refused(written: object) -> None:
    assert refusal(parse_duration, written) == HOW_TO_WRITE[parse_duration]


@pytest.mark.parametrize(
    "written",
    ["", "1.5MiB", "-1", -1, "1 MiB", "1mib", "1TB", "MiB", "1_0", "+1", "1e3", "\u0661KB", "\uff11", 1.0, True, None, [1]],
)
def test_the_error_for_an_invalid_size_says_how_to_write_one(written: object) -> None:
    assert refusal(parse_size, written) == HOW_TO_WRITE[parse_size]


@pytest.mark.parametrize("written", ["0.68", "free", "1_0", "\u0661", None, True, [1]])
def test_a_price_that_is_no_number_is_refused(written: object) -> None:
    assert refusal(parse_usd, written) == HOW_TO_WRITE[parse_usd]


@pytest.mark.parametrize("written", [-0.01, 1_000_001, float("inf"), float("nan")])
def test_a_price_that_is_negative_too_large_or_not_finite_is_refused(written: object) -> None:
    assert refusal(parse_usd, written) == "a price is between 0 and 1000000 US dollars"


@given(milliseconds=st.integers(min_value=0, max_value=10**9 - 1))
def test_every_whole_number_of_milliseconds_is_parsed_exactly(milliseconds: int) -> None:
    assert parse_duration(f"{milliseconds}ms") == milliseconds / 1000


@given(cents=st.integers(min_value=0, max_value=10**8))
def test_every_number_of_cents_is_parsed_exactly(cents: int) -> None:
    assert parse_usd(cents / 100) == Decimal(cents) / 100


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{!r}".format, "{!s:>10}".format])
def test_a_secret_does_not_appear_in_any_text_form(show: Callable[[object], str]) -> None:
    assert "hunter2" not in show(Secret("hunter2"))
    assert "hunter2" not in show([Secret("hunter2")])
    assert "hunter2" not in show(Secret("hunter2", "THE_KEY"))


def test_reveal_returns_the_text_of_a_secret() -> None:
    assert Secret("hunter2").reveal() == "hunter2"


def test_a_secret_names_its_missing_variable() -> None:
    assert Secret("hunter2").missing is None
    assert repr(Secret("", "THE_KEY")) == "Secret(missing='THE_KEY')"


def refusal(parse: Callable[[object], object], written: object) -> str:
    """The message with which `parse` refuses a value."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011  (the message is what is asserted on)
        parse(written)
    return str(refused.value)
