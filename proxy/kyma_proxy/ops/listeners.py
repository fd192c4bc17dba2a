"""The public listener and the admin listener of a running gateway, which open and close together."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from kyma_proxy.config.snapshot import Address, Snapshot
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.listening import adopt_sockets, open_sockets, remove_socket
from kyma_proxy.ops.predecessor import Predecessor


class Listeners:
    """Both listeners. They listen from the beginning, and accept from `start` on."""

    def __init__(
        self, app: App, snapshot: Snapshot, tls: Callable[[], ssl.SSLContext], predecessor: Predecessor | None = None,
        inherited: Mapping[str, Sequence[socket.socket]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Listen: on the inherited sockets of a setting, or on the predecessor's if it has the same address, or on new ones.

        `tls` returns the context of the next handshake, if the snapshot has TLS. Raises StartError.
        """
        self._predecessor = predecessor
        self._inherited = inherited
        self.sockets: dict[tuple[str, str], Sequence[socket.socket]] = {}
        """The listening sockets by setting and address."""
        self._addresses: list[Address] = []
        try:
            self._public = Acceptor(
                self._listen("listen", snapshot.listen), app.listener, app.downstream, tls=None if snapshot.tls is None else tls
            )
            self._acceptors = [self._public]
            if snapshot.admin is not None:
                listening = self._listen("admin.listen", snapshot.admin.listen)
                self._acceptors.append(Acceptor(listening, app.admin_listener, app.admin_downstream))
        except BaseException:
            for opened in [one for some in self.sockets.values() for one in some]:
                opened.close()
            if predecessor is None:
                self._remove_files()
            raise

    def _listen(self, setting: str, address: Address) -> Sequence[socket.socket]:
        made = self._inherited.get(setting)
        if made is None:
            made = [] if self._predecessor is None else self._predecessor.take(setting, address)
            made = adopt_sockets(setting, address, made) if made else open_sockets(setting, address)
            self._addresses.append(address)  # the file of an inherited Unix socket is its owner's
        self.sockets[setting, str(address)] = made
        return made

    def start(self) -> None:
        """Begin to accept."""
        for acceptor in self._acceptors:
            acceptor.start()

    def close(self, *, keep_files: bool) -> None:
        """Listen no longer. The files of Unix sockets stay with `keep_files`: another process listens on them."""
        for acceptor in self._acceptors:
            acceptor.close()
        if not keep_files:
            self._remove_files()

    def _remove_files(self) -> None:
        while self._addresses:  # once: at a second close the file may be another process's
            remove_socket(self._addresses.pop())

    def adopt(self, descriptor: int, *, is_new: bool) -> None:
        """Take in a caller's connection from the process whose place this one has taken."""
        self._public.adopt(descriptor, is_new=is_new)
