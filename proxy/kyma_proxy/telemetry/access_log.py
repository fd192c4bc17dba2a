"""This file writes the access log off the loop: one JSON line a request, gathered for a moment, written by a thread.

Nothing here ever waits on the loop, and nothing here fails a request: lines that can't be written are counted and
dropped. The file is opened again on request, for logrotate. (Contract §11.)
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from typing import Final

import msgspec

from kyma_proxy.telemetry.record import Record

MAX_PENDING_BYTES: Final = 8 * 2**20
"""How much may wait for a slow disk before lines are dropped."""

_STOP: Final = object()
_REOPEN: Final = object()
_encode: Final = msgspec.json.Encoder().encode
_log: Final = logging.getLogger("kyma-proxy")


class AccessLog:
    """The log at a path, or on standard output for "-". `write` and `flush` belong to the loop's thread."""

    def __init__(self, path: str) -> None:
        """Open the log. Raises OSError."""
        self._path = path
        self._descriptor = self._open()
        self._lines: list[bytes] = []
        self._batches: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._written_bytes = 0
        self.lost_lines = 0
        self._has_warned = False
        self._is_torn = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, record: Record) -> None:
        """Take a line; it is on its way at the next `flush`."""
        self._lines.append(_encode(record))

    def flush(self) -> None:
        """Give what has gathered to the writing thread. Called every 50 ms, and at the end."""
        lines = self._lines
        if not lines:
            return
        self._lines = []
        if self._queued_bytes - self._written_bytes > MAX_PENDING_BYTES:
            self.lost_lines += len(lines)
            return
        batch = b"\n".join(lines) + b"\n"
        self._queued_bytes += len(batch)
        self._batches.put(batch)

    def reopen(self) -> None:
        """Go on in a new file of the same name, after what was written so far."""
        self.flush()
        self._batches.put(_REOPEN)

    def close(self) -> None:
        """Write what is left, waiting for the disk at most five seconds."""
        self.flush()
        self._batches.put(_STOP)
        self._thread.join(timeout=5.0)

    def _open(self) -> int:
        if self._path == "-":
            return sys.stdout.fileno()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _run(self) -> None:
        while (item := self._batches.get()) is not _STOP:
            if item is _REOPEN:
                self._reopen_now()
            elif isinstance(item, bytes):
                self._write_now(item)
        if self._path != "-":
            os.close(self._descriptor)

    def _write_now(self, batch: bytes) -> None:
        rest = b"\n" + batch if self._is_torn else batch  # what follows half a line must not be glued to it
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._is_torn = rest[written - 1 : written] != b"\n"
                rest = rest[written:]
            self._has_warned = False
        except OSError as error:
            self.lost_lines += min(rest.count(b"\n"), batch.count(b"\n"))
            if not self._has_warned:
                _log.warning("access log: %s; lines are being lost", error.strerror)
                self._has_warned = True
        self._written_bytes += len(batch)

    def _reopen_now(self) -> None:
        if self._path == "-":
            return
        try:
            descriptor = self._open()
        except OSError as error:
            _log.warning("access log: can't be opened again: %s; the old file is used on", error.strerror)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._is_torn = False
