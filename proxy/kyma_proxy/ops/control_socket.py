"""The socket over which the process that serves an address hands it to the one that replaces it. Only its user may open it.

Its path follows from the address of the public listener, so that the new process finds it with its own configuration. The two
talk in messages of JSON; listening sockets and idle connections travel beside them as descriptors (unix(7), SCM_RIGHTS):

    new: {"replace": VERSION}    old: {"pid": N, "protocol": N, "accounts": BOOL, "listeners": [["listen", ADDRESS], ...]}
                                 + their descriptors
    new: {"ready": true, "upgrade": BOOL}
                                 old: {"yours": true} + the lock of its database. Only where the new one takes its accounts.
                                 From here on no account, key or job changes, and with `upgrade` nothing is written
    new: {"serving": true, "accounts": BOOL}
                                 old: {"left": true} + a file, if the new one takes its accounts; then what
                                 `accounts/handing_over` says, and {"connections": N, "new": BOOL} + N descriptors, many times
    new: {"ending": true}        old: it ends as at a signal, if it has left

In place of each answer there may be {"refused": WHY}. Until it has said `left` the old process goes on as if nothing had
happened, if the new one ends. If the old one ends, the new one serves without what it was not told.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kyma_proxy.config.snapshot import Address

PROTOCOL: Final = 2
"""Changes with the messages: a process only takes the place of one that speaks as it does."""
MAX_DESCRIPTORS: Final = 250
"""Linux takes 253 in one message."""
_MAX_MESSAGE_BYTES: Final = 65_536
_CREDENTIALS: Final = struct.Struct("3i")


def path_of(address: Address, environment: Mapping[str, str]) -> Path | None:
    """The socket's path for the public listener's address; None if there is no directory that is this user's alone."""
    directory = _directory(environment)
    if directory is None:
        return None
    return directory / f"{hashlib.sha256(str(address).encode()).hexdigest()[:16]}.sock"


def _directory(environment: Mapping[str, str]) -> Path | None:
    """systemd's directories of a service or a user; else one below the temporary directory.

    `tempfile.gettempdir` would look for a directory that can be written, and fail where the whole file system is read-only.
    """
    if runtime := environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(runtime)
    parent = environment.get("XDG_RUNTIME_DIR")
    temporary = environment.get("TMPDIR") or "/tmp"  # noqa: S108 the directory in it is refused unless it is this user's alone
    own = Path(parent, "kyma-proxy") if parent else Path(temporary, f"kyma-proxy-{os.getuid()}")
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        found = own.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return own if is_own else None


def listen(path: Path) -> socket.socket:
    """Listen at the path, in place of whoever did. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        made.bind(str(temporary))
        temporary.chmod(0o600)
        made.listen(1)
        temporary.replace(path)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def connect(path: Path, timeout_s: float) -> socket.socket | None:
    """A connection to the process that listens at the path; None if none does. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(timeout_s)
    try:
        made.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        made.close()
        return None
    return made


def peer_of(connection: socket.socket) -> int | None:
    """The id of the process at the other end; None unless it is of this user, or of root."""
    pid, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid) if user in (os.getuid(), 0) else None


def send(connection: socket.socket, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send a message. Raises OSError, or BlockingIOError if the socket does not block and is full."""
    socket.send_fds(connection, [json.dumps(message).encode()], descriptors or [])


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message and its descriptors, which are the caller's from now on. Raises OSError; at the end, ConnectionError."""
    data, descriptors, _, _ = socket.recv_fds(connection, _MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
    try:
        message = json.loads(data) if data else None
    except ValueError:
        message = None
    if not isinstance(message, dict):
        for descriptor in descriptors:
            os.close(descriptor)
        raise ConnectionAbortedError("the other process has ended")
    return message, list(descriptors)
