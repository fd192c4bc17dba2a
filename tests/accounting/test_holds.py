"""However requests begin and end, an account goes below zero only by what they cost beyond the most that they may cost."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.accounts.accounts import Account, Accounts, Key
from kyma_proxy.core.accounts.charging import Bill
from kyma_proxy.core.accounts.limits import Windows
from kyma_proxy.core.accounts.reservation import Holds, Reservation
from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.store.contract import Charge
from tests.factories import snapshot

MODELS = """\
providers: [{name: p, base_url: http://p.example, dialect: openai}]
models:
  - {id: any, price: {input: 1, output: 2}, pool: [{provider: p, model: m}]}
  - {id: bound, price: {input: 1, output: 2}, max_output_tokens: 8192, pool: [{provider: p, model: m}]}
  - {id: free, price: {input: 0, output: 0}, pool: [{provider: p, model: m}]}
  - {id: searching, price: {input: 1, output: 2, per_search: 0.01, priority: 2}, pool: [{provider: p, model: m}]}
defaults: {max_tokens: MAX}
"""
PER_TOKEN = 2000  # nano-dollars, of output
CHAT, RESPONSES, COMPLETIONS = b"/v1/chat/completions", b"/v1/responses", b"/v1/completions"
CONFIGURED = {written: snapshot(MODELS.replace("MAX", written)) for written in ("4096", "null")}


class Charges:
    """A ledger that takes every charge."""

    is_failing = False

    def charge(self, charge: Charge) -> None:
        """Of no interest."""

    def key_used(self, key: str, day: int) -> None:
        """Of no interest."""


class MeteredAccount:
    """One account at a meter, at a minute of its own for each request."""

    def __init__(self, balance: int, configured: Snapshot = CONFIGURED["4096"]) -> None:
        self.account = Account("a", "a@example.com", 0, balance=balance)
        self.meter = Meter(Accounts(), Charges(), lambda: "reference", Windows(), Holds())
        self._key = Key("k", self.account, b"digest", "ky-prefix", "key", 0)
        self._configured = configured
        self._now = 0.0

    def admit(self, model: str = "any", path: bytes = CHAT, **members: object) -> Reservation:
        body = json.dumps({"model": model} | members).encode()
        exchange = Exchange(Inbound(b"POST", path, b"", [], body, "request", 0.0, False, True), RELAYED[path], self._configured)
        exchange.key = self._key
        exchange.routing = read_routing_fields(body, is_metered=True)
        exchange.route = self._configured.routes[exchange.endpoint.key][model]
        self._now += 61
        return self.meter.admit(exchange, self._now)

    def end(self, reservation: Reservation, cost: int) -> None:
        self.meter.settle(reservation, Bill(Usage(1, 1, None, "reported"), cost), "m", "request", self._now)


@pytest.mark.parametrize(("balance", "model", "members", "tokens", "unheld"), [
    (10**9, "any", {"max_tokens": 1000}, 1000, 0),
    (10**12, "any", {"max_tokens": 1000}, 1000, 0),
    (200_000_000, "any", {"max_tokens": 60_000}, 60_000, 0),  # under ten times 12 cents
    (1_300_000_000, "any", {"max_tokens": 60_000}, 4096, 55_904),
    (10**10, "bound", {"max_tokens": 10**6}, 4096, 4096),  # no more than the model can say
    (10**7, "any", {}, 4096, 0),  # what the gateway inserts
    (10**8, "bound", {"max_tokens": None}, 8192, 0),  # nothing limits it but the model
    (10**10, "any", {"max_tokens": 60_000, "n": 2}, 8192, 111_808),
])  # fmt: skip
def test_a_hold_has_the_tokens_that_the_contract_says(
    balance: int, model: str, members: dict[str, object], tokens: int, unheld: int
) -> None:
    reservation = MeteredAccount(balance).admit(model, CHAT, **members)
    assert reservation.held // PER_TOKEN - (reservation.prompt + 1) // 2 in (tokens - 1, tokens)
    assert reservation.unheld // PER_TOKEN == unheld


@pytest.mark.parametrize(("prompt", "members", "answers"), [
    ("a", {}, 1), (["a"], {}, 1), (["a"] * 50, {}, 50), (["a"] * 50, {"n": 2}, 100), ([[1, 2], [3]], {}, 2), ([1, 2], {}, 1),
    (["a"] * 3, {"best_of": 4, "n": 2}, 12),
])  # fmt: skip
def test_the_answer_to_every_prompt_is_held(prompt: object, members: dict[str, object], answers: int) -> None:
    held = MeteredAccount(10**9).admit("any", COMPLETIONS, prompt=prompt, max_tokens=1000, **members).held
    assert held // (1000 * PER_TOKEN) == answers


NO_NUMBER_OF_ANSWERS = [0, -5, -0.5, 0.5, 129, 10**9, 10**400, 1e300, "0", "-1", "1000000", "9" * 100]


@pytest.mark.parametrize("copies", NO_NUMBER_OF_ANSWERS)
@pytest.mark.parametrize("name", ["n", "best_of"])
def test_a_number_of_answers_that_no_provider_gives_is_refused(name: str, copies: object) -> None:
    with pytest.raises(GatewayError, match=rf"`{name}` must be a whole number from 1 to 128") as caught:
        MeteredAccount(10**12).admit("any", COMPLETIONS, prompt=["a"] * 3, max_tokens=10, **{name: copies})
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, name)


@pytest.mark.parametrize("copies", [1, 128, 5.0, "5", None, [5], True, "many"])
def test_others_are_held_for_as_many_as_they_may_mean(copies: object) -> None:
    assert MeteredAccount(10**12).admit("any", CHAT, max_tokens=10, n=copies).held > 0


def test_a_free_model_holds_nothing() -> None:
    reservation = MeteredAccount(0).admit("free", max_tokens=60_000)
    assert (reservation.held, reservation.unheld) == (0, 0)


def test_where_the_gateway_inserts_nothing_the_model_sets_the_limit() -> None:
    for path, configured in ((RESPONSES, "4096"), (CHAT, "null")):
        assert MeteredAccount(10**8, CONFIGURED[configured]).admit("bound", path).held // PER_TOKEN >= 8192


def test_a_limit_that_the_endpoint_does_not_know_is_none() -> None:
    metered = MeteredAccount(10**9)
    assert metered.admit("bound", RESPONSES, max_tokens=1).held // PER_TOKEN >= 4096
    assert metered.admit("bound", CHAT, max_output_tokens=1).held // PER_TOKEN >= 4096
    assert metered.admit("bound", RESPONSES, max_output_tokens=1).held // PER_TOKEN < 20


def test_a_search_is_held_as_often_as_it_may_be_made() -> None:
    tool = {"type": "web_search_20250305", "name": "web_search"}
    plain = MeteredAccount(10**9).admit("searching", max_tokens=10).held
    assert MeteredAccount(10**9).admit("searching", max_tokens=10, tools=[tool]).held // 10**7 == 10
    assert MeteredAccount(10**9).admit("searching", max_tokens=10, tools=[tool | {"max_uses": 3}]).held // 10**7 == 3
    dear = MeteredAccount(10**9).admit("searching", max_tokens=10, service_tier="priority")
    assert dear.held == pytest.approx(2 * plain, rel=0.3)


def test_a_refusal_names_what_running_requests_may_smetered_cost() -> None:
    metered = MeteredAccount(1_300_000_000)
    running = [metered.admit(max_tokens=60_000) for _ in range(10)]
    with pytest.raises(GatewayError, match="is available after what the requests in flight may cost") as refused:
        metered.admit(max_tokens=60_000)
    assert refused.value.kind is Kind.INSUFFICIENT_CREDITS
    for one in running:
        metered.end(one, 0)
    assert (metered.account.held, metered.account.unheld, metered.account.balance) == (0, 0, 1_300_000_000)


STEPS = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from(["any", "bound", "free", "searching"]), st.sampled_from([CHAT, RESPONSES]),
        st.none() | st.integers(1, 200_000), st.integers(1, 3), st.integers(0, 10_000), st.floats(0.0, 1.0),
        st.sampled_from([0, 0, 0, 1, 50_000_000]),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=150)
@given(st.integers(0, 5 * 10**9), STEPS, st.sampled_from(["4096", "null"]))
def test_no_interleaving_of_requests_takes_an_account_below_zero_by_more_than_they_overran(
    balance: int, steps: list[tuple[bool, str, bytes, int | None, int, int, float, int]], inserted: str
) -> None:
    """An overrun is what a request costs beyond the most that it may cost, as the estimate of its prompt and its limits say.

    `share` is how much of that most it takes in the end; every request that is running may smetered take all of it.
    """
    metered = MeteredAccount(balance, CONFIGURED[inserted])
    account, running, overrun = metered.account, list[Reservation](), 0
    for begins, model, path, limit, copies, prompt, share, more in steps:
        if begins or not running:
            name = "max_output_tokens" if path == RESPONSES else "max_tokens"
            members = {"n": copies, "input": "x" * prompt} | ({} if limit is None else {name: limit})
            with contextlib.suppress(GatewayError):  # for want of money, or for its tier
                running.append(metered.admit(model, path, **members))
        else:
            reservation = running.pop(int(share * (len(running) - 1)))
            most = reservation.held + reservation.unheld
            cost = most + more if more else int(most * share)
            overrun += max(0, cost - most)
            metered.end(reservation, cost)
        assert account.held == sum(one.held for one in running)
        assert account.unheld == sum(one.unheld for one in running)
        assert account.balance - account.held - account.unheld >= -overrun
    for reservation in running:
        metered.end(reservation, reservation.held + reservation.unheld)
    assert account.balance >= -overrun
    assert (account.held, account.unheld) == (0, 0)
