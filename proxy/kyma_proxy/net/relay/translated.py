"""This file relays between a caller and a source that speak different dialects: what comes is translated, event by event.

All that `Relay` promises holds here too: nothing goes out before the commit, and no answer that was cut is passed off as whole.
A stream that its source ends without saying that it is whole counts as cut; one whose first word is an error has not begun.
A translation's traces in a conversation are taken out of it where it goes on with a source of the caller's dialect.
(Contract §3.3, §4.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.exchange import Attempt, Exchange
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.headers import encode_request_head
from kyma_proxy.core.http.source_request import request_bytes
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.plan import SUBSTITUTE, Step
from kyma_proxy.dialect import sse
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.registry import DIALECTS, refuse_blind, translation
from kyma_proxy.dialect.thinking_signature import may_hold_unsigned, without_unsigned
from kyma_proxy.dialect.translation import StreamTranslation, Translation
from kyma_proxy.errors import GatewayError
from kyma_proxy.net.downstream.contract import Downstream
from kyma_proxy.net.relay.pump import Relay

MAX_WHOLE_BYTES: Final = 64 * 1024 * 1024
"""A whole answer must be there before it can be translated; more than this is none."""


class TranslatedRelay(Relay):
    """One attempt's answer, in another dialect than the caller's."""

    __slots__ = ("_lost", "_pieces", "_reported", "_size", "_stream", "_translation")

    def __init__(
        self, exchange: Exchange, step: Step, caller: Downstream, attempt: Attempt, dialect: Dialect,
        *, running: list[Relay], total_due: float | None, is_last: Callable[[], bool],
        added_head: Callable[[Exchange, Step], bytes],
    ) -> None:  # fmt: skip
        """Raises GatewayError where what the caller asks for can't be said in the source's dialect."""
        super().__init__(
            exchange, step, caller, attempt, dialect, running=running, total_due=total_due, is_last=is_last,
            added_head=added_head,
        )  # fmt: skip
        self._translation: Translation | None = translation(exchange, step.source, step.model, int(time.time()))
        self._stream: StreamTranslation | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._lost: tuple[str, ...] = ()
        self._reported: Usage = NO_USAGE

    def request(self) -> list[bytes | memoryview]:
        asked = self._made().asked
        head = encode_request_head(
            self._exchange.inbound, asked.endpoint, self.step.source, len(asked.body), is_translated=True
        )
        return [head + asked.body]

    def on_body(self, piece: bytes) -> None:
        stream = self._stream
        if stream is not None and self._has_begun:
            self._put(stream.feed(piece))
        elif self.is_over:
            return
        elif stream is not None:
            self._say(stream.feed(piece))
        elif self._is_to_stream(piece):
            stream = self._stream = self._made().stream()
            self._say(stream.feed(piece), is_alive=piece.startswith(b":"))
        else:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size > MAX_WHOLE_BYTES:
                self._fail(FailureKind.BROKEN, "its answer is too large to be translated", self._status, None)

    def on_end(self, *, is_certain: bool) -> None:
        if self.is_over:
            return
        stream = self._stream
        if stream is None:
            self._end_whole()
            return
        flush = stream.flush()
        if self._has_begun:
            self._put(flush)
        elif stream.is_finished:
            self._commit_stream(flush)
        else:
            failure = FailureKind.ERROR_EVENT if stream.has_failed else FailureKind.BROKEN
            name = self.step.source.provider.name
            self._resolve(AttemptFailure(failure, name, "its stream ended before it said anything", self._status))
            return
        if not stream.is_finished:
            self.broke_by = FailureKind.BROKEN
            self._break("its stream ended before its end")
            return
        self._finish()

    def usage(self) -> Usage:
        return self._reported if self._stream is None else self._stream.usage

    def _commit(self, piece: bytes) -> None:
        own_field = self._dialect.id_field
        if own_field:
            self._headers = [one for one in self._headers if one[0].lower() != own_field]
            self._headers.append((own_field, self._exchange.inbound.request_id.encode()))
        super()._commit(piece)

    def _tell_the_truth(self, error: GatewayError) -> None:
        if self._stream is not None and self._stream.has_failed:
            self._caller.finish(close=True)  # the source's own error has told it
        else:
            super()._tell_the_truth(error)

    def _is_to_stream(self, piece: bytes) -> bool:
        """Whether the answer, of which this is the first piece, is a stream for a caller who wants one."""
        if self._pieces or self._is_error or not self._asked_to_stream():
            return False
        if not self._streams and sse.is_stream(piece):  # some sources give a stream no type, or another one
            self._streams = True
            self._set_content_type(b"text/event-stream")
        return self._streams

    def _say(self, piece: bytes, *, is_alive: bool = False) -> None:
        """Nothing has gone out yet: begin with what the translation says first, or with a sign of life.

        Where that is an error, or nothing at all, another source may still be asked.
        """
        if not piece and not is_alive:
            return
        if self._dialect.is_error(sse.first_event(piece) or b""):
            self._fail(FailureKind.ERROR_EVENT, "its stream began with an error, or can't be read", self._status, None)
            return
        self._commit_stream(piece)

    def _commit_stream(self, piece: bytes) -> None:
        self._let_go_of_the_prompt()
        self._fields.pop(b"content-length", None)
        self._has_length = False
        self._commit(piece)

    def _end_whole(self) -> None:
        """The whole answer is there: translate it, and let it go out as the caller wants it, in one piece or as a stream."""
        translation, body = self._made(), b"".join(self._pieces).removeprefix(sse.BOM)
        self._pieces.clear()
        is_stream = not self._is_error and (self._streams or sse.is_stream(body))
        try:
            whole = translation.folded(body) if is_stream else translation.whole(self._status, body)
            if self._asked_to_stream() and whole.status < 400:
                events: bytes | None = body if is_stream else translation.streamed(body)
            else:
                events = None
        except ValueError:
            detail = "its answer is not what its dialect promises"
            self._resolve(AttemptFailure(FailureKind.BROKEN, self.step.source.provider.name, detail, self._status))
            return
        self._lost = whole.dropped
        if events is not None:
            self._stream_whole(events)
            return
        self._reported = whole.usage
        self._status = whole.status
        self._streams = False
        self._let_go_of_the_prompt()
        self._fields[b"content-length"] = b"%d" % len(whole.body)
        self._set_content_type(b"application/json")
        self._has_length = True
        self._commit(whole.body)
        self._finish()

    def _asked_to_stream(self) -> bool:
        head = self._exchange.routing
        return head is not None and head.streams

    def _stream_whole(self, events: bytes) -> None:
        """Some sources answer in one piece whatever they are asked: a client that reads events could not read that."""
        self._set_content_type(b"text/event-stream")
        self._streams = True
        stream = self._stream = self._made().stream()
        self._commit_stream(stream.feed(events))
        self.on_end(is_certain=True)

    def _set_content_type(self, kind: bytes) -> None:
        self._headers = [one for one in self._headers if one[0].lower() not in (b"content-type", b"content-encoding")]
        self._headers.append((b"content-type", kind))

    def _made(self) -> Translation:
        made = self._translation
        assert made is not None  # noqa: S101  (nothing has gone out yet)
        return made

    def _let_go_of_the_prompt(self) -> None:
        """The answer begins: no other source is asked, and the translation with its prompt need not be kept."""
        self._exchange.dropped = self._made().asked.dropped + self._lost
        self._translation = None

    def _put(self, piece: bytes) -> None:
        if piece:
            self._sample.add(piece)
            self._write_held(piece)


class MendedRelay(Relay):
    """One attempt's answer to a conversation of which thoughts were taken out that nobody has signed."""

    __slots__ = ("_taken_out",)

    def request(self) -> list[bytes | memoryview]:
        body, self._taken_out = without_unsigned(self._exchange.inbound.body)
        return request_bytes(self._exchange, self.step.source, body, read_routing_fields(body))

    def _commit(self, piece: bytes) -> None:
        self._exchange.dropped = self._taken_out
        super()._commit(piece)


def relay_of(
    exchange: Exchange, step: Step, caller: Downstream, attempt: Attempt,
    *, running: list[Relay], total_due: float | None, is_last: Callable[[], bool],
    added_head: Callable[[Exchange, Step], bytes],
) -> Relay:  # fmt: skip
    """The relay for an attempt, with a translation where its source needs one.

    Raises GatewayError where the source can't be told what the caller asks for, or its model could not see it.
    """
    dialect = DIALECTS[exchange.endpoint.dialect]
    is_spoken = step.source.provider.dialect == dialect.name
    if is_spoken and step.layer == SUBSTITUTE:
        refuse_blind(exchange.inbound.body, step.model)
    if is_spoken and not (dialect is ANTHROPIC and may_hold_unsigned(exchange.inbound.body)):
        return Relay(
            exchange, step, caller, attempt, dialect, running=running, total_due=total_due, is_last=is_last,
            added_head=added_head,
        )  # fmt: skip
    kind: type[Relay] = MendedRelay if is_spoken else TranslatedRelay
    return kind(
        exchange, step, caller, attempt, dialect, running=running, total_due=total_due, is_last=is_last,
        added_head=added_head,
    )  # fmt: skip
