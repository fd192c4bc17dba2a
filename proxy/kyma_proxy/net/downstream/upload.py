"""Passes a large form on while it comes: from a caller's connection to the request that a source is sent.

The beginning is held until the source's connection is there. Then each piece is read by the form's reader and given to the
request; while the source takes none, the caller is not read. So of a form of any size less than a MiB is held beyond its
beginning. The last piece goes out only if the form is whole and sound: otherwise no source ever has all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from kyma_proxy.core.http.form import FormReader
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.errors import GatewayError
from kyma_proxy.net.upstream.outflow import LargeRequest

STREAMED_BYTES: Final = 2**20
"""A form of no more is read whole, and can be sent to several sources."""
_MAX_HELD_BYTES: Final = 2**19


class Upload:
    """A form of `total` bytes, of which the beginning has come. `pause` and `resume` stop and go on with the reading."""

    __slots__ = (
        "_held", "_outgoing", "_pause", "_resume", "error", "form", "is_complete", "is_full", "is_taken", "most_held",
        "on_error", "total",
    )  # fmt: skip

    def __init__(self, form: FormReader, total: int, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.form = form
        self.total = total
        self.is_complete = False
        self.is_full = False
        """True while the caller is not read, as its source takes nothing."""
        self.is_taken = False
        """True as soon as a source is sent it: it can't be sent to another."""
        self.error: GatewayError | None = None
        self.on_error: Callable[[GatewayError], None] | None = None
        """Called once if the form can't be completed."""
        self.most_held = 0
        self._held: list[bytes] = []
        self._outgoing: LargeRequest | None = None
        self._pause, self._resume = pause, resume

    @property
    def is_over(self) -> bool:
        """True if nothing more of it is wanted."""
        return self.is_complete or self.error is not None

    def attach(self, outgoing: LargeRequest) -> None:
        """From now on the pieces belong to this request, which has the beginning already."""
        self.is_taken = True
        self._outgoing = outgoing
        outgoing.open(self._make_room)
        held, self._held = self._held, []
        for piece in held:
            outgoing.add(piece)
        if self.is_complete:
            self._end()
        else:
            self._note_room()

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        if self.is_over:
            return
        try:
            self.form.feed(piece)
            if self.form.size >= self.total:
                self.form.finish()
        except GatewayError as error:
            self.fail(error)
            return
        outgoing = self._outgoing
        if outgoing is None:
            self._held.append(piece)
        else:
            outgoing.add(piece)
        held = self._held_bytes
        self.most_held = max(self.most_held, held)
        if self.form.size >= self.total:
            self.is_complete = True
            self.on_error = None
            self._end()
        elif held > _MAX_HELD_BYTES and not self.is_full:
            self.is_full = True
            self._pause()
        self._note_room()

    def fail(self, error: GatewayError) -> None:
        """The form can't be completed."""
        if self.is_over:
            return
        self.error = error
        self.close()
        on_error, self.on_error = self.on_error, None
        if on_error is not None:
            on_error(error)

    def close(self) -> None:
        """Let go of everything: the caller has left, or nothing more is wanted."""
        self._held.clear()
        self._outgoing = None

    @property
    def _held_bytes(self) -> int:
        held = sum([len(piece) for piece in self._held])
        return held if self._outgoing is None else held + self._outgoing.held_bytes

    def _make_room(self) -> None:
        """The source has taken what there was."""
        if self.is_full and self._held_bytes <= _MAX_HELD_BYTES // 2:
            self.is_full = False
            self._resume()
        self._note_room()

    def _note_room(self) -> None:
        """The source's time for its answer counts only while it is the source that is waited for."""
        outgoing = self._outgoing
        if outgoing is not None:
            timers, is_callers = outgoing.timers, outgoing.is_open and not outgoing.held_bytes
            if timers.is_sending != is_callers:
                timers.is_sending = is_callers
                timers.sent_at = monotonic()

    def _end(self) -> None:
        if self._outgoing is not None:
            self._outgoing.end()
        self._note_room()


class StreamedInbound(Inbound):
    """A request whose `body` is the beginning of a form; the rest comes in `upload`. Its connection closes behind it."""

    __slots__ = ("upload",)

    def __init__(
        self, head: RequestHead, headers: Headers, begun: bytes, request_id: str, upload: Upload
    ) -> None:  # fmt: skip
        super().__init__(
            head.method, head.path, head.query, headers, begun, request_id, monotonic(), head.is_http_10, False, {}, head.cors
        )
        self.upload = upload
