"""This file bounds how often people try to sign up from one address. (Contract §2: sign-up is off by default.)"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import Final

from kyma_proxy.errors import GatewayError, Kind

_HOUR_S: Final = 3600.0
_MAX_ADDRESSES: Final = 10_000
_HOME_BITS: Final = 48


class Signups:
    """The attempts to sign up in the last hour, by address. Nobody new is let in while there are too many addresses."""

    def __init__(self) -> None:
        self._at: OrderedDict[str, deque[float]] = OrderedDict()

    def admit(self, address: str | None, per_hour: int, now: float) -> None:
        """Count an attempt from this address at `now`, monotonic seconds. Raises GatewayError where it is one too many."""
        home = _home(address)
        self._forget(now)
        if len(self._at) >= _MAX_ADDRESSES and home not in self._at:
            raise GatewayError(Kind.OVERLOADED, "Too many people sign up just now; try again later.", retry_after=600)
        times = self._at.setdefault(home, deque())
        self._at.move_to_end(home)
        while times and times[0] <= now - _HOUR_S:
            times.popleft()
        if len(times) >= per_hour:
            wait = int(times[len(times) - per_hour] + _HOUR_S - now) + 1
            raise GatewayError(
                Kind.RATE_LIMIT_EXCEEDED,
                f"One address may try to sign up {per_hour} times an hour; try again in {wait} s.",
                retry_after=wait,
            )
        times.append(now)

    def _forget(self, now: float) -> None:
        """Let go of the addresses from which nobody came for an hour; the least recent one is first."""
        while self._at:
            home, times = next(iter(self._at.items()))
            if times and times[-1] > now - _HOUR_S:
                return
            del self._at[home]


def _home(address: str | None) -> str:
    """Who shares a count: an IPv4 address, an IPv6 network of 48 bits, and all who come without an address."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, _HOME_BITS), strict=False))
    return str(parsed)
