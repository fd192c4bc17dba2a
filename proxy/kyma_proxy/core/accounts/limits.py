"""Rate limits: decides whether an account's request is admitted now, and if not, when it will be. (Contract §7.)

Windows slide and are exact: an admission at second a counts until just before a + 60. An account's admissions are a linked list
in the order of their arrival, and those for one model are a second one. So to admit, to settle and to expire one takes constant
time; only a refusal walks along the list. Time is an argument and never goes backwards.
"""

from __future__ import annotations

import enum
from typing import Final

from kyma_proxy.config.snapshot import Tier

WINDOW_S: Final = 60.0
_NEVER: Final = float("inf")


class Limit(enum.Enum):
    """The limit that refuses a request; its value is its name in the error message."""

    REQUESTS = "requests per minute"
    MODEL_REQUESTS = "requests per minute for this model"
    TOKENS = "tokens per minute"
    REQUEST_TOKENS = "tokens in one request"


class Refusal:
    """A request that was not admitted. `limit` is the one that makes it wait longest, and `allowed` is its size.

    If no other request comes and no estimate changes, it is admitted at second `at`, hence after `retry_after` whole seconds.
    If it is larger than the tier can ever admit, no wait helps: `is_final` is True and `retry_after` is 0.
    """

    __slots__ = ("allowed", "at", "limit", "retry_after")

    def __init__(self, limit: Limit, allowed: int, now: float, at: float) -> None:
        self.limit = limit
        self.allowed = allowed
        self.at = at
        self.retry_after = 0 if at == _NEVER else _whole_seconds(now, at)

    @property
    def is_final(self) -> bool:
        """True if the tier never admits such a request, now or later."""
        return self.at == _NEVER


def _whole_seconds(now: float, at: float) -> int:
    """The smallest number of whole seconds, 1 or more, after which a clock that shows `now` has reached `at`."""
    seconds = max(int(at - now), 1)
    return seconds if now + seconds >= at else seconds + 1


class _ModelAdmissions:
    """A window's admissions for one model, oldest first."""

    __slots__ = ("count", "first", "last", "model_id")

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.count = 0
        self.first: Admission | None = None
        self.last: Admission | None = None


class Admission:
    """One admitted request. Until `expires_at` it counts, with `tokens`, against the window.

    `next` and `next_of_model` are the window's links to the admission after it, and to the next one for its model.
    """

    __slots__ = ("expires_at", "model_admissions", "next", "next_of_model", "tokens", "window")

    def __init__(self, expires_at: float, tokens: int, window: Window, model_admissions: _ModelAdmissions) -> None:
        self.expires_at = expires_at
        self.tokens = tokens
        self.window: Window | None = window
        self.model_admissions: _ModelAdmissions | None = model_admissions
        self.next: Admission | None = None
        self.next_of_model: Admission | None = None

    def settle(self, tokens: int) -> None:
        """Replace the estimate by the fact (0 or more), as if the request had been admitted with it.

        Does nothing if the admission has expired: then neither counts any more.
        """
        window = self.window
        if window is not None:
            window.tokens += tokens - self.tokens
            self.tokens = tokens


