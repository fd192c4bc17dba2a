"""Admits metered requests and settles them: who calls, within which limits, and for how much. (Contract §1, §7, §8.)

What is taken at admission (a place in the minute, tokens, money) is a `Reservation`. However the request ends, `settle` gives
it back and puts the fact in its place. Nothing here waits: accounts are in memory, and the ledger only takes charges in. Limits
and holds are handed in, so that a process that shares accounts with others can be given ones that borrow from a common stock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from kyma_proxy.config.snapshot import Snapshot, Tier
from kyma_proxy.core.accounts.accounts import Account, Accounts, Key, credential
from kyma_proxy.core.accounts.charging import NOTHING, REPORTED, Bill, hold_for, is_free
from kyma_proxy.core.accounts.estimate import answers_asked, estimated_prompt_tokens, most_output
from kyma_proxy.core.accounts.extras import prompt_of, refuse_unpriced
from kyma_proxy.core.accounts.limit_lines import LimitLines
from kyma_proxy.core.accounts.limits import Limit, Refusal, Windows
from kyma_proxy.core.accounts.money import usd
from kyma_proxy.core.accounts.reservation import Holds, Reservation
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import NO_OPTIONS, MeteredFields, includes_usage
from kyma_proxy.core.http.endpoints import MAX_FORM_BYTES, PUBLIC_FORMS, Endpoint
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.store.contract import DAY_S, Charge

_MAX_SWEPT: Final = 200
_RICH: Final = 10
"""An account that has this many times the most that a request may cost need not hold all of it. (Contract §8.)"""
_STREAM_VALUES: Final = (b"", b"true", b"false", b"null")


class Ledger(Protocol):
    """Takes charges: the part of the store that a request needs."""

    @property
    def is_failing(self) -> bool:
        """True if charges can't be written just now."""

    def charge(self, charge: Charge) -> None:
        """Take a charge, without waiting."""

    def key_used(self, key: str, day: int) -> None:
        """Take a note of a key's first use on a day, without waiting."""


