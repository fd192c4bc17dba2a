"""Reads one answer while it passes, in bounded memory: is it an answer, does it report an error, what did it use, is it whole?

Until something is there that a caller can use, each event is read at once, and the bytes are held. From then on pieces are only
counted, and dropped some thousand bytes at a time. The last events are kept, and read when the answer has ended: there stand
its usage, its end, and the error if it has failed. So an event that passes costs almost nothing. (Contract §4.3, §4.4.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.answers.document import is_document, may_be_json, type_alone, usage_of_cut, usage_of_large
from kyma_proxy.dialect.answers.ending import Findings, is_whole
from kyma_proxy.dialect.answers.facts import End, Facts, ReportedError, cut_answer, failure_of, no_answer
from kyma_proxy.dialect.answers.last_events import KEPT_BYTES, bytes_before_last_events, pieces_before_last_events
from kyma_proxy.dialect.answers.measured import OPAQUE, refuse_page
from kyma_proxy.dialect.answers.passed_chunks import PassedChunks
from kyma_proxy.dialect.answers.silence import LARGE_DROP_BYTES, Silence
from kyma_proxy.dialect.answers.usage import updated
from kyma_proxy.dialect.answers.whole_body import MAX_UNFRAMED_BYTES, drop_first, ends_whole
from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.sse import BOM, MAX_BOUNDARY_BYTES, SseParser, end_of_event, ends_between_events, events_in, is_stream

MAX_OPENING_BYTES: Final = 64 * 1024
"""How much is held of an answer that has said nothing yet."""
_LOOK_AFTER_BYTES: Final = 4096
_MAX_KEPT_BYTES: Final = 1024 * 1024
"""The most that is kept of one event, or of a whole answer, whose end is still to come."""
_MAX_DECODED_BYTES: Final = 64 * 1024
_MAX_SEARCHED_BYTES: Final = 16 * 1024
_NOT_PROMISED: Final = "its answer is not what its dialect promises"


class AnswerReader:
    """Reads the answer of one source, in the source's dialect.

    The calls come in this order: `begin`, `open` for each piece until it returns True or `let_go` is called, `take`, `add` for
    each further piece, `finish`.
    """

    __slots__ = (
        "_beginning", "_counted", "_dialect", "_endpoint", "_has_answer", "_has_end", "_has_length", "_has_reason",
        "_is_read", "_is_stale", "_kept_bytes", "_look_at", "_lost", "_max_whole_bytes", "_opening", "_parser",
        "_passed", "_pieces", "_silence", "_usage", "_used", "error", "is_open", "is_searching", "streams",
    )  # fmt: skip

    def __init__(self, dialect: Dialect, endpoint: str) -> None:
        self._dialect = dialect
        self._endpoint = endpoint
        self.streams = False
        """True if the answer is an event stream."""
        self.is_open = False
        """True if the answer can go out."""
        self.error: ReportedError | None = None
        """The error that the source reported in its answer."""
        self._parser: SseParser | None = None
        self._pieces: list[bytes] = []
        self._kept_bytes = self._counted = 0  # bytes that are kept, and that were dropped
        self._look_at = _LOOK_AFTER_BYTES
        self._max_whole_bytes = _MAX_KEPT_BYTES
        self._opening = self._beginning = b""  # of the body, and of the event whose end alone is kept
        self._usage: Mapping[str, Any] | None = None
        self._used = NO_USAGE  # what of a whole answer is understood at once
        self._silence: Silence | None = None
        self._passed: PassedChunks | None = None
        self._is_stale = False  # text followed the last report of usage
        self._lost = False  # the beginning of what is kept is not the beginning of an event, or of the body
        self._has_answer = self._has_reason = self._has_end = self._has_length = self._is_read = False
        self.is_searching = False
        """True if the answer goes out without having said anything, so that each event is still read."""

    def begin(self, *, streams: bool, has_length: bool, is_unframed: bool) -> None:
        """The head has come. `is_unframed`: only the end of the connection ends the body."""
        self.streams = streams
        self._has_length = has_length
        if is_unframed:
            self._max_whole_bytes = MAX_UNFRAMED_BYTES
        if streams:
            self._parser = SseParser()

    # ---- before the answer goes out

    def open(self, piece: bytes) -> bool:
        """Read a piece of an answer that has not gone out yet. True if it can go out now.

        Raises BadAnswer if it is an error, or ends without having said anything.
        """
        self._pieces.append(piece)
        self._kept_bytes += len(piece)
        if self._parser is None:
            if self._pieces[0].startswith(b"{"):
                return self._open_whole()
            if self._endpoint in OPAQUE:  # sound and plain text go out as they come
                refuse_page(self._pieces[0])
                return self._open()
            if not is_stream(self._pieces):
                return self._open_whole()
            self.streams = True  # some sources give a stream no type, or another one
            self._parser = SseParser()
            piece = b"".join(self._pieces)
        self._read_opening(self._parser, piece)
        if self._kept_bytes > MAX_OPENING_BYTES:
            self.let_go()
        return self.is_open

    def _read_opening(self, parser: SseParser, piece: bytes | None) -> None:
        """Read the events that a piece completes; without one, those that the end does."""
        try:
            for event in parser.flush() if piece is None else parser.feed(piece):
                self._note_opening(self._dialect.read_event(event.name, event.data))
        except ValueError:
            raise no_answer("an event of its stream is too long") from None

    def _note_opening(self, facts: Facts) -> None:
        if self.is_open:
            return  # it is read again, with what follows
        self._note(facts)
        if facts.error is not None:
            raise failure_of(facts.error, "its stream began with an error")
        if facts.is_answer:
            self._open()
        elif facts.end is End.LAST:
            raise no_answer("its stream ended without an answer")

    def _open_whole(self) -> bool:
        """A whole answer is read when it is there. One that is larger than what is held must at least look like JSON."""
        if self._kept_bytes <= MAX_OPENING_BYTES:
            return False
        if not may_be_json(b"".join(self._pieces[:2])):
            raise no_answer("its answer is no JSON")
        return self._open()

    def let_go(self) -> None:
        """Hold the answer no longer, though it has said nothing yet."""
        self.is_searching = True
        self._open()

    def _open(self) -> bool:
        self.is_open, self._parser = True, None
        if not self.streams:
            self._look_at = self._max_whole_bytes
        return True

    def take(self) -> bytes:
        """Return what has been held, in one piece."""
        held = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces[:] = (held,)
        return held

    # ---- while it goes out

    def add(self, piece: bytes) -> None:
        """Note a piece that goes out. Raises BadAnswer if the stream has said nothing for very long."""
        if self._passed is not None:
            self._take_passed()
        self._pieces.append(piece)
        self._kept_bytes += len(piece)
        if self._kept_bytes > self._look_at:
            self._look()
            if self._silence is not None:
                self._silence.check()

    def passed_chunks(self) -> PassedChunks | None:
        """Return an object to which whole chunks can be added instead; None if each piece must be seen."""
        if self.streams and not self.is_searching:
            self._passed = self._passed or PassedChunks()
        return self._passed

    def _take_passed(self) -> None:
        """Take over what is kept of the chunks that have passed."""
        passed = self._passed
        if passed is None or not passed.size:
            return
        if passed.has_dropped:  # and so with all that came before
            self._opening = self._opening or (b"".join(self._pieces) + passed.opening)[:KEPT_BYTES]
            self._counted += self._kept_bytes
            self._pieces.clear()
            self._kept_bytes, self._is_stale, self._lost = 0, True, False
        body = passed.body()
        self._pieces.append(body)
        self._kept_bytes += len(body)
        self._counted += passed.size - len(body)
        passed.begin()

    def _look(self) -> None:
        """Let go of what has passed, but for the last events."""
        if not self.streams:
            self._drop_pieces()
        elif self.is_searching or not self._drop_events():
            self._drop_bytes()

    def _drop_events(self) -> bool:
        """Let go of the first pieces. True if that could be done: the last of them must end with an event, as most do."""
        pieces = self._pieces
        first, kept = pieces_before_last_events(pieces)
        if not first:
            return False
        if not self._opening:
            self._opening = b"".join(pieces[:first])[:KEPT_BYTES]
        if self._kept_bytes - kept > LARGE_DROP_BYTES:
            self._listen(pieces[:first])
        del pieces[:first]
        self._counted += self._kept_bytes - kept
        self._kept_bytes = kept
        self._look_at = max(_LOOK_AFTER_BYTES, 2 * kept)
        self._is_stale = True
        self._lost = False
        return True

    def _drop_bytes(self) -> None:
        """Let go of the first bytes of pieces that end within events, or of one large event."""
        text = b"".join(self._pieces)
        if not self._opening:
            self._opening = text[:KEPT_BYTES]
        boundary = bytes_before_last_events(text)
        if boundary > 0:
            if self.is_searching:  # what usually comes before the answer may come now
                self._read_events(text[:boundary])
                self.is_searching = not self._has_answer
            self._is_stale = True
            self._lost = False
            if self.is_searching or boundary > LARGE_DROP_BYTES:
                self._listen([text[:boundary]])
            self._counted += boundary
            text = text[boundary:]
        elif len(text) > _MAX_KEPT_BYTES:
            if not self._lost:
                self._beginning = text[:KEPT_BYTES]
            self._lost, self.is_searching = True, False
            self._listen([text[:-_MAX_KEPT_BYTES]])
            self._counted += len(text) - _MAX_KEPT_BYTES
            text = text[-_MAX_KEPT_BYTES:]
        self._pieces[:] = (text,)
        self._kept_bytes = len(text)
        more = max(_LOOK_AFTER_BYTES, len(text))
        self._look_at = self._kept_bytes + (min(more, _MAX_SEARCHED_BYTES) if self.is_searching else more)

    def _listen(self, dropped: list[bytes]) -> None:
        """Note if dropped events say nothing."""
        self._silence = self._silence or Silence(self._dialect)
        self._silence.look(dropped, is_silent=self.is_searching)

    def _read_events(self, text: bytes, *, is_end: bool = False) -> None:
        for event in events_in(text, is_end=is_end):
            self._note(self._dialect.read_event(event.name, event.data))

    def _note(self, facts: Facts) -> None:
        error, end, usage = facts.error, facts.end, facts.usage
        self._used = facts.used
        if error is not None and self.error is None:
            self.error = error
        if usage is not None:
            self._usage = updated(self._usage, usage)
            self._is_stale = False
        elif facts.is_answer and end is End.NO:
            self._is_stale = True
        if end is End.LAST:
            self._has_end = True
        elif end is End.REASON:
            self._has_reason = True
        self._has_answer = self._has_answer or facts.is_answer

    def _drop_pieces(self) -> None:
        """Let go of the first pieces of a large whole answer: many at a time, as to shorten the list moves what stays in it."""
        pieces, limit = self._pieces, self._max_whole_bytes
        if not self._opening:
            self._opening = b"".join(pieces[:2])[:_MAX_DECODED_BYTES]
        self._lost = True
        dropped = drop_first(pieces, self._kept_bytes, limit)
        self._kept_bytes -= dropped
        self._counted += dropped
        self._look_at = self._kept_bytes + limit // 8

    # ---- the end

    def finish(self, *, is_certain: bool, needs_usage: bool = True) -> None:
        """The body has ended. `is_certain` is False if only the connection's end says so.

        A stream without its dialect's last event may then be whole all the same: if it has told the reason of its end and, if
        the caller may expect that (`needs_usage`), its usage. Raises BadAnswer if it is no answer, or not whole.
        """
        if not self.is_open:
            self._finish_opening(is_certain=is_certain)
        if self.streams:
            self._read_end()
            if self.error is None and not is_whole(
                self._findings(), is_certain=is_certain, always_ends=self._dialect.always_ends, needs_usage=needs_usage
            ):
                raise cut_answer()
        else:
            self._read_whole()
            if not is_certain and not ends_whole(self._pieces, is_cut=self._lost):
                raise cut_answer()
            if not self._has_answer and self.error is None:
                raise no_answer(_NOT_PROMISED)

    def _finish_opening(self, *, is_certain: bool) -> None:
        """The answer has ended before it was clear what it is."""
        if self.streams:
            if self._parser is not None:
                self._read_opening(self._parser, None)
            if not self.is_open:
                raise no_answer("its stream ended without an answer" if self._kept_bytes else "its stream was empty")
            return
        body = self.take() if self._pieces else b""
        if not body.startswith(b"{"):
            body = body.removeprefix(BOM)
        if not is_certain and not is_document(body):
            raise cut_answer()
        facts = self._dialect.read_whole(self._endpoint, body)
        if facts.error is not None:
            raise failure_of(facts.error, "its answer is an error")
        if not facts.is_answer:
            raise no_answer(_NOT_PROMISED if body.strip() else "its answer is empty")
        self._note(facts)
        self._is_read = True
        self._open()

    def _read_end(self) -> None:
        """Read the last events of a stream."""
        if self._is_read:
            return
        self._is_read = True
        self._take_passed()
        if self._kept_bytes > MAX_OPENING_BYTES:
            self._look()  # only the last events are to be read
        text = b"".join(self._pieces)
        self._pieces[:] = (text,)
        if self._lost:
            first = end_of_event(text, 0)
            event, text = text[:first], text[first:]
            end = self._dialect.read_event(b"", type_alone(self._beginning)).end
            self._note(Facts(end=end, usage=usage_of_cut(self._beginning, event.rstrip())))
        elif not self.is_searching and (first := bytes_before_last_events(text)) > 0:
            self._has_answer = self._is_stale = True  # as if the first events had been dropped
            text = text[first:]
        self._read_events(text, is_end=not ends_between_events(text))

    def _read_whole(self) -> None:
        if self._is_read:
            return
        self._is_read, pieces = True, self._pieces
        is_large = self._kept_bytes > _MAX_DECODED_BYTES and (self._lost or self._endpoint not in self._dialect.read_whole_at)
        usage = usage_of_large(pieces, self._opening, is_cut=self._lost) if is_large else None
        if usage is not None or self._lost:
            self._has_answer = True  # as far as can be seen
            self._usage = usage
        else:
            self._note(self._dialect.read_whole(self._endpoint, b"".join(pieces)))

    def _findings(self) -> Findings:
        """Sum up a stream; events that were dropped were an answer, unless they were read and said nothing."""
        has_answer = self._has_answer or (self._counted > 0 and not self.is_searching)
        return Findings(has_answer, self._has_reason, self._usage is not None and not self._is_stale, self._has_end)

    @property
    def is_complete(self) -> bool:
        """True if the stream that has gone out says of itself that it is whole, and its framing does not say otherwise."""
        if not self.streams or not self.is_open or self._has_length:
            return False
        self._read_end()
        return self.is_between_events and (self._has_end or self.error is not None)

    @property
    def is_between_events(self) -> bool:
        """True if the stream that has gone out stands between two events."""
        self._take_passed()
        return ends_between_events(b"".join(self._pieces[-MAX_BOUNDARY_BYTES:]))

    # ---- what it used

    def usage(self) -> Usage:
        """The usage that the source reported; NO_USAGE if it reported none.

        A count that text followed is at least completed by an estimate, and marked so.
        """
        if self.is_open and not self._is_read:
            if self.streams:
                self._read_end()
            else:
                self._read_whole()
        if self._usage is None:
            return self._used
        usage = self._dialect.usage_of(self._usage)
        completion = usage.completion
        if completion is None or not self._is_stale or not self.streams:
            return usage
        estimate = self.delivered()
        return usage if estimate <= completion else usage.with_completion(estimate, "estimated")

    def delivered(self) -> int:
        """About how many tokens have gone out."""
        self._take_passed()
        if self.streams and self._kept_bytes > MAX_OPENING_BYTES:
            self._read_end()  # which lets go of all but the last events
        text = b"".join(self._pieces)
        return estimated_completion_tokens(self._opening or text, text, self._counted + len(text), self.streams)
