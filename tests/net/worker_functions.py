"""Functions that tests have called in the worker's process."""

from __future__ import annotations

import resource
import signal

from kyma_proxy.errors import GatewayError, Kind


def same(argument: object, body: bytes) -> tuple[object, bytes]:
    """Return what it was given."""
    return argument, body


def never_ends(argument: object, body: bytes) -> tuple[object, bytes]:
    """Wait for ever."""
    while True:
        signal.pause()


def takes_memory(argument: int, body: bytes) -> tuple[object, bytes]:
    """Take so many bytes."""
    return None, b"x" * argument


def refuses(argument: str, body: bytes) -> tuple[object, bytes]:
    """Refuse the body."""
    raise GatewayError(Kind.INVALID_REQUEST, "No.", param=argument, retry_after=7)


def fails(argument: object, body: bytes) -> tuple[object, bytes]:
    """Fail with a text that must not be logged."""
    raise ValueError(body.decode())


def core_limit(argument: object, body: bytes) -> tuple[object, bytes]:
    """Return the limit of what would be dumped."""
    return resource.getrlimit(resource.RLIMIT_CORE), body


def upper(argument: str, body: bytes) -> tuple[str, bytes]:
    """The argument in capitals, which needs one; and the body."""
    return argument.upper(), body