class Meter:
    """Meters requests. `references` makes a name for each charge that no other charge has, of this process or another."""

    def __init__(
        self, accounts: Accounts, ledger: Ledger, references: Callable[[], str], windows: Windows, holds: Holds
    ) -> None:
        self.accounts = accounts
        self.ledger = ledger
        self._references = references
        self.windows = windows
        self._holds = holds
        self._free_of: Snapshot | None = None
        self._are_free = False
        self._lines_of: tuple[Tier, ...] = ()
        self._lines: list[LimitLines] = []

    def identify(self, headers: Headers) -> Key:
        """The caller's key. Raises GatewayError: the same for no key and a wrong one."""
        key = self.accounts.identify(credential(headers))
        if key is None:
            raise GatewayError(
                Kind.INVALID_API_KEY,
                "Send a valid key of this gateway as `Authorization: Bearer ky-…` or `x-api-key: ky-…`; a provider's key "
                "is not one.",
            )
        if key.account.is_blocked:
            raise GatewayError(Kind.FORBIDDEN, "This account is blocked; only the gateway's operator can unblock it.")
        return key

    def identify_again(self, headers: Headers, downstream: DownstreamConnection) -> Key:
        """The same as `identify`. The key of the headers of a connection's last request is known, until it is revoked."""
        key = downstream.key
        if key is None or key.is_revoked or key.account.is_blocked or downstream.identified is not headers:
            key = self.identify(headers)
            downstream.identified, downstream.key = headers, key
        return key

    def screen(self, head: RequestHead, headers: Headers, snapshot: Snapshot, now: float) -> int | None:
        """Refuse a request whose body would be read in vain. Raises GatewayError.

        Returns the most bytes of the body; None if the listener's limit is enough.
        """
        if head.path in PUBLIC_FORMS:
            return MAX_FORM_BYTES
        account = self.identify(headers).account
        if head.method == b"POST" and head.path in RELAYED:
            self.check_standing(account, RELAYED[head.path], snapshot, now)
        return None

    def check_standing(self, account: Account, endpoint: Endpoint, snapshot: Snapshot, now: float) -> None:
        """Refuse what no body could get admitted, before it is read: the minute is full, or there is no money.

        It takes nothing; `admit` decides. Raises GatewayError.
        """
        if endpoint.is_charged and not self._holds.can_afford(account, 1) and not self._has_free_models(snapshot):
            raise GatewayError(
                Kind.INSUFFICIENT_CREDITS,
                f"{usd(account.available)} is available on this account; {_how_to_pay(snapshot.accounts.top_up)}.",
            )
        tier = account.tier(snapshot.tiers)
        refusal = self.windows.of(account.id).foreseen_refusal(now, 1 if endpoint.is_charged else 0, tier)
        if refusal is not None:
            raise _limit_exceeded(refusal, tier, snapshot.tiers, 0)

    def _has_free_models(self, snapshot: Snapshot) -> bool:
        if self._free_of is not snapshot:
            self._free_of = snapshot
            self._are_free = any(is_free(model.price) for model in snapshot.entries if not model.is_image)
        return self._are_free

    def admit(self, exchange: Exchange, now: float) -> Reservation:
        """Take what a request needs, or nothing. Raises GatewayError if there is not enough of it.

        The exchange has its key and its route, and its routing fields are metered.
        """
        if self.ledger.is_failing:
            raise accounts_unavailable()
        key, route, routing = exchange.key, exchange.route, exchange.routing
        assert key is not None and route is not None and routing is not None  # noqa: S101, PT018  (identified, routed)
        written, model, snapshot = routing.written, route.model, exchange.snapshot
        assert written is not None  # noqa: S101  (metered)
        account = key.account
        prompt = output = cost = unheld = 0
        extras = written.extras
        endpoint = exchange.endpoint
        if endpoint.takes_stream_options:
            _check_stream(written)
        if endpoint.is_charged:
            if extras is not None:
                refuse_unpriced(extras, model.price)
            body = exchange.inbound.body
            prompt = estimated_prompt_tokens(body) if extras is None else prompt_of(extras, body)
            most = 0
            if endpoint.generates:
                hold_tokens, bound = snapshot.accounts.hold_tokens, model.max_output_tokens or model.context_window
                if endpoint.takes_max_tokens:
                    most = most_output(written.max_tokens, snapshot.max_tokens, bound, hold_tokens)
                else:
                    most = most_output(written.max_output_tokens, None, bound, hold_tokens)
                output = min(most, hold_tokens)
                if written.copies:
                    copies = answers_asked(written.copies)
                    most *= copies
                    output *= copies
            cost = hold_for(prompt, most, model.price, extras)
            if most > output and self._holds.can_afford(account, _RICH * cost):
                unheld = cost - hold_for(prompt, output, model.price, extras)
                cost -= unheld
        # Before the limits: a request without money counts nowhere.
        if not unheld and not self._holds.can_afford(account, cost):
            raise insufficient_credits(
                account, cost, snapshot.accounts.top_up, "send less" if endpoint.measure else "ask for fewer max_tokens"
            )
        tier = account.tier(snapshot.tiers)
        admission = self.windows.of(account.id).admit(now, model.id, prompt + output, tier)
        if isinstance(admission, Refusal):
            raise _limit_exceeded(admission, tier, snapshot.tiers, prompt + output)
        self._holds.hold(account, cost)
        if unheld:
            self._holds.expose(account, unheld)
        return Reservation(key, admission, prompt, cost, unheld, extras)

    def admit_job(self, key: Key, model_id: str, tiers: tuple[Tier, ...], now: float) -> None:
        """Count an image job against its account's minute, whatever becomes of it. It takes no tokens. Raises GatewayError."""
        account = key.account
        tier = account.tier(tiers)
        admission = self.windows.of(account.id).admit(now, model_id, 0, tier)
        if isinstance(admission, Refusal):
            raise _limit_exceeded(admission, tier, tiers, 0)

    def settle(self, reservation: Reservation, bill: Bill, model: str, request_id: str, wall: float) -> None:
        """Give back what is reserved, and charge the bill in its place; `wall` is Unix time."""
        key = reservation.key
        account = key.account
        self._holds.release(account, reservation.held)
        if reservation.unheld:
            self._holds.expose(account, -reservation.unheld)
        reservation.held = reservation.unheld = 0
        reservation.admission.settle(bill.tokens)
        at = int(wall)
        self.note_use(key, at)
        if bill is NOTHING:
            return
        usage = bill.usage
        account.post(-bill.amount)
        self.ledger.charge(
            Charge(
                account.id, key.id, self._references(), request_id, at, model,
                usage.prompt or 0, usage.completion or 0, usage.cached or 0, usage.source != REPORTED, bill.amount,
            )
        )  # fmt: skip

    def note_use(self, key: Key, wall: float) -> None:
        """Have the day of a key's use written, if it is the first use of that day; `wall` is Unix time."""
        day = int(wall) // DAY_S
        if key.last_used_day is None or key.last_used_day < day:
            key.last_used_day = day
            self.ledger.key_used(key.id, day)

    def lines(self, account: Account, tiers: tuple[Tier, ...], now: float) -> bytes:
        """The `x-ratelimit-*` header lines of an answer, under OpenAI's names. (Contract §4.2.)"""
        if self._lines_of is not tiers:
            self._lines_of, self._lines = tiers, [LimitLines(one) for one in tiers]
        tier = account.tier(tiers)
        return self._lines[tier.tier].lines(self.windows.of(account.id), now)

    def used(self, account: Account, now: float) -> tuple[int, int]:
        """The requests and tokens of an account that count against its minute."""
        window = self.windows.of(account.id)
        return window.used_requests(now), window.used_tokens(now)

    def sweep(self, now: float) -> None:
        """Forget the windows of accounts that have sent no request for a minute; a few of them at a time."""
        self.windows.sweep(now, _MAX_SWEPT)


