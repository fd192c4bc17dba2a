"""A read that only notes the tick in which it was is never taken for an earlier one."""

from __future__ import annotations

from kyma_proxy.config.snapshot import Timeouts
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.sweeper import Sweeper
from kyma_proxy.net.upstream.timers import AnswerTimers

IDLE_S = 1.0


def timers(sweeper: Sweeper) -> AnswerTimers:
    """Those of an answer that has begun, and of which something was read in the tick under way."""
    made = AnswerTimers()
    made.begin(Timeouts(first_byte=5.0, idle=IDLE_S), None)
    made.start_idle()
    made.read_in = sweeper.tick
    return made


def test_a_read_counts_as_one_at_the_end_of_its_tick() -> None:
    sweeper = Sweeper(lambda: 0.0)
    tested = timers(sweeper)
    sweeper.sweep(100.0)
    sweeper.sweep(100.05)
    assert tested.read_at == 100.0
    assert tested.late(100.99) is None
    assert tested.late(101.0) == (FailureKind.IDLE_TIMEOUT, "silent for 1 s")


def test_a_loop_that_was_held_up_ends_no_answer_that_was_read_meanwhile() -> None:
    sweeper = Sweeper(lambda: 0.0)
    sweeper.sweep(100.0)
    tested = timers(sweeper)
    sweeper.sweep(110.0)
    assert tested.late(110.0) is None
    assert tested.due == 111.0


def test_a_later_read_counts_by_itself() -> None:
    sweeper = Sweeper(lambda: 0.0)
    tested = timers(sweeper)
    sweeper.sweep(100.0)
    tested.read_in = sweeper.tick
    sweeper.sweep(103.0)
    assert tested.read_at == 103.0
    tested.note_read()
    assert tested.read_in is None
