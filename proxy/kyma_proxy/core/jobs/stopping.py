"""Decides what stopping an image job early can still do. (Contract §10.)

A job that is cancelled or expires costs nothing only if no source has begun it. A source that has its request may be drawing:
an answer can't be withdrawn, and a queue says whether it has taken the job back. Until it has, the job goes on, and what is
delivered is charged. So nobody gets pictures drawn for nothing.
"""

from __future__ import annotations

import enum

from kyma_proxy.core.jobs.job import Job, JobEvent, JobState


class StopAction(enum.Enum):
    """The consequence of a wish to stop a job."""

    END = "end"  # nothing was ordered: it ends at once
    WITHDRAW = "withdraw"  # the source's queue is asked to take it back, and it ends only if the queue confirms that
    FOLLOW = "follow"  # it can't be withdrawn: it goes on to its end
    IGNORE = "ignore"  # it was charged before a restart, and its pictures are only fetched again


def stop_action(job: Job, event: JobEvent) -> StopAction:
    """The consequence of a CANCEL or EXPIRE for a job that has not ended."""
    if job.is_settled:
        return StopAction.IGNORE if event is JobEvent.CANCEL else StopAction.END
    if job.state is JobState.ACCEPTED:
        return StopAction.WITHDRAW
    return StopAction.FOLLOW if job.is_ordered else StopAction.END