def _check_stream(written: MeteredFields) -> None:
    """Make sure that a stream reports its usage: without it the charge would be a guess. Raises GatewayError."""
    options = written.stream_options
    if written.stream not in _STREAM_VALUES:
        raise GatewayError(Kind.INVALID_REQUEST, "`stream` must be true or false.", param="stream")
    if written.stream == b"true" and options not in NO_OPTIONS and not includes_usage(options):
        raise GatewayError(
            Kind.INVALID_REQUEST,
            "Requests are metered here: leave `stream_options` out, or set its `include_usage` to true.",
            param="stream_options",
        )


def insufficient_credits(account: Account, cost: int, top_up: str | None, otherwise: str) -> GatewayError:
    """The error for an account that can't hold what a request may cost; `otherwise` says how it would cost less."""
    available = account.available
    at_most = " after what the requests in flight may cost" if account.unheld else ""
    return GatewayError(
        Kind.INSUFFICIENT_CREDITS,
        f"This request may cost {usd(cost)} and {usd(available)} is available{at_most}, so {usd(cost - available)} is missing; "
        f"{_how_to_pay(top_up)}, or {otherwise}.",
    )


def _how_to_pay(top_up: str | None) -> str:
    return f"add credits at {top_up}" if top_up else "ask the gateway's operator for credits"


def _limit_exceeded(refusal: Refusal, tier: Tier, tiers: tuple[Tier, ...], tokens: int) -> GatewayError:
    """`tokens` are those that the request needs, 0 if that is not known."""
    higher = tiers[tier.tier + 1] if tier.tier + 1 < len(tiers) else None
    more = f" Tier {higher.tier} begins with purchases of {usd(higher.min_purchased)}." if higher is not None else ""
    if refusal.is_final:
        return GatewayError(
            Kind.FORBIDDEN,
            f"This request needs about {tokens} tokens, and tier {tier.tier} allows {refusal.allowed} {refusal.limit.value}; "
            f"send less at once.{more}",
        )
    seconds = refusal.retry_after
    needed = f", and this request needs about {tokens}" if refusal.limit is Limit.TOKENS and tokens else ""
    return GatewayError(
        Kind.RATE_LIMIT_EXCEEDED,
        f"Tier {tier.tier} allows {refusal.allowed} {refusal.limit.value}{needed}; try again in {seconds} s.{more}",
        retry_after=seconds,
    )
