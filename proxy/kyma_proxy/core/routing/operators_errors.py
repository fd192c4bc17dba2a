"""Decides whether a provider's error is about the operator's account and not about the request. (Contract §9.)

Most statuses say so by themselves (`failures`). Under 400 and 413, and whatever an operator names with `move_on`, the body
decides: by its code or type, and by the beginning of its message where a provider gives no code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kyma_proxy.config.snapshot import ErrorRule


class ErrorText(NamedTuple):
    """The codes, types and reasons that an error's body names, and its message."""

    codes: tuple[str, ...]
    message: str


def meaning_of(status: int, error: ErrorText, rules: Iterable[ErrorRule]) -> int | None:
    """The status that says what an error means, if it is the operator's trouble: 401, 402, 403, 404 or 429; else None."""
    message = error.message.lstrip().lower()
    for rule in rules:
        if (
            (rule.status is None or rule.status == status)
            and (rule.code is None or rule.code in error.codes)
            and (rule.message is None or message.startswith(rule.message))
        ):
            return rule.means
    return None
