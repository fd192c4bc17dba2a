"""Writes the `x-ratelimit-*` header lines of an answer, under OpenAI's names. (Contract §4.2.)

They are on every answer to a metered caller. What changes with each is put together from pieces: to format numbers costs more.
"""

from __future__ import annotations

from typing import Final

from kyma_proxy.config.snapshot import Tier
from kyma_proxy.core.accounts.limits import Window

_NUMBERS: Final = [b"%d" % number for number in range(1000)]
_MILLISECONDS: Final = [b".%03ds\r\n" % number for number in range(1000)]


class LimitLines:
    """The lines for the accounts of one tier."""

    __slots__ = ("_limits", "_tier")

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._limits = (
            b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-requests: "
            % (tier.rpm, tier.tpm)
        )  # fmt: skip

    def lines(self, window: Window, now: float) -> bytes:
        """The lines for an account with this window."""
        tier = self._tier
        requests_reset = _milliseconds(window.requests_reset_s(now))
        tokens_reset = _milliseconds(window.tokens_reset_s(now))
        return b"".join((
            self._limits, _number(window.remaining_requests(now, tier)),
            b"\r\nx-ratelimit-remaining-tokens: ", _number(window.remaining_tokens(now, tier)),
            b"\r\nx-ratelimit-reset-requests: ", _number(requests_reset // 1000), _MILLISECONDS[requests_reset % 1000],
            b"x-ratelimit-reset-tokens: ", _number(tokens_reset // 1000), _MILLISECONDS[tokens_reset % 1000],
        ))  # fmt: skip


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000.0 + 0.5)


def _number(number: int) -> bytes:
    return _NUMBERS[number] if number < 1000 else b"%d" % number
