"""This file decides whether an account's request is admitted now, and if not, when it will be. (Contract §7.)

Exact sliding windows of 60 s: an admission at second a counts until just before a + 60. The admissions of an account hang
together in the order in which they came, and those for one model once more, so admitting, settling and leaving cost the
same however many there are; only a refusal walks along them. Time is an argument and never goes backwards.
"""

from __future__ import annotations

import enum
from typing import Final

from kyma_proxy.config.snapshot import Tier

WINDOW_S: Final = 60.0
_NEVER: Final = float("inf")


class Limit(enum.Enum):
    """Which limit refuses; the values are words for the message."""

    REQUESTS = "requests per minute"
    MODEL_REQUESTS = "requests per minute for this model"
    TOKENS = "tokens per minute"
    REQUEST_TOKENS = "tokens in one request"


class Refusal:
    """A request that was not admitted, by the limit that keeps it waiting longest, of which `allowed` is the size.

    If nobody else comes and no estimate changes, it is admitted at second `at`, and so after `retry_after` whole seconds. Where
    it is larger than the tier can ever admit, no wait helps: `is_final`, and `retry_after` is 0.
    """

    __slots__ = ("allowed", "at", "limit", "retry_after")

    def __init__(self, limit: Limit, allowed: int, now: float, at: float) -> None:
        self.limit = limit
        self.allowed = allowed
        self.at = at
        self.retry_after = 0 if at == _NEVER else _whole_seconds(now, at)

    @property
    def is_final(self) -> bool:
        """Whether the tier does not allow it at all, now or later."""
        return self.at == _NEVER


def _whole_seconds(now: float, at: float) -> int:
    """The least number of whole seconds, 1 or more, after which a clock that says `now` has reached `at`."""
    seconds = max(int(at - now), 1)
    return seconds if now + seconds >= at else seconds + 1


class _OfModel:
    """The admissions for one model that are in the window, oldest first."""

    __slots__ = ("count", "first", "last", "model_id")

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.count = 0
        self.first: Admission | None = None
        self.last: Admission | None = None


class Admission:
    """One admitted request. It leaves the window at `leaves_at`, and until then counts `tokens` against it.

    What comes after it in the window, and after it for its model, is the window's business.
    """

    __slots__ = ("following", "following_of_model", "leaves_at", "of_model", "tokens", "window")

    def __init__(self, leaves_at: float, tokens: int, window: Window, of_model: _OfModel) -> None:
        self.leaves_at = leaves_at
        self.tokens = tokens
        self.window: Window | None = window
        self.of_model: _OfModel | None = of_model
        self.following: Admission | None = None
        self.following_of_model: Admission | None = None

    def settle(self, tokens: int) -> None:
        """Put the fact (0 or more) in the estimate's place, as if the request had been admitted with it.

        Nothing, where the request has left its window: then neither counts any more.
        """
        window = self.window
        if window is not None:
            window.tokens += tokens - self.tokens
            self.tokens = tokens


