"""Writes the process's own log: one line for each event, on standard error, and a traceback only for our own mistakes."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger
from aiohttp.web import RequestPayloadError

from kyma_proxy.telemetry.visible_text import visible

_SENDERS: Final = (HttpProcessingError, RequestPayloadError, ConnectionError)
"""What aiohttp logs as an error although only the sender of a request has made one."""
_EXPECT: Final = "_default_expect_handler"
"""It raises a UnicodeError for a header `Expect` that is not UTF-8."""


class _VisibleLines(logging.Formatter):
    """Writes each event on one line, as others' words may be in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (its name in logging)
        return visible(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        return "\n".join(map(visible, super().formatException(ei).split("\n")))  # type: ignore[arg-type]


def _omit_traceback(record: logging.LogRecord) -> bool:
    """Of a request that can't be read, or whose sender has left, say so in a line: no line of our code is to blame."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _SENDERS) or (isinstance(error, UnicodeError) and _is_raised_in(error, _EXPECT)):
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = "admin listener: a request could not be served (%s)", (type(error).__name__,)
        record.exc_info = record.exc_text = None
    return True


def _is_raised_in(error: BaseException, function: str) -> bool:
    return any(frame.f_code.co_name == function for frame, _ in traceback.walk_tb(error.__traceback__))


def begin_process_log(who: str = "") -> None:
    """Send what is logged to standard error, with the words for `who` tells it before each message."""
    server_logger.addFilter(_omit_traceback)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_VisibleLines(f"%(levelname)s {who}%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
