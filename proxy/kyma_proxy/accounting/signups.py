"""Limits how often accounts are created from one address. (Contract §2; signing up is off by default.)"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import Final

from kyma_proxy.errors import GatewayError, Kind

_HOUR_S: Final = 3600.0
_MAX_NETWORKS: Final = 10_000
_IPV6_NETWORK_BITS: Final = 48


class SignupLimiter:
    """The attempts to sign up in the last hour, by network; its length is the number of networks.

    While there are too many networks, none is added: if the oldest were forgotten instead, a caller with many addresses could
    sign up without a limit.
    """

    def __init__(self) -> None:
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._attempts)

    def admit(self, address: str | None, per_hour: int, now: float) -> None:
        """Count an attempt from this address at `now`, monotonic seconds. Raises GatewayError if it is one too many."""
        network = _network(address)
        self._forget(now)
        if len(self._attempts) >= _MAX_NETWORKS and network not in self._attempts:
            raise GatewayError(Kind.OVERLOADED, "Too many people sign up just now; try again later.", retry_after=600)
        times = self._attempts.setdefault(network, deque())
        self._attempts.move_to_end(network)
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
        """Forget the networks without an attempt in the last hour; the least recent one is first."""
        while self._attempts:
            network, times = next(iter(self._attempts.items()))
            if times and times[-1] > now - _HOUR_S:
                return
            del self._attempts[network]


def _network(address: str | None) -> str:
    """The addresses that share a count: an IPv4 address, an IPv6 network of 48 bits, or all callers without an address."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, _IPV6_NETWORK_BITS), strict=False))
    return str(parsed)
