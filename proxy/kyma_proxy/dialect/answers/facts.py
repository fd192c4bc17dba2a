"""Defines what an answer can say about itself, event by event or as a whole. (Contract §4.3, §4.4.)

Each dialect reads its own events and bodies into `Facts`; `reader` collects them while an answer passes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.routing.failures import OVERLOADED, RATE_LIMITED, FailureKind
from kyma_proxy.dialect.source_error_rules import CODES
from kyma_proxy.errors import Kind

_CODE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_MIN_STATUS: Final = 400
_MAX_STATUS: Final = 599
_STATUSES: Final = {Kind.PROVIDER_OVERLOADED: OVERLOADED, Kind.PROVIDER_RATE_LIMITED: RATE_LIMITED}
_STATUSES_OF_CODES: Final = {code: _STATUSES[kind] for code, kind in CODES.items() if kind in _STATUSES}


class End(enum.Enum):
    """The part of an answer's end that an event is."""

    NO = 0
    REASON = 1  # it says why the model stopped; usage may follow
    LAST = 2  # the dialect's own last event


class ReportedError(NamedTuple):
    """An error that a provider put into an answer.

    `code` is the provider's word for it, None if it has none that is safe to log; `status` is the HTTP status that it names,
    0 if it names none.
    """

    code: str | None = None
    status: int = 0


class Facts:
    """The meaning of one event, or of a whole answer.

    `is_answer`: it holds something that a caller can use. `usage` is a usage object as it was written; `used` is in its place
    what a whole answer used, if that is known already.
    """

    __slots__ = ("end", "error", "is_answer", "usage", "used")

    def __init__(
        self, is_answer: bool = False, error: ReportedError | None = None, end: End = End.NO,
        usage: Mapping[str, Any] | None = None, used: Usage = NO_USAGE,
    ) -> None:  # fmt: skip
        self.is_answer = is_answer
        self.error = error
        self.end = end
        self.usage = usage
        self.used = used


NOTHING: Final = Facts()
ANSWER: Final = Facts(is_answer=True)
LAST: Final = Facts(end=End.LAST)
UNNAMED_ERROR: Final = ReportedError()


class BadAnswer(Exception):
    """A source has sent no answer, or no whole one.

    `detail` is for callers to read, and never the source's words. `status` is the HTTP status that the source's error names,
    or 0. `last` are bytes that still go to the caller.
    """

    def __init__(self, kind: FailureKind, detail: str, *, status: int = 0, last: bytes = b"") -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.last = last


def no_answer(detail: str) -> BadAnswer:
    """A source has sent no answer."""
    return BadAnswer(FailureKind.NO_ANSWER, detail)


def cut_answer() -> BadAnswer:
    """A source's answer has no end."""
    return BadAnswer(FailureKind.BROKEN, "the connection was closed before the answer's end")


def failure_of(error: ReportedError, detail: str) -> BadAnswer:
    """A source has reported an error instead of an answer."""
    return BadAnswer(FailureKind.ERROR_EVENT, detail, status=error.status)


def reported_error(*candidates: object) -> ReportedError:
    """The error with the first usable code among these values, and the first HTTP status, or the one that the code means."""
    code: str | None = None
    status = 0
    for value in candidates:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        text = str(value)
        if not status and text.isascii() and text.isdigit() and _MIN_STATUS <= int(text[:4]) <= _MAX_STATUS:
            status = int(text[:4])
        if code is None and _CODE.fullmatch(text):
            code = text
            status = status or _STATUSES_OF_CODES.get(text, 0)
    return ReportedError(code, status)


def error_in(value: object) -> ReportedError:
    """The code and status of a decoded error in any usual form: a text, or an object with `code`, `type` or `status`."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return UNNAMED_ERROR
    inner = value.get("error")
    if isinstance(inner, dict):
        value = inner
    return reported_error(
        *(value.get(name) for name in ("code", "type", "status", "status_code", "error_code")),
        inner if isinstance(inner, str) else None,
    )


def has_member_beside(value: Any, name: str) -> bool:
    """True if a decoded object has a member that is not empty, beside the one with this name."""
    if not isinstance(value, dict):
        return False
    for other, member in value.items():  # noqa: SIM110  (compiled, a loop costs less than a generator)
        if member and other != name:
            return True
    return False
