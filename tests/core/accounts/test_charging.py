"""Walks the whole table of endings and answers and checks what each costs, and that balances and holds add up in the end."""

from __future__ import annotations

import itertools
import json
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kyma_proxy.config.snapshot import NANO, Price
from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.core.accounts.charging import NOTHING, Bill, bill, bill_of, hold_for
from kyma_proxy.core.accounts.limits import Admission, Windows
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage, cost_nano_usd
from kyma_proxy.core.exchange import ABANDONED, ENDINGS, Exchange, State
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.loading.tiers import SHIPPED_TIERS
from tests.dialect.answers.reading import reader_of
from tests.factories import attempt, routed

PRICE = Price(input=int(0.68 * NANO), output=int(4.05 * NANO), cached_input=int(0.068 * NANO))
FREE = Price()
PROMPT = 500  # what the prompt was estimated at
SAID = 50  # events, of one word each
CUT = (State.BROKEN, State.CLIENT_GONE, State.DRAINED)
NEVER_CHARGED = (State.REJECTED, State.FAILED, State.RELAYED_ERROR)


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def so_far(said: int) -> dict[str, int]:
    return {"prompt_tokens": 400, "completion_tokens": said}


CHAT = [{"choices": [{"index": 0, "delta": {"content": " word"}}]}] * SAID
CLAUDE = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}}] * SAID
CHAT_USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 400, "completion_tokens": 47, "prompt_tokens_details": {"cached_tokens": 90}},
}
START = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 310, "cache_read_input_tokens": 90, "output_tokens": 1}},
}
BARE_START = {"type": "message_start", "message": {"id": "msg_1", "content": []}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 47}}
EMBEDDINGS = json.dumps({"object": "list", "data": [{}], "usage": {"prompt_tokens": 400, "total_tokens": 400}}).encode()
WHOLE = json.dumps({"choices": [{"message": {"content": "word " * 40}}]}).encode()

# what went out, whether it streams, then (prompt, completion, cached, source) if it ended well, and if it was cut
FACT = (400, 47, 90, "reported")
ESTIMATE = (PROMPT, SAID, None, "estimated")
HALF = (400, SAID, 90, "estimated")
ANSWERS: dict[str, tuple[Dialect, bytes, bool, tuple[object, ...], tuple[object, ...]]] = {
    "openai, usage told": (OPENAI, sse(*CHAT, CHAT_USAGE), True, FACT, FACT),
    "openai, no usage": (OPENAI, sse(*CHAT), True, ESTIMATE, ESTIMATE),
    "openai, usage so far in each event": (
        OPENAI, sse(*({**event, "usage": so_far(at + 1)} for at, event in enumerate(CHAT))), True,
        (400, SAID, None, "reported"), (400, SAID, None, "reported"),
    ),
    "openai, completion alone told": (
        OPENAI, sse(*CHAT, {"usage": {"completion_tokens": 47}}), True,
        (PROMPT, 47, None, "estimated"), (PROMPT, 47, None, "estimated"),
    ),
    "openai, embeddings": (OPENAI, EMBEDDINGS, False, (400, 0, None, "reported"), (400, 0, None, "reported")),
    "openai, whole, no usage": (OPENAI, WHOLE, False, ESTIMATE, ESTIMATE),
    "openai, nothing but its head": (OPENAI, b"", True, (PROMPT, 0, None, "estimated"), (PROMPT, 0, None, "estimated")),
    "anthropic, usage told": (ANTHROPIC, sse(START, *CLAUDE, DELTA), True, FACT, FACT),
    "anthropic, prompt alone told": (ANTHROPIC, sse(START, *CLAUDE), True, HALF, HALF),
    "anthropic, no usage": (ANTHROPIC, sse(BARE_START, *CLAUDE), True, ESTIMATE, ESTIMATE),
}  # fmt: skip


def usage_of(dialect: Dialect, body: bytes, *, streams: bool) -> Usage:
    """What a reader has found by the moment at which the answer ends or is cut."""
    if not body:
        return NO_USAGE
    reader = reader_of(dialect, [body], streams=streams, endpoint="embeddings" if body is EMBEDDINGS else None)
    if not streams:
        reader.finish(is_certain=True)
    return reader.usage()


