"""Holds what all connections of one listener share: the limits in force, the sweeper, and who is connected."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Final, Protocol

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.core.http.repeat import Repeat
from kyma_proxy.core.http.web_pages import WebPagePolicy, public_policy
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.intake import Intake
from kyma_proxy.net.downstream.upload import Upload
from kyma_proxy.net.releases import MIN_BYTES, Releases
from kyma_proxy.net.sweeper import Sweeper

MIN_COUNTED_BYTES: Final = 64 * 1024
"""Smaller bodies are not counted among those in memory: each is less than its connection may hold in any case."""
MAX_REFUSED: Final = 128
"""A connection that is refused stays open until its caller has read why. More than these at once are closed without a word."""


class Connection(Protocol):
    """A caller's connection, as far as the listener needs it."""

    def close_when_idle(self) -> None:
        """Close unless an answer is under way or a request has begun to arrive."""

    def abort(self) -> None:
        """Close at once."""

    def forget_head(self) -> None:
        """Judge the next request's head anew."""


class HandOver(Protocol):
    """Gives a connection to the process that follows this one."""

    def __call__(self, descriptor: int, *, is_new: bool = False) -> None:
        """Give its descriptor away. `is_new`: nothing has been read of it; otherwise it is plain, and between two requests."""


class Acceptor(Protocol):
    """Accepts the connections, as far as the listener needs it."""

    def __len__(self) -> int:
        """The number of connections of which the listener does not know yet."""

    def drain(self, hand_over: HandOver | None) -> None:
        """Leave those that are silent to the process that follows this one, or close them."""


class Listener:
    """The shared state of the public listener, or of the admin listener."""

    def __init__(
        self, current: Callable[[], Snapshot], sweeper: Sweeper, max_buffered: int, *,
        policy: Callable[[Snapshot], WebPagePolicy] = public_policy, relayed: Collection[bytes] = (),
        max_connections: int | None = None,
    ) -> None:  # fmt: skip
        """`max_buffered` is the bound on the bodies in memory, in bytes, where the configuration sets none.

        `policy` makes the rules for web pages, `relayed` holds the paths of relayed endpoints, and `max_connections` is the
        bound on connections; None: the configuration's.
        """
        self.current = current
        self.relayed = self._relayed = frozenset(relayed)
        self.sweeper = sweeper
        self.acceptors: set[Acceptor] = set()
        self.connections: set[Connection] = set()
        self.refused: set[Connection] = set()
        self.unserved: Callable[[bytes, bytes], GatewayError | None] = _served
        """Returns the error for a method and a path that nobody serves, before the body of the request is there."""
        self.intake = Intake()
        self.releases = Releases()
        self.buffered = 0
        self._max_buffered = max_buffered
        self.is_draining = False
        self.hand_over: HandOver | None = None
        """While draining: gives connections to the process that follows this one, if one does."""
        self.control_plane: HandOver | None = None
        """Gives connections to the process that has the control plane; None if that is this one."""
        self._policy = policy
        self._max_connections = max_connections
        self.web_pages = policy(current())
        self.known_head: Repeat | None = None
        """The head that was parsed last: callers of one SDK send the same one, and share what was made of it."""
        self._prefix = os.urandom(8).hex() + "-"
        self._ids = 0

    @property
    def elsewhere(self) -> HandOver | None:
        """Gives connections to the process that serves what is not relayed; None if that is this one."""
        return self.hand_over or self.control_plane

    def fresh_id(self) -> str:
        """A request id that no other request has, of this process or another."""
        self._ids += 1
        return self._prefix + str(self._ids)

    @property
    def max_buffered(self) -> int:
        """The most bytes of bodies in memory, of all connections."""
        limit = self.current().limits.max_buffered
        return self._max_buffered if limit is None else limit

    @property
    def max_connections(self) -> int:
        """The most connections at once."""
        most = self._max_connections
        return self.current().limits.max_connections if most is None else most

    def has_room(self) -> bool:
        """Returns True if another connection may come in, be it to be told that there is no place for it."""
        return len(self.connections) + len(self.refused) + self.waiting < self.max_connections + MAX_REFUSED

    @property
    def waiting(self) -> int:
        """The number of connections that were accepted, and have said nothing yet or are in a TLS handshake."""
        return sum(len(acceptor) for acceptor in self.acceptors)

    def add(self, connection: Connection) -> bool:
        """Returns True if there is a place for the new connection, which it then has."""
        if len(self.connections) >= self.max_connections:
            return False
        self.connections.add(connection)
        return True

    def may_explain(self, connection: Connection) -> bool:
        """Returns True if the connection, for which there is no place, may stay until it was told so."""
        if len(self.refused) >= MAX_REFUSED:
            return False
        self.refused.add(connection)
        return True

    def retire(self, connection: Connection) -> bool:
        """The connection takes no further request: its place is free. Returns True if it may stay for its caller to read why.

        So callers who were too slow, or whose request was refused, take no place from others.
        """
        if connection in self.refused:
            return True
        self.connections.discard(connection)
        if len(self.refused) >= MAX_REFUSED:
            return False
        self.refused.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """The connection is gone, and its place is free."""
        self.connections.discard(connection)
        self.refused.discard(connection)

    def apply_snapshot(self) -> None:
        """Adapt to the snapshot in force: a head that was accepted before is judged again."""
        self.web_pages = self._policy(self.current())
        self.known_head = None
        for connection in self.connections:
            connection.forget_head()

    def drain(self, hand_over: HandOver | None = None) -> None:
        """Serve no further request: idle connections are closed now, or handed over, the others after their answer.

        With `hand_over` nothing is relayed here any more: a request that still arrives is forwarded.
        """
        self.is_draining = True
        self.hand_over = hand_over
        self.relayed = self._relayed if hand_over is None else frozenset()
        for acceptor in self.acceptors:
            acceptor.drain(hand_over)
        for connection in list(self.connections):
            connection.close_when_idle()


