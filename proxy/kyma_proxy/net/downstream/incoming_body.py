"""Takes in the body of a request that arrives in pieces: only from who may send it, at a pace, within bounds, and in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from kyma_proxy.core.http.body_pace import BodyPace
from kyma_proxy.core.http.form import FormReader
from kyma_proxy.core.http.form_part import boundary_of
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.core.http.measured_fields import content_type_of
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.net.downstream.handlers import Handlers
from kyma_proxy.net.downstream.intake import MAX_PIECE_BYTES
from kyma_proxy.net.downstream.listener import MIN_COUNTED_BYTES, BufferedBody, Listener
from kyma_proxy.net.downstream.request_reader import RequestReader
from kyma_proxy.net.downstream.upload import STREAMED_BYTES, StreamedInbound, Upload
from kyma_proxy.net.releases import MIN_BYTES

_MAX_THROWN_AWAY_BYTES: Final = 4 * 2**20
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class IncomingBody:
    """The bodies of one connection, one after the other. `is_wanted` returns True while what arrives is read."""

    __slots__ = (
        "_buffered", "_handlers", "_is_searched", "_is_wanted", "_listener", "_reader", "_serve", "_thrown_away", "_transport",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, reader: RequestReader, listener: Listener, *, handlers: Handlers,
        buffered: BufferedBody, is_wanted: Callable[[], bool], serve: Callable[[Inbound], None],
    ) -> None:  # fmt: skip
        self._transport = transport
        self._reader = reader
        self._listener = listener
        self._handlers = handlers
        self._buffered = buffered
        self._is_wanted = is_wanted
        self._serve = serve
        self._thrown_away = 0
        self._is_searched = False

    def take(self, head: RequestHead, size: int) -> None:
        """A piece of so many bytes has come, and the body is not whole. Raises GatewayError.

        A large form is served now, while it comes; `forward` takes the rest.
        """
        reader = self._reader
        if reader.pace is None:
            self._begin(head)
        else:
            reader.pace.add(monotonic(), reader.body_bytes)
        refusal = self._buffered.count(reader.body_bytes)
        if refusal is not None:
            raise refusal
        self._listener.intake.took(self, size)
        if reader.body_bytes < STREAMED_BYTES or self._is_searched or head.length <= STREAMED_BYTES:
            return
        self._is_searched = True
        if head.path in self._listener.relayed and RELAYED[head.path].takes_form:
            self._serve_form(head)

    def _serve_form(self, head: RequestHead) -> None:
        """Serve the request if what has come names the model. Raises GatewayError if it is no beginning of a form."""
        reader = self._reader
        form = FormReader(boundary_of(content_type_of(reader.headers)))
        begun = reader.take_begun()
        form.feed(begun)
        if form.model is None:
            reader.put_back(begun)
            return
        upload = self._buffered.upload = Upload(form, head.length, self.hold_reading, self._go_on)
        self._serve(StreamedInbound(head, reader.headers, begun, reader.identity(), upload))

    def _go_on(self) -> None:
        reader, limits = self._reader, self._reader.limits
        if reader.pace is not None:  # the source was slow, and not the caller
            reader.pace = BodyPace(monotonic(), reader.body_bytes, limits.body_timeout, limits.min_body_rate)
        self.read_on()

    def forward(self, data: bytes) -> bool:
        """Pass on what has come of a form that is being served. Returns False if there is none."""
        upload, reader = self._buffered.upload, self._reader
        if upload is None or upload.is_over:
            return False
        self._forward(data, upload, reader)
        return True

    def _forward(self, data: bytes, upload: Upload, reader: RequestReader) -> None:
        reader.feed(data)
        if reader.ready:
            item = reader.ready.pop(0)
            if isinstance(item, Inbound):
                upload.add(item.body)
            else:
                upload.fail(item)
            return
        if reader.pace is not None:
            reader.pace.add(monotonic(), reader.body_bytes)
        upload.add(reader.take_begun())
        if not upload.is_over:
            self._listener.intake.took(self, len(data))

    def look(self, now: float) -> float | None:
        """Fail if the caller is late with a form that is being served; returns when to look next."""
        upload, pace = self._buffered.upload, self._reader.pace
        if upload is None or upload.is_over or pace is None:
            return None
        if upload.is_full:
            return now + 1.0
        if pace.is_late(now):
            upload.fail(self._reader.late())
            return None
        return pace.due(now)

    def _begin(self, head: RequestHead) -> None:
        """Take the rest of a body, if the caller may send it. Raises GatewayError."""
        reader, limits = self._reader, self._reader.limits
        self._is_searched = False
        if self._listener.hand_over is None:  # otherwise the process that follows this one decides
            most = self._handlers.screen(head, reader.headers)
            if most is not None:
                reader.lower_max_body(most)
        if head.expects_continue or head.length >= MIN_COUNTED_BYTES:  # after a small body the connection can serve again
            refusal = self._listener.unserved(head.method, head.path)
            if refusal is not None:
                raise refusal
        reader.pace = BodyPace(monotonic(), reader.body_bytes, limits.body_timeout, limits.min_body_rate)
        if head.expects_continue and not reader.body_bytes:  # else it has not waited (RFC 9110 §10.1.1)
            self._transport.write(_CONTINUE)

    def throw_away(self, size: int) -> None:
        """So many bytes have come behind a request that was refused."""
        self._thrown_away += size
        if self._thrown_away > _MAX_THROWN_AWAY_BYTES:
            self._transport.abort()
        else:
            self._listener.intake.took(self, size)

    @property
    def is_heavy(self) -> bool:
        """True if the next piece may take long. (For Intake.)"""
        return self._reader.may_enlarge(MAX_PIECE_BYTES)

    def hold_reading(self) -> None:
        """Read no more until `read_on`. (For Intake.)"""
        if self._is_wanted() and not self._transport.is_closing():
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Read on. (For Intake.)"""
        is_full = self._buffered.upload is not None and self._buffered.upload.is_full
        if self._is_wanted() and not is_full and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """The connection is gone, and with it what has come of a body."""
        self._listener.intake.forget(self)
        if self._buffered.upload is not None:
            self._buffered.upload.on_error = None
            self._buffered.upload.close()
        if self._reader.body_bytes >= MIN_BYTES:
            self._listener.releases.add(self._reader.take_body())