def billed(ending: State, name: str, *, is_answered: bool, asked: Price = PRICE, answered: Price = PRICE) -> Bill:
    dialect, body, streams, _, _ = ANSWERS[name]
    return bill(
        ending,
        is_answered=is_answered,
        usage=usage_of(dialect, body, streams=streams),
        prompt=PROMPT,
        delivered=lambda: estimated_completion_tokens(body, body, len(body), streams),
        asked=asked,
        answered=answered,
    )


def facts(found: Bill) -> tuple[object, ...]:
    used = found.usage
    return (used.prompt, used.completion, used.cached, used.source)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("ending", sorted(ENDINGS, key=str))
@pytest.mark.parametrize("is_answered", [True, False])
def test_every_ending_of_every_answer_costs_what_the_contract_says(ending: State, name: str, is_answered: bool) -> None:
    found = billed(ending, name, is_answered=is_answered)
    _, _, _, at_its_end, where_cut = ANSWERS[name]
    if not is_answered or ending in NEVER_CHARGED:
        assert (facts(found), found.amount, found.tokens) == ((None, None, None, "none"), 0, 0)
        return
    assert facts(found) == (at_its_end if ending is State.COMPLETED else where_cut)
    assert found.amount == cost_nano_usd(found.usage, PRICE)
    assert found.amount > 0
    assert found.tokens == (found.usage.prompt or 0) + (found.usage.completion or 0)


def test_every_ending_is_either_charged_whole_cut_or_free() -> None:
    assert {State.COMPLETED, *CUT, *NEVER_CHARGED} == ENDINGS


def test_the_delivered_tokens_of_an_answer_with_reported_usage_are_not_estimated() -> None:
    def measured() -> int:
        raise AssertionError

    reported = Usage(10, 5, None, "reported")
    found = bill(State.COMPLETED, is_answered=True, usage=reported, prompt=1, delivered=measured, asked=PRICE, answered=PRICE)
    assert facts(found) == (10, 5, None, "reported")
    for ending, is_answered in ((State.FAILED, True), (State.CLIENT_GONE, False)):
        found = bill(ending, is_answered=is_answered, usage=NO_USAGE, prompt=1, delivered=measured, asked=PRICE, answered=PRICE)
        assert found is NOTHING


@pytest.mark.parametrize(("reported", "went_out", "expected"), [
    (47, 50, (47, "reported")), (47, 40, (47, "reported")), (25, 50, (25, "reported")), (24, 50, (50, "estimated")),
    (1, 1, (1, "reported")), (1, 300, (300, "estimated")), (0, 0, (0, "reported")), (0, 1, (1, "estimated")),
])  # fmt: skip
def test_a_count_that_was_reported_when_a_cut_answer_began_is_replaced_by_the_estimate(
    reported: int, went_out: int, expected: tuple[int, str]
) -> None:
    usage = Usage(400, reported, None, "reported")
    for ending in CUT:
        found = bill(ending, is_answered=True, usage=usage, prompt=1, delivered=lambda: went_out, asked=PRICE, answered=PRICE)
        assert (found.usage.completion, found.usage.source, found.usage.prompt) == (*expected, 400)


def test_an_answer_is_free_if_either_price_is_unknown() -> None:
    for prices in ((FREE, FREE), (FREE, PRICE), (PRICE, FREE)):
        found = billed(State.COMPLETED, "openai, usage told", is_answered=True, asked=prices[0], answered=prices[1])
        assert (found.amount, facts(found)) == (0, FACT)


@pytest.mark.parametrize(("prompt", "output", "price", "amount"), [
    (1_000_000, 4096, PRICE, 680_000_000 + 16_588_800), (1, 0, Price(input=1), 1), (0, 0, PRICE, 0), (10**6, 4096, FREE, 0),
    (10**6, 4096, Price(input=0, output=0), 0),
])  # fmt: skip
def test_a_hold_is_the_price_of_the_estimated_tokens(prompt: int, output: int, price: Price, amount: int) -> None:
    assert hold_for(prompt, output, price) == amount


def left(*attempts: tuple[str, float], ending: State = State.CLIENT_GONE) -> Exchange:
    """A request whose caller left before its answer began; of each attempt the result and when it was sent."""
    request = routed()
    request.route = request.snapshot.routes["chat"]["small"]
    request.state = ending
    for result, sent in attempts:
        made = attempt(result)
        made.sent = sent
        request.attempts.append(made)
    return request