def _served(method: bytes, path: bytes) -> GatewayError | None:
    """As long as nobody says otherwise, everything is served."""
    return None


def no_place() -> GatewayError:
    """The error for who connects while all places are taken."""
    return GatewayError(Kind.OVERLOADED, "Every connection of the gateway is in use; try again.", retry_after=1)


class BufferedBody:
    """One connection's part of the bodies that are kept in memory, from their first pieces until an answer begins."""

    __slots__ = ("_body", "_listener", "_size", "upload")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._size = 0
        self._body: bytes | None = None
        self.upload: Upload | None = None
        """The form that is being served while it comes."""

    @property
    def is_partial(self) -> bool:
        """True while a request is served of whose body more is to come."""
        return self.upload is not None and not self.upload.is_complete

    def count(self, size: int) -> GatewayError | None:
        """Count the request's body, of which `size` bytes are there; returns the error if that is too much for all together."""
        if size < MIN_COUNTED_BYTES:
            return None
        listener = self._listener
        listener.buffered += size - self._size
        self._size = size
        if listener.buffered <= listener.max_buffered:
            return None
        return GatewayError(
            Kind.OVERLOADED, "The gateway is taking in as many bytes as it may; send the request again.", retry_after=1
        )

    def keep(self, inbound: Inbound) -> GatewayError | None:
        """Count the body of a whole request, and see that one that is relayed is freed in a turn of its own."""
        size = len(inbound.body)
        if size < MIN_COUNTED_BYTES:
            return None
        if size >= MIN_BYTES and inbound.path in self._listener.relayed:
            self._body = inbound.body
        return self.count(size)

    def release(self) -> None:
        """The body is kept no longer."""
        if self._size:
            self._listener.buffered -= self._size
            self._size = 0
            if self._body is not None:
                self._listener.releases.add(self._body)
                self._body = None
