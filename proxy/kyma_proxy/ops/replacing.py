"""Replaces a running gateway by another process without refusing a connection: the side of each of the two.

`Predecessor` is what a new process sees of the one that serves: it takes over its listening sockets and, once it serves itself,
its idle connections. `Replaceable` waits in the serving process for such a new one. (See `control_socket` for the messages.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kyma_proxy import __version__
from kyma_proxy.config.snapshot import Address
from kyma_proxy.errors import StartError
from kyma_proxy.ops import control_socket
from kyma_proxy.ops.accounts.handing_over import AccountsHandover
from kyma_proxy.ops.control_socket import MAX_DESCRIPTORS
from kyma_proxy.store.contract import StoreUnavailable

_log: Final = logging.getLogger("kyma-proxy")
_ANSWER_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 0.01
Receive = Callable[[dict[str, Any], list[int]], None]
"""Takes in a message with descriptors, which it must not keep."""


class Predecessor:
    """The process that serves, as the one sees it that takes its place."""

    def __init__(self, connection: socket.socket) -> None:
        """Ask for its listening sockets. Raises StartError."""
        self._connection = connection
        self._listening: dict[tuple[str, str], list[socket.socket]] = {}
        self._has_stopped = False
        answer, descriptors = self._ask({"replace": __version__})
        try:
            self.pid = int(answer["pid"])
            self.has_accounts = bool(answer.get("accounts"))
            for (setting, address), descriptor in zip(answer["listeners"], descriptors, strict=True):
                self._listening.setdefault((setting, address), []).append(socket.socket(fileno=descriptor))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise _failed(error) from None

    def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        try:
            control_socket.send(self._connection, message)
            answer, descriptors = control_socket.receive(self._connection)
        except OSError as error:
            raise _failed(error) from None
        if "refused" in answer:
            raise StartError(f"--replace: {answer['refused']}")
        return answer, descriptors

    def take(self, setting: str, address: Address) -> list[socket.socket]:
        """Its listening sockets of this setting, if it listens on the same address; else none."""
        return self._listening.pop((setting, str(address)), [])

    def stop(self) -> int | None:
        """Make it accept nothing more, and change nothing in its accounts. From now on it waits for `serve`. Raises StartError.

        Returns the descriptor of its database's lock, if it has accounts. A second call does nothing.
        """
        if self._has_stopped:
            return None
        self._has_stopped = True
        _, descriptors = self._ask({"ready": True})
        return descriptors[0] if descriptors else None

    def serve(self, *, with_accounts: bool) -> tuple[dict[str, Any], list[int]]:
        """Tell it that its callers are served. Returns its answer, if its accounts were taken: what it has of them in memory.

        The answer is empty if it has died: then there is nothing to take over.
        """
        self._close_untaken()  # addresses on which the new configuration listens no longer
        try:
            message = {"serving": True, "accounts": with_accounts}
            if with_accounts:
                return self._ask(message)
            control_socket.send(self._connection, message)
        except (OSError, StartError):
            _log.warning("the process that was replaced, %d, has died", self.pid)
        return {}, []

    def follow(self, adopt: Callable[[int], None], receive: Receive) -> None:
        """Take in the idle connections that it hands over until it ends, and what it tells of its accounts.

        `receive` is called with each other message and its descriptors, and at the end with an empty message.
        """
        loop = asyncio.get_running_loop()
        self._connection.setblocking(False)
        loop.add_reader(self._connection, self._receive, adopt, receive, loop)

    def _receive(self, adopt: Callable[[int], None], receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        try:
            message, descriptors = control_socket.receive(self._connection)
        except BlockingIOError:
            return
        except OSError:
            loop.remove_reader(self._connection)
            self.close()
            _log.info("process %d, which was replaced, has ended", self.pid)
            receive({}, [])
            return
        if "connections" in message:
            for descriptor in descriptors:
                adopt(descriptor)
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
    """The process of this user that serves the address; None if there is none. Raises StartError."""
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
    except StartError:
        connection.close()
        raise


def _failed(error: Exception) -> StartError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "it does not answer"
    return StartError(f"--replace: the process that serves can't be replaced: {reason.lower()}; it goes on serving")


class Replaceable:
    """Waits for a process that takes the place of this one.

    `pause` stops accepting and `resume` goes on with it; `leave` is called with the other one when that serves. `accounts`
    hands the accounts over, if there are any.
    """

    def __init__(
        self, path: Path, listening: Mapping[tuple[str, str], Sequence[socket.socket]], *,
        pause: Callable[[], None], resume: Callable[[], None], leave: Callable[[Successor], None],
        accounts: AccountsHandover | None = None,
    ) -> None:  # fmt: skip
        """Begin to wait at the path. Raises OSError."""
        self._path = path
        self._listening = listening
        self._pause = pause
        self._resume = resume
        self._leave = leave
        self._accounts = accounts
        self._beginning: asyncio.Task[None] | None = None
        self._is_paused = False
        self._loop = asyncio.get_running_loop()
        self._socket = control_socket.listen(path)
        self._successor: Successor | None = None
        self.was_replaced = False
        self._loop.add_reader(self._socket, self._accept)

    @property
    def is_free(self) -> bool:
        """True if no other process is about to take the place of this one."""
        return self._successor is None

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        pid = control_socket.peer_of(connection)
        if self._successor is not None or pid is None:
            connection.close()
            return
        self._successor = Successor(connection, pid, self)

    def answer(self, message: dict[str, Any], successor: Successor) -> None:
        """Answer a message of the new process. Raises OSError."""
        if "replace" in message:
            named = [(*setting, one) for setting, some in self._listening.items() for one in some]
            listeners = [[setting, address] for setting, address, _ in named]
            about = {"pid": os.getpid(), "accounts": self._accounts is not None, "listeners": listeners}
            successor.send(about, [one.fileno() for *_, one in named])
        elif "ready" in message and not self._is_paused:
            self._is_paused = True
            self._pause()
            if self._accounts is None:
                successor.is_ready = True
                successor.send({"yours": True})
            else:
                self._beginning = self._loop.create_task(self._begin(successor, self._accounts))
        elif "serving" in message and successor.is_ready:
            self.was_replaced = True
            self._stop_listening()
            _log.info("another process serves from now on; this one ends when its last answer has been sent")
            if self._accounts is not None and message.get("accounts"):
                self._accounts.complete(successor.send)
            elif self._accounts is not None:
                self._accounts.undo()
            self._leave(successor)

    async def _begin(self, successor: Successor, accounts: AccountsHandover) -> None:
        """Let nothing change the accounts any more, and offer them to the new process."""
        try:
            lock = await accounts.begin()
        except StoreUnavailable:
            self._go_on()
            with contextlib.suppress(OSError):
                successor.send({"refused": "the accounts of the gateway that serves can't be written just now; it goes on"})
            return
        successor.is_ready = True
        with contextlib.suppress(OSError):  # it has ended; that is seen as well
            successor.send({"yours": True}, [] if lock is None else [lock])

    def _go_on(self) -> None:
        self._is_paused = False
        if self._beginning is not None and self._beginning is not asyncio.current_task():
            self._beginning.cancel()
        self._beginning = None
        if self._accounts is not None:
            self._accounts.undo()
        self._resume()

    def tick(self) -> None:
        """Send what the new process does not know yet. To be called often."""
        if self.was_replaced and self._accounts is not None:
            self._accounts.tick()

    def write_rest(self) -> None:
        """Send the new process the last of what it does not know yet, or write it here if that can't be done."""
        if self.was_replaced and self._accounts is not None:
            self._accounts.tick()
            self._accounts.close()

    def lost(self, successor: Successor) -> None:
        """The new process has ended, or has left."""
        self._successor = None
        if self.was_replaced:
            if self._accounts is not None:
                self._accounts.successor_ended()
        elif self._is_paused:
            _log.warning("the process that was to replace this one has ended; this one goes on")
            self._go_on()

    def _stop_listening(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def close(self) -> None:
        """Wait no longer; the connection to a new process is closed, which tells it that this one has ended."""
        if self._socket.fileno() >= 0:
            self._stop_listening()
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._successor is not None:
            self._successor.close()


class Successor:
    """The new process, as the one sees it whose place it takes."""

    def __init__(self, connection: socket.socket, pid: int, replaceable: Replaceable) -> None:
        self.pid = pid
        self._connection = connection
        self._replaceable = replaceable
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[int] = deque()
        self._is_sending = False
        self.is_ready = False
        self._loop.add_reader(connection, self._receive)

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Send a message. Raises OSError."""
        control_socket.send(self._connection, message, descriptors)

    def hand_over(self, descriptor: int) -> None:
        """Give an idle connection to it. Several go in one message."""
        self._waiting.append(descriptor)
        if not self._is_sending:
            self._is_sending = True
            self._loop.call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting[at] for at in range(min(MAX_DESCRIPTORS, len(self._waiting)))]
            try:
                self.send({"connections": len(batch)}, batch)
            except BlockingIOError:
                self._loop.call_later(_RETRY_S, self._send_waiting)
                return
            except OSError:  # it has died: its callers see a closed connection, as if it had served them
                batch = [*self._waiting]
            for descriptor in batch:
                self._waiting.popleft()
                os.close(descriptor)
        self._is_sending = False

    def _receive(self) -> None:
        try:
            message, descriptors = control_socket.receive(self._connection)
            for descriptor in descriptors:
                os.close(descriptor)
            self._replaceable.answer(message, self)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            self._replaceable.lost(self)

    def close(self) -> None:
        """Close the connection to it."""
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection)
            self._connection.close()
        while self._waiting:
            os.close(self._waiting.popleft())
