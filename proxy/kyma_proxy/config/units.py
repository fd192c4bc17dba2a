"""Parses durations, sizes and amounts as they are written in YAML, and wraps secrets."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Final

import msgspec

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_USD: Final = re.compile(r"\$([0-9]{1,7}(?:\.[0-9]{1,9})?)")
_SIZE: Final = re.compile(r"([0-9]{1,15})(B|KB|MB|GB|KiB|MiB|GiB)?")
_BYTES: Final = {
    None: 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip


class Secret:
    """A credential. It does not appear in a repr, a log or an error; only `reveal` returns its text.

    `missing` is the name of the environment variable that should hold it, if that variable is not set.
    """

    __slots__ = ("_text", "missing")

    def __init__(self, text: str, missing: str | None = None) -> None:
        self._text = text
        self.missing = missing

    def reveal(self) -> str:
        """The text of the credential, for the header or the comparison that needs it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret(missing={self.missing!r})" if self.missing else "Secret(***)"

    __str__ = __repr__


Duration = Annotated[float, msgspec.Meta(ge=0, extra={"unit": "duration"})]
"""Seconds; written `250ms`, `2s`, `5m`, `1h`."""

Delay = Annotated[float, msgspec.Meta(ge=0, extra={"unit": "delay"})]
"""Seconds, or AUTO; written `800ms`, `2s`, `auto`."""

AUTO: Final = 0.0
"""A delay that the gateway derives from its own measurements."""

Workers = Annotated[int, msgspec.Meta(extra={"unit": "workers"})]
"""A number of processes, or AUTO_WORKERS; written `4`, `auto`."""

AUTO_WORKERS: Final = 0
"""As many workers as there are processors."""
MAX_WORKERS: Final = 64

MAX_INTEGER: Final = 2**63 - 1
"""The largest integer of a configuration: pages show it as JSON, whose writer takes 64 bits."""

Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER, extra={"unit": "size"})]
"""Bytes; written `64KiB`, `32MiB`, `1MB`, or a plain number."""

Usd = Annotated[Decimal, msgspec.Meta(extra={"unit": "usd"})]
"""US dollars, exact; written as a plain number, or as `$0.68`."""


def parse_duration(text: object) -> float:
    """Seconds of `250ms`, `2s`, `1.5m`, `1h` or 0. Raises ValueError; its message says how to write a duration."""
    if text == 0 and not isinstance(text, bool):
        return 0.0
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration is a number with a unit, such as 250ms, 2s, 5m or 1h")
    return float(Decimal(match[1]) * _SECONDS[match[2]])


def parse_delay(text: object) -> float:
    """Seconds of a duration above 0, or AUTO for `auto`. Raises ValueError."""
    if text == "auto":
        return AUTO
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not seconds:
        raise ValueError("a delay is `auto`, or a duration above 0 with a unit, such as 800ms or 2s")
    return seconds


def parse_workers(value: object) -> int:
    """The number of workers, or AUTO_WORKERS for `auto`. Raises ValueError."""
    if value == "auto":
        return AUTO_WORKERS
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_WORKERS:
        raise ValueError(f"a number of workers is a whole number from 1 to {MAX_WORKERS}, or `auto` for one a processor")
    return value


def parse_size(text: object) -> int:
    """Bytes of `64KiB`, `1MB` or a plain whole number. Raises ValueError; its message says how to write a size."""
    match = _SIZE.fullmatch(str(text)) if isinstance(text, str | int) and not isinstance(text, bool) else None
    if match is None:
        raise ValueError("a size is a whole number of bytes with or without a unit, such as 64KiB, 32MiB or 1MB")
    return int(match[1]) * _BYTES[match[2]]


def parse_usd(value: object) -> Decimal:
    """Dollars as an exact decimal, 0 or more, of a number or of `$0.68`. Raises ValueError."""
    match = _USD.fullmatch(value) if isinstance(value, str) else None
    if match is None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("a price is a number of US dollars, such as 0.68")
    amount = Decimal(str(value) if match is None else match[1])
    if not amount.is_finite() or amount < 0 or amount > 10**6:
        raise ValueError("a price is between 0 and 1000000 US dollars")
    return amount
