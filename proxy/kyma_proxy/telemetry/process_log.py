"""Writes the process's own log: one line for each event, on standard error, and a traceback only for our own mistakes."""

from __future__ import annotations

import logging
import sys

from kyma_proxy.telemetry.visible_text import visible


class _VisibleLines(logging.Formatter):
    """Writes each event on one line, as others' words may be in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (its name in logging)
        return visible(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        return "\n".join(map(visible, super().formatException(ei).split("\n")))  # type: ignore[arg-type]


def begin_process_log() -> None:
    """Send what is logged to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_VisibleLines("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