@pytest.mark.parametrize(("request_", "is_charged"), [
    (left(), False),  # refused, or no source was there
    (left((ABANDONED, 0.0)), False),  # it still dialled
    (left((ABANDONED, 1.0)), True),
    (left(("status", 1.0), (ABANDONED, 0.0)), False),  # what had it has failed, and the next one has nothing yet
    (left(("status", 1.0), (ABANDONED, 2.0)), True),
    (left((ABANDONED, 1.0), (ABANDONED, 0.0)), True),  # hedged
    (left((ABANDONED, 1.0), (ABANDONED, 2.0)), True),
    (left(("broken", 1.0), ("first_byte_timeout", 2.0), ending=State.FAILED), False),
    (left((ABANDONED, 1.0), ending=State.DRAINED), False),  # not the caller's doing
])  # fmt: skip
def test_a_caller_who_leaves_before_the_answer_pays_for_a_prompt_that_a_source_has(
    request_: Exchange, is_charged: bool
) -> None:
    def measured() -> int:
        raise AssertionError

    found = bill_of(request_, PROMPT, measured)
    if is_charged:
        assert facts(found) == (PROMPT, 0, None, "estimated")
        assert found.amount == PROMPT * 680
    else:
        assert found is NOTHING


def test_an_estimate_of_a_cut_answer_keeps_what_was_reported_of_the_prompt() -> None:
    usage = Usage(400, 1, 90, "reported", 100, 50, 7, 2, "priority")
    found = bill(State.BROKEN, is_answered=True, usage=usage, prompt=1, delivered=lambda: 300, asked=PRICE, answered=PRICE)
    assert found.usage == Usage(400, 300, 90, "estimated", 100, 50, 7, 2, "priority")


@pytest.mark.parametrize("ending", [State.COMPLETED, State.CLIENT_GONE])
def test_a_count_that_was_completed_by_an_estimate_stays_marked(ending: State) -> None:
    usage = Usage(400, 300, 90, "estimated")  # text came after what the source had reported
    found = bill(ending, is_answered=True, usage=usage, prompt=1, delivered=lambda: 300, asked=PRICE, answered=PRICE)
    assert found.usage == usage


TOKENS = st.integers(0, 10**7)
MONEY = st.one_of(st.none(), st.integers(0, 100 * NANO))
PRICES = st.builds(Price, MONEY, MONEY, MONEY)
USAGES = st.builds(
    lambda prompt, completion, cached: Usage(prompt, completion, cached, "reported"),
    st.none() | TOKENS, st.none() | TOKENS, st.none() | TOKENS,
)  # fmt: skip


def charged(used: Usage, prompt: int, went_out: int, asked: Price, answered: Price | None = None) -> int:
    """The cost of an answer that was delivered whole."""
    return bill(
        State.COMPLETED,
        is_answered=True,
        usage=used,
        prompt=prompt,
        delivered=lambda: went_out,
        asked=asked,
        answered=answered or asked,
    ).amount


@given(USAGES, TOKENS, PRICES, PRICES)
def test_a_substitute_never_makes_an_answer_dearer(usage: Usage, tokens: int, asked: Price, answered: Price) -> None:
    amounts = [charged(usage, tokens, tokens, one, other) for one in (asked, answered) for other in (asked, answered)]
    assert amounts[1] == amounts[2] == min(amounts[0], amounts[3]) >= 0


@given(USAGES, TOKENS, PRICES, TOKENS)
def test_more_tokens_never_cost_less(usage: Usage, tokens: int, price: Price, more: int) -> None:
    assume(price.cached_input is None or price.input is None or price.cached_input <= price.input)
    larger = Usage(
        None if usage.prompt is None else usage.prompt + more,
        None if usage.completion is None else usage.completion + more,
        usage.cached,
        usage.source,
    )
    assert charged(usage, tokens, tokens, price) <= charged(larger, tokens + more, tokens + more, price)


