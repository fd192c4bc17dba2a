"""Keeps the deadlines of one answer: for its first byte, between its pieces, for the whole, and of a hold. (Contract §9.)"""

from __future__ import annotations

from time import monotonic
from typing import Final

from kyma_proxy.config.snapshot import Timeouts
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.sweeper import Tick

_NEVER: Final = 10.0**12
_SENDING_LOOK_S: Final = 0.5


class AnswerTimers:
    """The timers of the answer that a connection brings.

    `read_at` is the moment of the last read. A read that only passes something on notes the sweeper's tick in `read_in`
    instead, as the clock costs more than all else that it does; it counts as one at the tick's end.
    """

    __slots__ = ("_first_byte_s", "_hold_due", "_idle_s", "_read_at", "is_sending", "read_in", "sent_at", "total_due")

    def __init__(self) -> None:
        self._read_at = monotonic()
        self.read_in: Tick | None = None
        self.sent_at = 0.0
        self.is_sending = False
        """True while a request is being sent that its caller has not sent whole: the answer can't be late yet."""
        self._first_byte_s = self._idle_s = self.total_due = self._hold_due = _NEVER

    @property
    def read_at(self) -> float:
        """The moment of the last read, or of the end of the tick in which it was; never one that is still to come."""
        tick = self.read_in
        if tick is None:
            return self._read_at
        return tick.ended_at or monotonic()

    def note_read(self) -> None:
        """Something was read now."""
        self._read_at = monotonic()
        self.read_in = None

    def begin(self, timeouts: Timeouts, total_due: float | None) -> float:
        """A request is sent now; returns when an answer could first be late."""
        self.note_read()
        now = self.sent_at = self._read_at
        self._first_byte_s = _NEVER if timeouts.first_byte is None else timeouts.first_byte
        self._idle_s = _NEVER if timeouts.idle is None else timeouts.idle
        self.total_due = _NEVER if total_due is None else total_due
        self._hold_due = _NEVER
        return min(now + self._first_byte_s, self.total_due)

    def start_idle(self) -> float | None:
        """End the timer of the first byte, and any hold; returns when the answer is idle for too long, if there is a limit."""
        self._first_byte_s = self._hold_due = _NEVER
        return None if self._idle_s >= _NEVER else self.read_at + self._idle_s

    def hold(self, seconds: float) -> float:
        """Hold the answer for so many seconds; returns until when."""
        self._hold_due = monotonic() + seconds
        return self._hold_due

    def ends_hold(self, now: float) -> bool:
        """True, once, if the hold is over."""
        if now < self._hold_due:
            return False
        self._hold_due = _NEVER
        return True

    def late(self, now: float) -> tuple[FailureKind, str] | None:
        """Which of the timers of the first byte and between pieces has run out, in words; None if neither has."""
        if self._first_byte_s < _NEVER:
            if now >= self.sent_at + self._first_byte_s and not self.is_sending:
                return FailureKind.FIRST_BYTE_TIMEOUT, f"no first byte within {self._first_byte_s:g} s"
        elif now >= self.read_at + self._idle_s:
            return FailureKind.IDLE_TIMEOUT, f"silent for {self._idle_s:g} s"
        return None

    @property
    def due(self) -> float:
        """When one of the timers could run out next."""
        if self.is_sending:
            return min(monotonic() + _SENDING_LOOK_S, self.total_due)
        is_first = self._first_byte_s < _NEVER
        due = self.sent_at + self._first_byte_s if is_first else self.read_at + self._idle_s
        return min(due, self.total_due, self._hold_due)
