"""Converts amounts of money and writes them for people. Money is counted in whole nano-dollars. (Contract §8.)"""

from __future__ import annotations

from decimal import Decimal

from kyma_proxy.config.snapshot import NANO


def usd(nano: int) -> str:
    """Nano-dollars as people write dollars: with the cents, and with further digits if there are any."""
    whole, part = divmod(abs(nano), NANO)
    digits = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}${whole:,}.{digits}"


def to_nano(dollars: float) -> int:
    """The nano-dollars of an amount in dollars, as JSON documents hold it; a part of a nano-dollar is rounded."""
    return round(Decimal(str(dollars)) * NANO)
