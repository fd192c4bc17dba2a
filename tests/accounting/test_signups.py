"""From one address only so many accounts are made in an hour, and the memory for that is bounded."""

from __future__ import annotations

import pytest

from kyma_proxy.accounting.signups import Signups
from kyma_proxy.errors import GatewayError, Kind


def test_who_made_too_many_waits_for_exactly_as_long_as_it_takes() -> None:
    signups = Signups()
    signups.admit("192.0.2.1", 2, 0.0)
    signups.admit("192.0.2.1", 2, 100.0)
    with pytest.raises(GatewayError) as refused:
        signups.admit("192.0.2.1", 2, 200.0)
    assert refused.value.retry_after == 3401
    signups.admit("192.0.2.2", 2, 200.0)
    signups.admit("192.0.2.1", 2, 3600.0)
    with pytest.raises(GatewayError):
        signups.admit("192.0.2.1", 2, 3699.0)


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        (None, "", True),
        ("192.0.2.1", None, False),
    ],
)
def test_a_home_has_one_count(first: str | None, second: str | None, is_one: bool) -> None:
    signups = Signups()
    signups.admit(first, 1, 0.0)
    if not is_one:
        signups.admit(second, 1, 0.0)
        return
    with pytest.raises(GatewayError):
        signups.admit(second, 1, 0.0)


def test_nobody_new_is_let_in_while_there_are_too_many_addresses() -> None:
    """Were the oldest forgotten instead, whoever has many addresses could come as often as they like."""
    signups = Signups()
    for at in range(10_000):
        signups.admit(f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}", 2, float(at) / 100)
    with pytest.raises(GatewayError) as refused:
        signups.admit("192.0.2.1", 2, 100.0)
    assert refused.value.kind is Kind.OVERLOADED
    signups.admit("10.0.0.0", 2, 100.0)  # who is known may come again
    signups.admit("192.0.2.1", 2, 3600.02)  # the first of them is forgotten after its hour
    assert len(signups._at) == 10_000
