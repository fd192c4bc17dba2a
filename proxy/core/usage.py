"""This file says how many tokens an answer used, as far as the provider told, and what they cost. (Contract §11.)"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.config.snapshot import Price


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer. `prompt` counts the cached ones too; `source` is `reported` or `none`."""

    prompt: int | None
    completion: int | None
    cached: int | None
    source: str


NO_USAGE: Final = Usage(None, None, None, "none")


def cost_nano_usd(usage: Usage, price: Price) -> int | None:
    """What the answer costs in nano-dollars, or None where usage or price is unknown. Cached input has its own price."""
    if usage.prompt is None or price.input is None:
        return None
    cached = min(usage.cached or 0, usage.prompt)
    at_cached = price.input if price.cached_input is None else price.cached_input
    millionths = (usage.prompt - cached) * price.input + cached * at_cached + (usage.completion or 0) * (price.output or 0)
    return -(-millionths // 10**6)


class Sample:
    """The beginning and the end of an answer's body, kept in bounded memory while it passes.

    Providers put usage into the first event, the last ones, or near either end of a whole body.
    """

    __slots__ = ("_held", "_opening", "_pieces")

    EDGE_BYTES: Final = 2048
    """How much of either end is kept at least; the end may hold up to twice as much between trims."""

    def __init__(self) -> None:
        self._opening = b""
        self._pieces: list[bytes] = []
        self._held = 0

    def add(self, piece: bytes) -> None:
        """Take notice of a piece that passed."""
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > 2 * self.EDGE_BYTES:
            self._trim()

    def _trim(self) -> None:
        joined = b"".join(self._pieces)
        if not self._opening:
            self._opening = joined[: self.EDGE_BYTES]
        joined = joined[-self.EDGE_BYTES :]
        self._pieces[:] = (joined,)
        self._held = len(joined)

    @property
    def opening(self) -> bytes:
        """The first bytes of the body."""
        return self._opening or b"".join(self._pieces)

    @property
    def tail(self) -> bytes:
        """The last bytes of the body."""
        return b"".join(self._pieces)