class Window:
    """One account's admissions of the last 60 s. `tokens` is the sum of theirs; `next` is its neighbour in `Windows`."""

    __slots__ = ("_count", "_first", "_last", "_models", "account_id", "next", "tokens")

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.tokens = 0
        self.next: Window | None = None
        self._count = 0
        self._first: Admission | None = None
        self._last: Admission | None = None
        self._models: dict[str, _ModelAdmissions] = {}

    def admit(self, now: float, model_id: str, tokens: int, tier: Tier) -> Admission | Refusal:
        """Admit a request of about this many tokens if every limit of the tier allows it. A refused one counts against none.

        The limits are those of this call: what a larger tier admitted before still counts under a smaller one.
        """
        if tokens > tier.max_request_tokens:
            return Refusal(Limit.REQUEST_TOKENS, tier.max_request_tokens, now, _NEVER)
        if tokens > tier.tpm:
            return Refusal(Limit.TOKENS, tier.tpm, now, _NEVER)
        self._expire(now)
        model_admissions = self._models.get(model_id)
        if (
            self._count >= tier.rpm
            or self.tokens + tokens > tier.tpm
            or (model_admissions is not None and model_admissions.count >= tier.per_model_rpm)
        ):
            return self._refusal(now, model_admissions, tokens, tier)
        if model_admissions is None:
            model_admissions = self._models[model_id] = _ModelAdmissions(model_id)
        admission = Admission(now + WINDOW_S, tokens, self, model_admissions)
        self._append(admission, model_admissions)
        return admission

    def foreseen_refusal(self, now: float, tokens: int, tier: Tier) -> Refusal | None:
        """The refusal of every request of at least so many tokens, whatever its model; None if one may be admitted."""
        self._expire(now)
        if self._count < tier.rpm and self.tokens + tokens <= tier.tpm:
            return None
        return self._refusal(now, None, tokens, tier)

    def used_requests(self, now: float) -> int:
        """The number of requests in the window."""
        self._expire(now)
        return self._count

    def used_tokens(self, now: float) -> int:
        """The number of tokens in the window. It exceeds the tier's limit if requests took more than was estimated."""
        self._expire(now)
        return self.tokens

    def remaining_requests(self, now: float, tier: Tier) -> int:
        """The number of further requests that would be admitted, if each were for another model."""
        return max(0, tier.rpm - self.used_requests(now))

    def remaining_tokens(self, now: float, tier: Tier) -> int:
        """The number of further tokens that would be admitted."""
        return max(0, tier.tpm - self.used_tokens(now))

    def requests_reset_s(self, now: float) -> float:
        """Seconds until the window is empty, if no request comes."""
        self._expire(now)
        return 0.0 if self._last is None else self._last.expires_at - now

    def tokens_reset_s(self, now: float) -> float:
        """Seconds until no token counts any more, if no request comes."""
        self._expire(now)
        last = self._last
        if last is not None and not last.tokens:
            last = self._last_with_tokens()
        return 0.0 if last is None else last.expires_at - now

    @property
    def models(self) -> frozenset[str]:
        """The ids of the models that the window holds admissions for."""
        return frozenset(self._models)

    def is_idle(self, now: float) -> bool:
        """True if the window is empty, so that it can be dropped: no admission is left that could be settled in it."""
        self._expire(now)
        return self._first is None

    def admissions(self, now: float) -> list[tuple[float, int, str]]:
        """All admissions, oldest first: the second at which each expires, its tokens, and its model."""
        self._expire(now)
        found = []
        one = self._first
        while one is not None:
            if one.model_admissions is not None:
                found.append((one.expires_at, one.tokens, one.model_admissions.model_id))
            one = one.next
        return found

    def restore(self, expires_at: float, tokens: int, model_id: str) -> None:
        """Add an admission of another process, which had the account before; the oldest first, and before all others."""
        model_admissions = self._models.get(model_id)
        if model_admissions is None:
            model_admissions = self._models[model_id] = _ModelAdmissions(model_id)
        self._append(Admission(expires_at, tokens, self, model_admissions), model_admissions)

    def _append(self, admission: Admission, model_admissions: _ModelAdmissions) -> None:
        self._count += 1
        self.tokens += admission.tokens
        if self._last is None:
            self._first = admission
        else:
            self._last.next = admission
        self._last = admission
        model_admissions.count += 1
        if model_admissions.last is None:
            model_admissions.first = admission
        else:
            model_admissions.last.next_of_model = admission
        model_admissions.last = admission

    def _expire(self, now: float) -> None:
        """Drop the admissions whose minute is over: each once, so that the cost per admission is constant."""
        first = self._first
        while first is not None and first.expires_at <= now:
            self._count -= 1
            self.tokens -= first.tokens
            model_admissions = first.model_admissions
            if model_admissions is not None:
                model_admissions.count -= 1
                model_admissions.first = first.next_of_model
                if model_admissions.first is None:
                    del self._models[model_admissions.model_id]
            second = first.next
            # A long stream may keep its admission for hours; it must not keep alive all that came after.
            first.window = first.model_admissions = first.next = first.next_of_model = None
            first = second
        self._first = first
        if first is None:
            self._last = None

    def _refusal(self, now: float, model_admissions: _ModelAdmissions | None, tokens: int, tier: Tier) -> Refusal:
        """The refusal by the limit with the longest wait; each limit's wait is computed by itself."""
        limit, allowed, at = Limit.REQUESTS, tier.rpm, now
        if self._count >= tier.rpm:
            at = _nth_expires_at(self._first, self._count - tier.rpm)
        if model_admissions is not None and model_admissions.count >= tier.per_model_rpm:
            model_at = _nth_of_model_expires_at(model_admissions.first, model_admissions.count - tier.per_model_rpm)
            if model_at > at:
                limit, allowed, at = Limit.MODEL_REQUESTS, tier.per_model_rpm, model_at
        excess = self.tokens + tokens - tier.tpm
        if excess > 0:
            tokens_at = _tokens_free_at(self._first, excess)
            if tokens_at > at:
                limit, allowed, at = Limit.TOKENS, tier.tpm, tokens_at
        return Refusal(limit, allowed, now, at)

    def _last_with_tokens(self) -> Admission | None:
        found, one = None, self._first
        while one is not None:
            if one.tokens:
                found = one
            one = one.next
        return found


