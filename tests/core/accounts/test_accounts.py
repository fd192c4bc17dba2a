"""Finds keys by their secret, puts accounts into tiers, and says what an account may spend."""

from __future__ import annotations

import hashlib
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.accounts.accounts import Account, Accounts, Key, credential, is_email, new_key
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.loading.tiers import SHIPPED_TIERS

SECRET, DIGEST, PREFIX = new_key(bytes(range(32)))


def filled() -> tuple[Accounts, Account, Key]:
    """Accounts of which there is one, with one key."""
    accounts, account = Accounts(), Account("acct_1", "Ada@Example.com", 1_770_000_000, balance=NANO // 2)
    key = Key("key_1", account, DIGEST, prefix=PREFIX, name="default", created=1_770_000_000)
    accounts.add_account(account)
    accounts.add_key(key)
    return accounts, account, key


def test_a_secret_identifies_its_key_and_account() -> None:
    accounts, account, key = filled()
    assert accounts.identify(SECRET.encode()) is key
    assert (key.account, account.keys) == (account, [key])


@pytest.mark.parametrize(
    "secret", [b"", b"ky-", SECRET.encode()[:-1], SECRET.encode() + b" ", SECRET.encode().lower(), DIGEST, b"\xff" * 99]
)
def test_a_secret_that_is_not_exactly_a_keys_identifies_nobody(secret: bytes) -> None:
    assert filled()[0].identify(secret) is None


def test_a_revoked_key_identifies_nobody_and_is_dropped_from_memory() -> None:
    accounts, account, key = filled()
    accounts.revoke(key)
    accounts.revoke(key)
    assert accounts.identify(SECRET.encode()) is None
    assert (accounts.key("key_1"), account.keys, key.is_revoked) == (None, [], True)


def test_a_key_that_is_added_as_revoked_is_listed_and_identifies_nobody() -> None:
    accounts, account, _ = filled()
    secret, digest, prefix = new_key(b"x" * 32)
    accounts.add_key(Key("key_2", account, digest, prefix=prefix, name="old", created=1, is_revoked=True))
    assert accounts.identify(secret.encode()) is None
    assert [key.name for key in account.keys] == ["default", "old"]


def test_revoking_a_key_leaves_the_other_keys_of_the_account_valid() -> None:
    accounts, account, key = filled()
    secret, digest, prefix = new_key(b"y" * 32)
    other = Key("key_2", account, digest, prefix=prefix, name="other", created=2, last_used_day=20_000)
    accounts.add_key(other)
    accounts.revoke(key)
    assert accounts.identify(secret.encode()) is other


def test_the_key_of_a_blocked_account_is_found_and_its_account_says_that_it_is_blocked() -> None:
    accounts, account, _ = filled()
    account.is_blocked = True
    key = accounts.identify(SECRET.encode())
    assert key is not None
    assert key.account.is_blocked


def test_an_account_is_found_by_its_id_and_by_its_email_in_any_case() -> None:
    accounts, account, key = filled()
    assert accounts.account("acct_1") is account
    assert all(
        accounts.account_of_email(email) is account for email in ("ada@example.com", "ADA@EXAMPLE.COM", "Ada@Example.com")
    )
    assert account.email == "Ada@Example.com"
    assert (accounts.account("acct_2"), accounts.account_of_email("eve@example.com"), accounts.key("key_2")) == (
        None,
        None,
        None,
    )
    assert (len(accounts), list(accounts), accounts.key("key_1")) == (1, [account], key)


def test_an_account_or_a_key_whose_id_email_or_digest_is_taken_is_refused() -> None:
    accounts, account, key = filled()
    for other in (Account("acct_1", "eve@example.com", 1), Account("acct_2", "ADA@example.com", 1)):
        with pytest.raises(ValueError, match="is there already"):
            accounts.add_account(other)
    for ident, digest in (("key_1", b"z" * 32), ("key_2", DIGEST)):
        with pytest.raises(ValueError, match="is there already"):
            accounts.add_key(Key(ident, account, digest, prefix="ky-", name="", created=1))
    assert (len(accounts), account.keys, accounts.account_of_email("eve@example.com")) == (1, [key], None)


@pytest.mark.parametrize(("dollars", "tier"), [
    (0, 0), (9.99, 0), (10, 1), (49, 1), (50, 2), (249, 2), (250, 3), (999, 3), (1000, 4), (10**6, 4),
])  # fmt: skip
def test_lifetime_purchases_decide_the_tier(dollars: float, tier: int) -> None:
    assert Account("a", "", 0, purchased=round(dollars * NANO)).tier(SHIPPED_TIERS).tier == tier


def test_a_purchase_raises_the_tier_and_grants_and_usage_leave_it() -> None:
    account = Account("a", "", 0)
    account.post(10**6 * NANO)
    assert account.tier(SHIPPED_TIERS).tier == 0
    account.post(50 * NANO, is_purchase=True)
    assert account.tier(SHIPPED_TIERS).tier == 2
    account.post(-50 * NANO)
    assert (account.tier(SHIPPED_TIERS).tier, account.balance, account.purchased) == (2, 10**6 * NANO, 50 * NANO)


def test_the_tier_follows_the_tiers_of_a_reloaded_configuration() -> None:
    account = Account("a", "", 0, purchased=20 * NANO)
    dearer = tuple(replace(tier, min_purchased=tier.min_purchased * 3) for tier in SHIPPED_TIERS)
    assert [account.tier(tiers).tier for tiers in (SHIPPED_TIERS, dearer, SHIPPED_TIERS[:1], SHIPPED_TIERS)] == [1, 0, 0, 1]


def test_a_held_amount_is_not_available_until_it_is_released() -> None:
    account = Account("a", "", 0, balance=100)
    account.hold(60)
    assert (account.available, account.can_afford(40), account.can_afford(41)) == (40, True, False)
    account.release(60)
    account.post(-130)  # it cost more than was held
    assert (account.available, account.can_afford(1)) == (-30, False)
    assert account.can_afford(0)  # a free model is for everyone


@pytest.mark.parametrize(("headers", "found"), [
    ([], b""),
    ([(b"Authorization", b"Bearer ky-1")], b"ky-1"),
    ([(b"authorization", b"bearer ky-1")], b"ky-1"),
    ([(b"AUTHORIZATION", b"BEARER   ky-1 ")], b"ky-1"),
    ([(b"X-Api-Key", b"ky-1")], b"ky-1"),
    ([(b"x-api-key", b"sk-other"), (b"authorization", b"Bearer ky-1")], b"ky-1"),
    ([(b"authorization", b"Bearer sk-other"), (b"x-api-key", b"ky-1")], b"ky-1"),
    ([(b"authorization", b"Bearer ky-1"), (b"x-api-key", b"ky-2")], b"ky-1"),
    ([(b"x-api-key", b"ky-2"), (b"authorization", b"Bearer ky-1")], b"ky-2"),
    ([(b"host", b"ky-1"), (b"x-api-kez", b"ky-1"), (b"authorizatiom", b"Bearer ky-1")], b""),
    ([(b"authorization", b"Basic ky-1")], b""),
    ([(b"authorization", b"ky-1")], b""),
    ([(b"authorization", b"Bearerky-1")], b""),
    ([(b"x-api-key", b"Bearer ky-1")], b""),
    ([(b"x-api-key", b"KY-1")], b""),
    ([(b"authorization", b"")], b""),
])  # fmt: skip
def test_the_credential_is_the_first_key_of_this_gateway_in_either_header(headers: Headers, found: bytes) -> None:
    assert credential(headers) == found


@pytest.mark.parametrize("name", [b"Authorization", b"X-Api-Key"])
@pytest.mark.parametrize("values", [(b"Bearer ky-1", b"Bearer ky-2"), (b"ky-1", b"ky-1"), (b"bad", b"Bearer ky-1"), (b"", b"")])
def test_a_credential_that_is_there_twice_is_none(name: bytes, values: tuple[bytes, bytes]) -> None:
    headers = [(b"host", b"a"), (name, values[0]), (b"accept", b"b"), (name.lower(), values[1])]
    with pytest.raises(GatewayError, match=r"more than one `(Authorization|x-api-key)` header") as caught:
        credential(headers)
    assert caught.value.kind is Kind.BAD_HTTP


@given(st.binary(min_size=32, max_size=32))
def test_a_new_key_fits_a_header_and_has_its_own_digest_and_prefix(random_bytes: bytes) -> None:
    secret, digest, prefix = new_key(random_bytes)
    assert len(secret) == 46
    assert set(secret) <= set(string.ascii_letters + string.digits + "-_")
    assert hashlib.sha256(secret.encode()).digest() == digest
    assert (secret[:11], prefix[:3]) == (prefix, "ky-")
    assert credential([(b"x-api-key", secret.encode())]) == secret.encode()


def test_a_key_from_fewer_than_32_random_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        new_key(b"x" * 31)


@pytest.mark.parametrize(
    "text", ["a@b.co", "ada.lovelace+kyma@mail.example.com", "o'neil@x-y.org", "ä@bücher.de", "a@" + "b" * 249 + ".co"]
)
def test_a_plausible_email_address_is_accepted(text: str) -> None:
    assert is_email(text)


@pytest.mark.parametrize("text", [
    "", "@", "a@", "@b.co", "ab.co", "a@b", "a@b@c.co", "a b@c.co", " a@b.co", "a@b.co\n", "a@b.\tco", "a@.co", "a@b..co",
    "a@b.co.", "a@b,c.co", "a\u200b@b.co", "a\x00@b.co", "\ud800@b.co", "x" * 65 + "@b.co", "a@" + "b" * 250 + ".co", "a@-.co",
])  # fmt: skip
def test_a_text_that_is_no_email_address_is_refused(text: str) -> None:
    assert not is_email(text)
