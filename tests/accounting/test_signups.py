"""One address may sign up only so many times an hour, and the memory for that is bounded."""

from __future__ import annotations

import pytest

from kyma_proxy.accounting.signups import SignupLimiter
from kyma_proxy.errors import GatewayError, Kind


def test_an_address_over_the_limit_has_to_wait_until_its_oldest_attempt_is_an_hour_old() -> None:
    signups = SignupLimiter()
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
def test_addresses_of_one_ipv6_network_share_a_count(first: str | None, second: str | None, is_one: bool) -> None:
    signups = SignupLimiter()
    signups.admit(first, 1, 0.0)
    if not is_one:
        signups.admit(second, 1, 0.0)
        return
    with pytest.raises(GatewayError):
        signups.admit(second, 1, 0.0)


def test_a_new_address_is_refused_while_there_are_too_many_addresses() -> None:
    signups = SignupLimiter()
    for at in range(10_000):
        signups.admit(f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}", 2, float(at) / 100)
    with pytest.raises(GatewayError) as refused:
        signups.admit("192.0.2.1", 2, 100.0)
    assert refused.value.kind is Kind.OVERLOADED
    signups.admit("10.0.0.0", 2, 100.0)  # an address that is counted already
    signups.admit("192.0.2.1", 2, 3600.02)  # the first one is an hour old
    assert len(signups) == 10_000
