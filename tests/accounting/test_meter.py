"""The meter takes limits and money only from the objects that it was given, so that other ones may lend them."""

from __future__ import annotations

import pytest

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.core.accounts import limits
from kyma_proxy.core.accounts.accounts import Account, Accounts, Key
from kyma_proxy.core.accounts.charging import NOTHING
from kyma_proxy.core.accounts.limits import Window, Windows
from kyma_proxy.core.accounts.reservation import Holds
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.store.contract import Charge
from tests.factories import default_snapshot, routed

BODY = b'{"model":"small","max_tokens":10}'


class NoLedger:
    """A ledger that is never needed."""

    is_failing = False

    def charge(self, charge: Charge) -> None:
        raise AssertionError("nothing was used")

    def key_used(self, key: str, day: int) -> None:
        """Of no interest."""


class SharedWindows(Windows):
    """Counts the accounts whose windows were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.of_accounts: list[str] = []

    def of(self, account_id: str) -> Window:
        self.of_accounts.append(account_id)
        return super().of(account_id)


class BorrowedHolds(Holds):
    """Lends from a stock that several processes share; the account's own balance counts for nothing."""

    def __init__(self, stock: int) -> None:
        self.stock = stock

    def can_afford(self, account: Account, amount: int) -> bool:
        return amount <= self.stock

    def hold(self, account: Account, amount: int) -> None:
        self.stock -= amount

    def release(self, account: Account, amount: int) -> None:
        self.stock += amount


@pytest.mark.skipif(str(limits.__file__).endswith(".so"), reason="interpreted classes cannot inherit from compiled ones")
def test_money_and_a_place_in_the_minute_come_from_what_the_meter_was_given() -> None:
    snapshot, account = default_snapshot(), Account("a", "a@example.com", 0)
    key = Key("k", account, b"digest", "ky-prefix", "key", 0)
    windows, holds = SharedWindows(), BorrowedHolds(10**6)
    meter = Meter(Accounts(), NoLedger(), lambda: "reference", windows, holds)
    request = routed()
    request.key = key
    request.routing = read_routing_fields(BODY, is_metered=True)
    request.route = snapshot.routes["chat"]["small"]

    reservation = meter.admit(request, 0.0)
    assert 0 < reservation.held == 10**6 - holds.stock
    assert (account.held, windows.of_accounts) == (0, ["a"])
    meter.settle(reservation, NOTHING, "small", "request-1", 0.0)
    assert (reservation.held, holds.stock) == (0, 10**6)

    holds.stock = 0
    with pytest.raises(GatewayError) as refused:
        meter.admit(request, 0.0)
    assert refused.value.kind is Kind.INSUFFICIENT_CREDITS
    assert windows.of_accounts == ["a"]  # a request without money counts nowhere


def test_a_minute_without_tokens_is_told_without_a_size_that_is_not_known_yet() -> None:
    snapshot, account, windows = default_snapshot(), Account("a", "a@example.com", 0, balance=10**9), Windows()
    meter = Meter(Accounts(), NoLedger(), lambda: "reference", windows, Holds())
    tier = account.tier(snapshot.tiers)
    windows.of("a").admit(0.0, "small", tier.tpm, tier)
    with pytest.raises(GatewayError) as refused:
        meter.check_standing(account, routed().endpoint, snapshot, 1.0)
    assert (refused.value.kind, refused.value.retry_after) == (Kind.RATE_LIMIT_EXCEEDED, 59)
    assert "needs about" not in refused.value.message
    meter.check_standing(account, routed().endpoint, snapshot, 61.0)
