"""Runs the admin application on aiohttp's own server, which is told to be silent about requests that it can't read."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError


class _IsOurs(logging.Filter):
    """Leaves out errors of the sender: aiohttp logs each with a traceback, and anybody can send garbage."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


_log: Final = logging.getLogger("kyma-proxy.admin")
_log.addFilter(_IsOurs())


def admin_runner(application: web.Application) -> web.AppRunner:
    """The runner, not yet set up."""
    return web.AppRunner(application, access_log=None, handle_signals=False, logger=_log)
