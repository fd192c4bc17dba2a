"""The listening sockets of all workers, which the supervisor opens and keeps, and its own admin listener.

A worker that dies loses no connection that waits to be accepted: its sockets stay open, and the next one gets them.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from kyma_proxy.config.snapshot import Address, Snapshot
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.listening import adopt_sockets, duplicate, open_sockets, open_sockets_for, remove_socket
from kyma_proxy.ops.predecessor import Predecessor


class SharedListeners:
    """The sockets of each worker, and the admin listener. They listen from the beginning."""

    def __init__(
        self, app: App, snapshot: Snapshot, predecessor: Predecessor | None, inherited: Mapping[str, Sequence[socket.socket]]
    ) -> None:
        """Listen: on the inherited sockets of a setting, or on the predecessor's if it has the same address, or on new ones.

        Raises StartError.
        """
        self._addresses: list[Address] = []
        self.of_workers: list[list[socket.socket]] = []
        self.sockets: dict[tuple[str, str], Sequence[socket.socket]] = {}
        """The listening sockets by setting and address."""
        self._admin: Acceptor | None = None
        try:
            public = _given("listen", snapshot.listen, predecessor, inherited)
            if public is None:
                self.of_workers = open_sockets_for(snapshot.workers, snapshot.listen)
            else:
                self.of_workers = dealt_out(public, snapshot.workers)
            if "listen" not in inherited:
                self._addresses.append(snapshot.listen)
            self.sockets["listen", str(snapshot.listen)] = [one for some in self.of_workers for one in some]
            if snapshot.admin is not None:
                where = snapshot.admin.listen
                admin = _given("admin.listen", where, predecessor, inherited)
                if admin is None:
                    admin = open_sockets("admin.listen", where)
                if "admin.listen" not in inherited:
                    self._addresses.append(where)
                self.sockets["admin.listen", str(where)] = admin
                self._admin = Acceptor(admin, app.admin_listener, app.admin_downstream)
        except BaseException:
            self.close(keep_files=predecessor is not None)
            raise

    def start(self) -> None:
        """Serve at the admin listener."""
        if self._admin is not None:
            self._admin.start()

    def close(self, *, keep_files: bool) -> None:
        """Listen no longer; what waits to be accepted is refused when the workers have closed their sockets as well.

        The files of Unix sockets stay with `keep_files`: another process listens on them.
        """
        if self._admin is not None:
            self._admin.close()
        for made in [one for some in self.of_workers for one in some]:
            made.close()
        while self._addresses:  # once: at a second close the file may be another process's
            address = self._addresses.pop()
            if not keep_files:
                remove_socket(address)


def dealt_out(sockets: Sequence[socket.socket], workers: int) -> list[list[socket.socket]]:
    """The sockets of another gateway for each of several workers: each has one at least, and each of them has a worker."""
    dealt: list[list[socket.socket]] = [[] for _ in range(workers)]
    for at in range(max(workers, len(sockets))):
        one = sockets[at % len(sockets)]
        dealt[at % workers].append(one if at < len(sockets) else duplicate(one))
    return dealt


def _given(
    setting: str, address: Address, predecessor: Predecessor | None, inherited: Mapping[str, Sequence[socket.socket]]
) -> list[socket.socket] | None:
    """The sockets of a setting that somebody else has opened. Raises StartError."""
    if setting in inherited:
        return list(inherited[setting])
    taken = [] if predecessor is None else predecessor.take(setting, address)
    return adopt_sockets(setting, address, taken) if taken else None
