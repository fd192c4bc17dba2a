"""The listening sockets of all workers, which the supervisor opens and keeps, and its own admin listener.

A worker that dies loses no connection that waits to be accepted: its sockets stay open, and the next one gets them.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from kyma_proxy.config.snapshot import Address, Snapshot
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.listening import open_sockets, open_sockets_for, remove_socket, shared_by


class SharedListeners:
    """The sockets of each worker, and the admin listener. They listen from the beginning."""

    def __init__(self, app: App, snapshot: Snapshot, inherited: Mapping[str, Sequence[socket.socket]]) -> None:
        """Listen: on the inherited sockets of a setting, or on new ones. Raises StartError."""
        self._addresses: list[Address] = []
        self.of_workers: list[list[socket.socket]] = []
        self._admin: Acceptor | None = None
        try:
            given = inherited.get("listen")
            if given is None:
                self.of_workers = open_sockets_for(snapshot.workers, snapshot.listen)
                self._addresses.append(snapshot.listen)
            else:
                self.of_workers = shared_by(snapshot.workers, given)
            if snapshot.admin is not None:
                given = inherited.get("admin.listen")
                listening = open_sockets("admin.listen", snapshot.admin.listen) if given is None else list(given)
                if given is None:
                    self._addresses.append(snapshot.admin.listen)
                self._admin = Acceptor(listening, app.admin_listener, app.admin_downstream)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Serve at the admin listener."""
        if self._admin is not None:
            self._admin.start()

    def close(self) -> None:
        """Listen no longer; what waits to be accepted is refused when the workers have closed their sockets as well."""
        if self._admin is not None:
            self._admin.close()
        for made in [one for some in self.of_workers for one in some]:
            made.close()
        while self._addresses:
            remove_socket(self._addresses.pop())
