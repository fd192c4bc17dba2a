"""Holds the timeouts and intervals of image jobs."""

from __future__ import annotations

from typing import Final, NamedTuple

from kyma_proxy.core.jobs.job import EXPIRES_AFTER_S


class Timing(NamedTuple):
    """Timeouts and intervals, in seconds."""

    expires: float = EXPIRES_AFTER_S
    """From a job's submission to its expiry; a source that may be drawing then, and can't be stopped, gets as long again."""
    grace: float = 15.0
    """The least time that a job gets which continues after a restart, even if it is past its expiry."""
    first_poll: float = 0.5
    """Before the first poll of an accepted job; the interval then grows up to `max_poll_interval`."""
    max_poll_interval: float = 4.0
    max_polls_per_s: float = 100.0
    """For all jobs together: polling takes time from the loop that serves the streams."""
    request: float = 15.0
    """For an answer that the source need not compute: a submission to a queue, a poll, a cancellation."""
    contact: float = 30.0
    """How long a source may give no valid answer about a job before the next source is asked."""
    rounds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
    """The pauses between rounds: after a round in which no source delivered, while one may still be asked again."""
    stop: float = 10.0
    """How long a caller who cancels waits for the queue's answer, and for the end on disk."""
    next_poll: float = 2.0
    """How long it waits longer if the queue has not confirmed the withdrawal: a poll may show that the job is gone."""
    write_retry: float = 0.5
    """Before another attempt to write to the database."""


DEFAULT_TIMING: Final = Timing()
