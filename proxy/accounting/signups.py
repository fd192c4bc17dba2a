"""This file bounds how often accounts are made from one address. (Contract §2: sign-up is off by default.)"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import Final

from proxy.errors import GatewayError, Kind

_HOUR_S: Final = 3600.0
_MOST_ADDRESSES: Final = 10_000
_HOME_BITS: Final = 64


class Signups:
    """The sign-ups of the last hour, by address; the least recent addresses are forgotten where there are too many."""

    def __init__(self) -> None:
        self._at: OrderedDict[str, deque[float]] = OrderedDict()

    def admit(self, address: str | None, per_hour: int, now: float) -> None:
        """Count a sign-up from this address at `now`, monotonic seconds. Raises GatewayError where it is one too many."""
        home = _home(address)
        times = self._at.setdefault(home, deque())
        self._at.move_to_end(home)
        while times and times[0] <= now - _HOUR_S:
            times.popleft()
        if len(times) >= per_hour:
            wait = int(times[len(times) - per_hour] + _HOUR_S - now) + 1
            raise GatewayError(
                Kind.RATE_LIMIT_EXCEEDED,
                f"{per_hour} accounts an hour can be made from one address; try again in {wait} s.",
                retry_after=wait,
            )
        times.append(now)
        if len(self._at) > _MOST_ADDRESSES:
            self._at.popitem(last=False)


def _home(address: str | None) -> str:
    """Who shares a count: an IPv4 address, an IPv6 network of 64 bits, and all who come without an address."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, _HOME_BITS), strict=False))
    return str(parsed)
