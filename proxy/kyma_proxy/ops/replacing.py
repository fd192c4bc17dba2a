"""Lets another process take the place of this one without refusing a connection. (`predecessor` is the other one's side.)

Until the new process serves, this one goes on as if nothing had happened, and it does so for good if the new one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import operator
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kyma_proxy.ops import control_socket
from kyma_proxy.ops.accounts.handing_over import AccountsHandover
from kyma_proxy.ops.control_socket import MAX_DESCRIPTORS
from kyma_proxy.store.contract import StoreUnavailable

_log: Final = logging.getLogger("kyma-proxy")
_RETRY_S: Final = 0.01


class Replaceable:
    """Waits for a process that takes the place of this one.

    `leave` is called with the other one when that serves, `end` when that has been told to end, and `be_alone` if it has ended
    before this one has. `accounts` hands the accounts over, if there are any.
    """

    def __init__(
        self, path: Path, listening: Mapping[tuple[str, str], Sequence[socket.socket]], *,
        leave: Callable[[Successor], None], end: Callable[[], None], be_alone: Callable[[], None],
        accounts: AccountsHandover | None = None,
    ) -> None:  # fmt: skip
        """Begin to wait at the path. Raises OSError."""
        self._path = path
        self._listening = listening
        self._leave = leave
        self._end = end
        self._be_alone = be_alone
        self._accounts = accounts
        self._step: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = control_socket.listen(path)
        self._successor: Successor | None = None
        self.was_replaced = False
        self._loop.add_reader(self._socket, self._accept)

    @property
    def is_free(self) -> bool:
        """True if no other process is about to take the place of this one."""
        return self._successor is None

    @property
    def shares_sockets(self) -> bool:
        """True if another process has the listening sockets as well."""
        return self._successor is not None and self._successor.has_sockets

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
            about = {
                "pid": os.getpid(), "protocol": control_socket.PROTOCOL, "accounts": self._accounts is not None,
                "listeners": [[setting, address] for setting, address, _ in named],
            }  # fmt: skip
            successor.send(about, [one.fileno() for *_, one in named])
            successor.has_sockets = True
        elif "ready" in message and self._accounts is not None and self._step is None:
            is_upgrade = bool(message.get("upgrade"))
            self._step = self._loop.create_task(self._guard(successor, self._begin(successor, self._accounts, is_upgrade)))
        elif "ending" in message and self.was_replaced:
            self._be_alone()
            self._end()
        elif "serving" in message and not self.was_replaced:
            if not message.get("accounts"):
                successor.send({"left": True})
                self._be_replaced(successor)
            elif self._accounts is not None and successor.shares_accounts:
                self._step = self._loop.create_task(self._guard(successor, self._complete(successor, self._accounts)))

    async def _guard(self, successor: Successor, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except StoreUnavailable:
            with contextlib.suppress(OSError):
                successor.send({"refused": "the accounts of the gateway that serves can't be written just now; it goes on"})
            successor.close()
            self._go_on()
        except OSError:
            """The new process has ended, which its connection tells as well."""

    async def _begin(self, successor: Successor, accounts: AccountsHandover, is_upgrade: bool) -> None:
        """Let no account, key or job change any more, and share the right to write with the new process."""
        lock = await accounts.begin(is_upgrade=is_upgrade)
        successor.shares_accounts = True
        successor.send({"yours": True}, [] if lock is None else [lock])

    async def _complete(self, successor: Successor, accounts: AccountsHandover) -> None:
        """Write what has not been written, and leave everything to the new process."""
        await accounts.write_all()
        accounts.complete(successor.send)
        self._be_replaced(successor)

    def _be_replaced(self, successor: Successor) -> None:
        self.was_replaced = True
        self._stop_listening()
        if self._accounts is not None and self._step is not asyncio.current_task():
            self._accounts.undo()  # the new one has others
        _log.info("another process serves from now on; this one ends when its last answer has been sent")
        self._leave(successor)

    def _go_on(self) -> None:
        """Serve on as before."""
        self._successor = None
        if self._step is not None:
            if self._step is not asyncio.current_task():
                self._step.cancel()
            self._step = None
            if self._accounts is not None:
                self._accounts.undo()

    def tick(self) -> None:
        """Send what the new process does not know yet. To be called often."""
        if self.was_replaced and self._accounts is not None:
            self._accounts.tick()

    def write_rest(self) -> None:
        """Send the new process the last of what it does not know yet, or write it here if that can't be done."""
        if self._accounts is not None:
            if self.was_replaced:
                self._accounts.tick()
            self._accounts.close()

    def lost(self, successor: Successor) -> None:
        """The new process has ended, or has left."""
        if self._successor is not successor:
            return
        if not self.was_replaced:
            if self._step is not None:
                _log.warning("the process that was to replace this one has ended; this one goes on")
            self._go_on()
            return
        self._successor = None
        self._be_alone()
        if self._accounts is not None:
            self._accounts.successor_ended()

    def _stop_listening(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def stop(self) -> None:
        """Wait no longer, as this process ends. One that is taking its accounts may still take its place."""
        if self._socket.fileno() >= 0:
            self._stop_listening()
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._step is None and self._successor is not None:
            self._successor.close()

    def close(self) -> None:
        """Wait no longer; the connection to a new process is closed, which tells it that this one has ended."""
        self.stop()
        if self._successor is not None:
            self._successor.close()


class Successor:
    """The new process, as the one sees it whose place it takes."""

    def __init__(self, connection: socket.socket, pid: int, replaceable: Replaceable) -> None:
        self.pid = pid
        self._connection = connection
        self._replaceable = replaceable
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, bool]] = deque()
        self._is_sending = False
        self.has_sockets = False
        self.shares_accounts = False
        self._loop.add_reader(connection, self._receive)

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Send a message. Raises OSError."""
        control_socket.send(self._connection, message, descriptors)

    def hand_over(self, descriptor: int, *, is_new: bool = False) -> None:
        """Give a caller's connection to it. Several go in one message."""
        self._waiting.append((descriptor, is_new))
        if not self._is_sending:
            self._is_sending = True
            self._loop.call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        while self._waiting:
            is_new, alike = next(itertools.groupby(self._waiting, operator.itemgetter(1)))
            batch = [descriptor for descriptor, _ in itertools.islice(alike, MAX_DESCRIPTORS)]
            try:
                self.send({"connections": len(batch), "new": is_new}, batch)
            except BlockingIOError:
                self._loop.call_later(_RETRY_S, self._send_waiting)
                return
            except OSError:  # it has died: its callers see a closed connection, as if it had served them
                batch = [descriptor for descriptor, _ in self._waiting]
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
            os.close(self._waiting.popleft()[0])