class Window:
    """The admissions of one account in the last 60 s. `tokens` is the sum of theirs, `following` its neighbour in `Windows`."""

    __slots__ = ("_count", "_first", "_last", "_models", "account_id", "following", "tokens")

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.tokens = 0
        self.following: Window | None = None
        self._count = 0
        self._first: Admission | None = None
        self._last: Admission | None = None
        self._models: dict[str, _OfModel] = {}

    def admit(self, now: float, model_id: str, tokens: int, tier: Tier) -> Admission | Refusal:
        """Admit a request of about this many tokens under every limit of the tier, or under none: a refused one counts nowhere.

        The limits are those of this call; what a larger tier admitted before goes on to count under a smaller one.
        """
        if tokens > tier.max_request_tokens:
            return Refusal(Limit.REQUEST_TOKENS, tier.max_request_tokens, now, _NEVER)
        if tokens > tier.tpm:
            return Refusal(Limit.TOKENS, tier.tpm, now, _NEVER)
        self._forget(now)
        of_model = self._models.get(model_id)
        if (
            self._count >= tier.rpm
            or self.tokens + tokens > tier.tpm
            or (of_model is not None and of_model.count >= tier.per_model_rpm)
        ):
            return self._refusal(now, of_model, tokens, tier)
        if of_model is None:
            of_model = self._models[model_id] = _OfModel(model_id)
        admission = Admission(now + WINDOW_S, tokens, self, of_model)
        self._append(admission, of_model)
        return admission

    def used_requests(self, now: float) -> int:
        """How many requests count."""
        self._forget(now)
        return self._count

    def used_tokens(self, now: float) -> int:
        """How many tokens count; more than the tier allows where requests took more than was estimated."""
        self._forget(now)
        return self.tokens

    def remaining_requests(self, now: float, tier: Tier) -> int:
        """How many requests more would be admitted, were they for different models."""
        return max(0, tier.rpm - self.used_requests(now))

    def remaining_tokens(self, now: float, tier: Tier) -> int:
        """How many tokens more would be admitted."""
        return max(0, tier.tpm - self.used_tokens(now))

    def requests_reset_s(self, now: float) -> float:
        """After how many seconds no request counts any more, if none comes."""
        self._forget(now)
        return 0.0 if self._last is None else self._last.leaves_at - now

    def tokens_reset_s(self, now: float) -> float:
        """After how many seconds no token counts any more, if no request comes."""
        self._forget(now)
        last = self._last
        if last is not None and not last.tokens:
            last = self._last_with_tokens()
        return 0.0 if last is None else last.leaves_at - now

    def is_idle(self, now: float) -> bool:
        """Whether nothing here can matter to anyone: no admission is in the window, so none can be settled in it either."""
        self._forget(now)
        return self._first is None

    def _append(self, admission: Admission, of_model: _OfModel) -> None:
        self._count += 1
        self.tokens += admission.tokens
        if self._last is None:
            self._first = admission
        else:
            self._last.following = admission
        self._last = admission
        of_model.count += 1
        if of_model.last is None:
            of_model.first = admission
        else:
            of_model.last.following_of_model = admission
        of_model.last = admission

    def _forget(self, now: float) -> None:
        """Let go of the admissions whose minute is over. Each does so once, so it costs their admission a little more."""
        first = self._first
        while first is not None and first.leaves_at <= now:
            self._count -= 1
            self.tokens -= first.tokens
            of_model = first.of_model
            if of_model is not None:
                of_model.count -= 1
                of_model.first = first.following_of_model
                if of_model.first is None:
                    del self._models[of_model.model_id]
            following = first.following
            # A long stream may hold it for hours, and must not hold all that came after.
            first.window = first.of_model = first.following = first.following_of_model = None
            first = following
        self._first = first
        if first is None:
            self._last = None

    def _refusal(self, now: float, of_model: _OfModel | None, tokens: int, tier: Tier) -> Refusal:
        """The longest of the waits, each limit's for itself."""
        limit, allowed, at = Limit.REQUESTS, tier.rpm, now
        if self._count >= tier.rpm:
            at = _leaves_at(self._first, self._count - tier.rpm)
        if of_model is not None and of_model.count >= tier.per_model_rpm:
            of_model_at = _leaves_at_of_model(of_model.first, of_model.count - tier.per_model_rpm)
            if of_model_at > at:
                limit, allowed, at = Limit.MODEL_REQUESTS, tier.per_model_rpm, of_model_at
        excess = self.tokens + tokens - tier.tpm
        if excess > 0:
            tokens_at = _frees_at(self._first, excess)
            if tokens_at > at:
                limit, allowed, at = Limit.TOKENS, tier.tpm, tokens_at
        return Refusal(limit, allowed, now, at)

    def _last_with_tokens(self) -> Admission | None:
        found, one = None, self._first
        while one is not None:
            if one.tokens:
                found = one
            one = one.following
        return found


def _leaves_at(first: Admission | None, steps: int) -> float:
    """When the admission so many after the first leaves; steps are none at all unless a tier has shrunk."""
    while first is not None and steps > 0:
        first = first.following
        steps -= 1
    return _NEVER if first is None else first.leaves_at


def _leaves_at_of_model(first: Admission | None, steps: int) -> float:
    """The same, among those for one model."""
    while first is not None and steps > 0:
        first = first.following_of_model
        steps -= 1
    return _NEVER if first is None else first.leaves_at


def _frees_at(first: Admission | None, tokens: int) -> float:
    """When so many tokens will have left. Any estimate may change until then, so no sum is worth keeping: it is a walk."""
    while first is not None:
        tokens -= first.tokens
        if tokens <= 0:
            return first.leaves_at
        first = first.following
    return _NEVER


class Windows:
    """The windows of the accounts that had a request of late, in a ring around which `sweep` goes."""

    __slots__ = ("_before", "_windows")

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._before: Window | None = None
        """The window after which the sweep goes on."""

    def __len__(self) -> int:
        return len(self._windows)

    def of(self, account_id: str) -> Window:
        """An account's window, to be admitted into at once: it may be another one after the next sweep."""
        window = self._windows.get(account_id)
        if window is None:
            window = self._windows[account_id] = Window(account_id)
            before = self._before
            window.following = window if before is None else before.following
            if before is not None:
                before.following = window
            self._before = window  # so all others are looked at before the new one
        return window

    def sweep(self, now: float, at_most: int) -> int:
        """Look at so many windows and forget the idle ones; returns how many. The next call goes on from there."""
        forgotten = 0
        for _ in range(min(at_most, len(self._windows))):
            before = self._before
            window = None if before is None else before.following
            if before is None or window is None:
                break
            if not window.is_idle(now):
                self._before = window
                continue
            del self._windows[window.account_id]
            before.following = window.following
            if window is before:
                self._before = None
            window.following = None
            forgotten += 1
        return forgotten
