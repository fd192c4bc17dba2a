"""The process that serves, as the one sees it that takes its place. (`replacing` is its own side.)

It may die at any moment. Then the new process has its sockets already or opens its own, finds its accounts on disk, and serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from kyma_proxy import __version__
from kyma_proxy.config.snapshot import Address
from kyma_proxy.errors import StartError
from kyma_proxy.ops import control_socket

_log: Final = logging.getLogger("kyma-proxy")
_ANSWER_TIMEOUT_S: Final = 10.0
Receive = Callable[[dict[str, Any], list[int]], None]
"""Takes in a message with descriptors, which it must not keep."""


class Adopt(Protocol):
    """Takes in a connection of a caller; `is_new`: nothing has been read of it."""

    def __call__(self, descriptor: int, *, is_new: bool) -> None: ...


_NOTHING: Final[tuple[dict[str, Any], list[int]]] = ({}, [])


class Predecessor:
    """The process that serves. It hands its listening sockets over first, and its idle connections once the new one serves."""

    def __init__(self, connection: socket.socket) -> None:
        """Ask for its listening sockets. Raises StartError; ConnectionError if it has died."""
        self._connection = connection
        self._listening: dict[tuple[str, str], list[socket.socket]] = {}
        self._has_died = False
        self.has_ended = False
        """True if it serves nobody any more."""
        answer, descriptors = self._ask({"replace": __version__})
        if self._has_died:
            raise ConnectionAbortedError
        try:
            self.pid = int(answer["pid"])
            self.has_accounts = bool(answer.get("accounts"))
            for (setting, address), descriptor in zip(answer["listeners"], descriptors, strict=True):
                self._listening.setdefault((setting, address), []).append(socket.socket(fileno=descriptor))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise _failed(error) from None
        if answer.get("protocol") != control_socket.PROTOCOL:
            raise StartError(
                f"--replace: process {self.pid} is of a version that this one can't replace, and goes on serving; stop it, and "
                "start this one without --replace"
            )

    def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Its answer; nothing if it has died. Raises StartError."""
        if self._has_died:
            return _NOTHING
        try:
            with contextlib.suppress(ConnectionError):  # what it has said before it closed the connection can be read
                control_socket.send(self._connection, message)
            answer, descriptors = self._receive_past_reset()
        except ConnectionError:
            self._has_died = True
            return _NOTHING
        except OSError as error:
            raise _failed(error) from None
        if "refused" in answer:
            raise StartError(f"--replace: {answer['refused']}")
        return answer, descriptors

    def _receive_past_reset(self) -> tuple[dict[str, Any], list[int]]:
        """The next message. The system tells first that the other end was closed, and then what was sent before."""
        try:
            return control_socket.receive(self._connection)
        except ConnectionResetError:
            return control_socket.receive(self._connection)

    def take(self, setting: str, address: Address) -> list[socket.socket]:
        """Its listening sockets of this setting, if it listens on the same address; else none."""
        return self._listening.pop((setting, str(address)), [])

    def prepare(self, *, is_upgrade: bool) -> int | None:
        """Make it change no account, key or job; with `is_upgrade` it does not write to its database at all.

        Returns the descriptor of its database's lock; None if it has died. Raises StartError.
        """
        _, descriptors = self._ask({"ready": True, "upgrade": is_upgrade})
        return descriptors[0] if descriptors else None

    def leave(self, *, takes_accounts: bool) -> int | None:
        """Have it leave its callers to this process, which serves from now on. Raises StartError if it goes on instead.

        Returns the descriptor of a file with what it has of its accounts in memory, if they are taken and it has not died.
        """
        self._close_untaken()  # addresses on which the new configuration listens no longer
        _, descriptors = self._ask({"serving": True, "accounts": takes_accounts})
        if self._has_died:
            _log.warning("the process that was replaced, %d, has died", self.pid)
        return descriptors[0] if descriptors else None

    def follow(self, adopt: Adopt, receive: Receive) -> None:
        """Take in the connections that it hands over until it ends, and what it tells of its accounts.

        `receive` is called with each other message and its descriptors, and at the end with an empty message.
        """
        loop = asyncio.get_running_loop()
        self._connection.setblocking(False)
        loop.add_reader(self._connection, self._receive, adopt, receive, loop)

    def end(self) -> None:
        """Have it end as well: within `drain`, or at once at the second call."""
        if not (self.has_ended or self._has_died):
            with contextlib.suppress(OSError):
                control_socket.send(self._connection, {"ending": True})

    def _receive(self, adopt: Adopt, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        try:
            message, descriptors = self._receive_past_reset()
        except BlockingIOError:
            return
        except OSError:
            loop.remove_reader(self._connection)
            self.close()
            self.has_ended = True
            _log.info("process %d, which was replaced, has ended", self.pid)
            receive({}, [])
            return
        if "connections" in message:
            for descriptor in descriptors:
                adopt(descriptor, is_new=bool(message.get("new")))
            return
        try:
            receive(message, descriptors)
        except Exception:  # the messages after it must not be lost
            _log.exception("a message of process %d, which was replaced, is not understood", self.pid)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _close_untaken(self) -> None:
        for listening in [one for some in self._listening.values() for one in some]:
            listening.close()
        self._listening.clear()

    def close(self) -> None:
        """Close the connection to it, and what it has handed over and nobody took."""
        self._close_untaken()
        self._connection.close()


def find_predecessor(address: Address, environment: Mapping[str, str]) -> Predecessor | None:
    """The process of this user that serves the address; None if there is none, or if it dies just now. Raises StartError."""
    path = control_socket.path_of(address, environment)
    if path is None:
        raise StartError("--replace: there is no directory for a control socket that is this user's alone")
    try:
        connection = control_socket.connect(path, _ANSWER_TIMEOUT_S)
    except OSError as error:
        raise _failed(error) from None
    if connection is None:
        return None
    try:
        return Predecessor(connection)
    except ConnectionError:
        connection.close()
        return None
    except StartError:
        connection.close()
        raise


def _failed(error: Exception) -> StartError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "it does not answer"
    return StartError(f"--replace: the process that serves can't be replaced: {reason.lower()}; it goes on serving")
