"""Writes the access log: one line of JSON for each request; a thread writes the lines. (Contract §11.)

Nothing here blocks the event loop or fails a request: lines that can't be written are counted and dropped. The file can be
reopened, for logrotate.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Final

import msgspec

from kyma_proxy.telemetry.record import LabelledRecord, Record
from kyma_proxy.telemetry.visible_text import is_visible, visible_line

MAX_PENDING_BYTES: Final = 8 * 2**20
"""If more than this waits for a slow disk, lines are dropped."""

_STOP: Final = object()
_REOPEN: Final = object()
_MAX_RECORDS: Final = 32
"""So many records are encoded at once: together they cost less than one by one, and the loop has streams to serve."""
_encode_lines: Final = msgspec.json.Encoder().encode_lines
_log: Final = logging.getLogger("kyma-proxy")


class LogLines:
    """Makes lines of records, and takes them along in batches. For the event loop's thread."""

    def __init__(self) -> None:
        self._records: list[Record | LabelledRecord] = []
        self._encoded: list[bytes] = []  # lines of records, of several each
        self.lost_lines = 0
        self.also: Callable[[bytes], None] | None = None  # takes the same lines

    def deliver(self, batch: bytes) -> bool:
        """Take whole lines to where they are written. Returns False if they are lost."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Open the file again, if lines are written into one here."""
        self.flush()

    def close(self) -> None:
        """Deliver what is left."""
        self.flush()

    def write(self, record: Record | LabelledRecord) -> None:
        """Take a record; its line goes to the writing thread with the next `flush`."""
        self._records.append(record)
        if len(self._records) >= _MAX_RECORDS:
            self._encode()

    def _encode(self) -> None:
        records, self._records = self._records, []
        try:
            self._encoded.append(_encode_lines(records))
        except Exception:  # one of them; it shall cost no other line
            for record in records:
                self._encode_alone(record)

    def _encode_alone(self, record: Record | LabelledRecord) -> None:
        try:
            self._encoded.append(_encode_lines([record]))
        except Exception:
            self.lost_lines += 1
            _log.exception("access log: the line of request %s can't be written", record.request_id)

    def flush(self) -> None:
        """Deliver the gathered lines. Called every 50 ms, and at the end."""
        if self._records:
            self._encode()
        if not self._encoded:
            return
        batch = b"".join(self._encoded)
        self._encoded = []
        if not is_visible(batch):
            batch = b"\n".join(map(visible_line, batch.split(b"\n")))
        if self.also is not None:
            self.also(batch)
        if not self.deliver(batch):
            self.lost_lines += batch.count(b"\n")


class ForwardedLog(LogLines):
    """Hands its lines to the process that writes those of all workers."""

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        """`send` takes whole lines; it returns False if they are lost."""
        super().__init__()
        self._send = send

    def deliver(self, batch: bytes) -> bool:
        return self._send(batch)


class AccessLog(LogLines):
    """The log at a path, or on standard output for "-". `write` and `flush` are for the event loop's thread.

    `form` makes other lines of these, as many; it is called by the writing thread.
    """

    def __init__(
        self, path: str, *, form: Callable[[bytes], bytes] | None = None, max_pending_bytes: int = MAX_PENDING_BYTES
    ) -> None:
        """Open the log. Raises OSError."""
        super().__init__()
        self._path = path
        self._form = form
        self._max_pending_bytes = max_pending_bytes
        self._descriptor = self._open()
        self._batches: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._written_bytes = 0
        self._has_warned = False
        self._is_torn = False
        self._writing = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._writing.start()

    def deliver(self, batch: bytes) -> bool:
        """Hand lines to the writing thread. Returns False if too much waits for the disk."""
        if self._queued_bytes - self._written_bytes > self._max_pending_bytes:
            return False
        self._queued_bytes += len(batch)
        self._batches.put(batch)
        return True

    def reopen(self) -> None:
        """Open the path again, after the lines that were written so far: if the file was renamed, a new one is created."""
        self.flush()
        self._batches.put(_REOPEN)

    def close(self) -> None:
        """Write the remaining lines; wait for the disk for five seconds at most."""
        self.flush()
        self._batches.put(_STOP)
        self._writing.join(timeout=5.0)

    def _open(self) -> int:
        if self._path == "-":
            return sys.stdout.fileno()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _run(self) -> None:
        while (item := self._batches.get()) is not _STOP:
            if item is _REOPEN:
                self._reopen_now()
            elif isinstance(item, bytes):
                self._write_now(item if self._form is None else self._form(item))
                self._written_bytes += len(item)
        if self._path != "-":
            os.close(self._descriptor)

    def _write_now(self, batch: bytes) -> None:
        remaining = b"\n" + batch if self._is_torn else batch  # half a line must not run into the next one
        try:
            while remaining:
                written = os.write(self._descriptor, remaining)
                self._is_torn = remaining[written - 1 : written] != b"\n"
                remaining = remaining[written:]
            self._has_warned = False
        except OSError as error:
            self.lost_lines += min(remaining.count(b"\n"), batch.count(b"\n"))
            if not self._has_warned:
                _log.warning("access log: %s; lines are lost", error.strerror)
                self._has_warned = True

    def _reopen_now(self) -> None:
        if self._path == "-":
            return
        try:
            descriptor = self._open()
        except OSError as error:
            _log.warning("access log: can't be opened again: %s; the old file stays in use", error.strerror)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._is_torn = False
