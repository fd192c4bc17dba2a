"""Reads a provider's hint of when to try again. (RFC 9110 §10.2.3)"""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime
from typing import Final

_NUMBER: Final = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")


def retry_after(fields: dict[bytes, bytes]) -> int | None:
    """The hint in whole seconds, rounded up: `retry-after-ms`, or `retry-after` as seconds or as a date.

    A date is compared with the answer's own `date`, so no clock has to agree with the provider's.
    """
    milliseconds = fields.get(b"retry-after-ms")
    if milliseconds is not None and _NUMBER.fullmatch(milliseconds):
        return math.ceil(float(milliseconds) / 1000)
    value = fields.get(b"retry-after")
    if value is None:
        return None
    if _NUMBER.fullmatch(value):
        return math.ceil(float(value))
    try:
        then = parsedate_to_datetime(value.decode("latin-1"))
        now = parsedate_to_datetime(fields.get(b"date", b"").decode("latin-1"))
        return max(0, math.ceil((then - now).total_seconds()))
    except (ValueError, TypeError, OverflowError):
        return None