def _nth_expires_at(first: Admission | None, steps: int) -> float:
    """The second at which the admission `steps` after the first expires. `steps` is 0 unless the tier's limit has shrunk."""
    while first is not None and steps > 0:
        first = first.next
        steps -= 1
    return _NEVER if first is None else first.expires_at


def _nth_of_model_expires_at(first: Admission | None, steps: int) -> float:
    """The same along the list for one model."""
    while first is not None and steps > 0:
        first = first.next_of_model
        steps -= 1
    return _NEVER if first is None else first.expires_at


def _tokens_free_at(first: Admission | None, tokens: int) -> float:
    """The second at which this many tokens will have expired. It walks the list, as estimates change until then."""
    while first is not None:
        tokens -= first.tokens
        if tokens <= 0:
            return first.expires_at
        first = first.next
    return _NEVER


class Windows:
    """The windows of the accounts with recent requests. They form a ring, which `sweep` walks."""

    __slots__ = ("_before", "_windows")

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._before: Window | None = None
        """The sweep continues after this window."""

    def __len__(self) -> int:
        return len(self._windows)

    def admissions(self, now: float) -> dict[str, list[tuple[float, int, str]]]:
        """The admissions of all accounts that have any, by account."""
        found = {ident: window.admissions(now) for ident, window in self._windows.items()}
        return {ident: some for ident, some in found.items() if some}

    def of(self, account_id: str) -> Window:
        """An account's window. Use it at once: the next sweep may drop it, and the account then gets a new one."""
        window = self._windows.get(account_id)
        if window is None:
            window = self._windows[account_id] = Window(account_id)
            before = self._before
            window.next = window if before is None else before.next
            if before is not None:
                before.next = window
            self._before = window  # the sweep reaches all others before the new one
        return window

    def sweep(self, now: float, max_windows: int) -> int:
        """Check this many windows and drop the idle ones; returns how many it dropped. The next call continues there."""
        dropped = 0
        for _ in range(min(max_windows, len(self._windows))):
            before = self._before
            window = None if before is None else before.next
            if before is None or window is None:
                break
            if not window.is_idle(now):
                self._before = window
                continue
            del self._windows[window.account_id]
            before.next = window.next
            if window is before:
                self._before = None
            window.next = None
            dropped += 1
        return dropped