@given(TOKENS, TOKENS, TOKENS, PRICES)
def test_a_hold_covers_a_request_that_takes_no_more_than_estimated(prompt: int, output: int, cached: int, price: Price) -> None:
    assume(price.cached_input is None or price.input is None or price.cached_input <= price.input)
    assert charged(Usage(prompt, output, cached, "reported"), 0, 0, price) <= hold_for(prompt, output, price)


class Request:
    """One request of the simulation, from its admission to its bill."""

    def __init__(self, account: Account, admission: Admission, prompt: int, held: int) -> None:
        self.account = account
        self.admission = admission
        self.prompt = prompt
        self.held = held

    def end(self, ending: State, usage: Usage, delivered: int, price: Price) -> Bill:
        is_answered = ending is State.COMPLETED or (ending in CUT and delivered > 0)
        found = bill(
            ending,
            is_answered=is_answered,
            usage=usage,
            prompt=self.prompt,
            delivered=lambda: delivered,
            asked=PRICE,
            answered=price,
        )
        self.admission.settle(found.tokens)
        self.account.release(self.held)
        self.account.post(-found.amount)
        return found


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_balances_equal_the_sums_of_their_entries_and_no_hold_is_left_after_any_sequence_of_requests(seed: int) -> None:
    chance = Random(seed)
    accounts = [Account(f"acct_{at}", f"{at}@example.com", 0) for at in range(3)]
    ledger: dict[str, list[int]] = {account.id: [] for account in accounts}
    counted: dict[str, list[tuple[float, int]]] = {account.id: [] for account in accounts}
    windows, open_requests, now = Windows(), list[tuple[Request, float]](), 1000.0

    def end_one() -> None:
        request, at = open_requests.pop(chance.randrange(len(open_requests)))
        usage = chance.choice([NO_USAGE, Usage(chance.randrange(5000), chance.choice([None, 1, 900]), None, "reported")])
        ending = chance.choice(sorted(ENDINGS, key=str))
        found = request.end(ending, usage, chance.randrange(3) * 500, chance.choice([PRICE, FREE]))
        ledger[request.account.id].append(-found.amount)
        counted[request.account.id].append((at, found.tokens))

    for _ in range(200):
        now += chance.choice([0.0, 0.1, 1.0, 20.0])
        account = chance.choice(accounts)
        windows.sweep(now, chance.randrange(3))
        if chance.random() < 0.1:
            amount = chance.randrange(10 * NANO)
            account.post(amount, is_purchase=True)
            ledger[account.id].append(amount)
        elif open_requests and chance.random() < 0.45:
            end_one()
        else:
            prompt, output = chance.randrange(20_000), chance.randrange(1, 4097)
            amount = hold_for(prompt, output, chance.choice([PRICE, FREE]))
            if account.can_afford(amount):
                admission = windows.of(account.id).admit(now, "small", prompt + output, account.tier(SHIPPED_TIERS))
                if isinstance(admission, Admission):
                    account.hold(amount)
                    open_requests.append((Request(account, admission, prompt, amount), now))
        held = {account.id: 0 for account in accounts}
        for request, _ in open_requests:
            held[request.account.id] += request.held
        assert all(account.held == held[account.id] for account in accounts)
    while open_requests:
        end_one()
    for account in accounts:
        assert (account.balance, account.held, account.available) == (sum(ledger[account.id]), 0, account.balance)
        in_window = sum(tokens for at, tokens in counted[account.id] if now < at + 60)
        assert windows.of(account.id).used_tokens(now) == in_window


def test_requests_that_end_in_any_order_leave_the_same_balance_and_window() -> None:
    totals = set()
    for order in itertools.permutations([State.COMPLETED, State.CLIENT_GONE, State.FAILED, State.DRAINED]):
        account, windows = Account("a", "", 0, balance=NANO), Windows()
        requests = []
        for ending in order:
            admission = windows.of("a").admit(0.0, "small", 100, SHIPPED_TIERS[0])
            assert isinstance(admission, Admission)
            account.hold(1000)
            requests.append((Request(account, admission, 100, 1000), ending))
        for request, ending in reversed(requests):
            request.end(ending, NO_USAGE, 40, PRICE)
        totals.add((account.balance, account.held, windows.of("a").used_tokens(1.0)))
    assert totals == {(NANO - 3 * (100 * 680 + 40 * 4050), 0, 3 * 140)}
