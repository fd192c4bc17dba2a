"""Sets a process up that serves: its access log, its signals, and how many files it may open."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import Callable, Mapping

from kyma_proxy.errors import StartError
from kyma_proxy.ops.reload import ReloadTriggers
from kyma_proxy.telemetry.access_log import AccessLog, LogLines
from kyma_proxy.telemetry.pretty_log import PrettyLog, is_for_people, takes_colour


def open_log(path: str | None, environment: Mapping[str, str]) -> AccessLog | None:
    """The access log at a path, if there is to be one. Raises StartError."""
    if path is None:
        return None
    try:
        if is_for_people(path, sys.stdout):
            return AccessLog("-", form=PrettyLog(in_colour=takes_colour(sys.stdout, environment)).lines)
        return AccessLog(path)
    except OSError as error:
        raise StartError(f"access_log {path}: {(error.strerror or str(error)).lower()}") from None


def catch_signals(access_log: LogLines | None, reload_triggers: ReloadTriggers | None, stop: Callable[[], None]) -> None:
    """Have the signals of an operator do what they stand for; SIGHUP stops without `reload_triggers`."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    # Without an access log the signal is ignored; its default action would end the process.
    loop.add_signal_handler(signal.SIGUSR1, access_log.reopen if access_log is not None else _ignore_signal)
    loop.add_signal_handler(signal.SIGHUP, reload_triggers.reload_soon if reload_triggers is not None else stop)


def _ignore_signal() -> None:
    """The handler of SIGUSR1 without an access log."""


def allow_many_files() -> None:
    """Allow as many file descriptors as the system lets a process have: each stream needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
