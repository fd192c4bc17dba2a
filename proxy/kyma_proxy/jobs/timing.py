"""This file says how long image jobs wait for what."""

from __future__ import annotations

from typing import Final, NamedTuple

from kyma_proxy.core.jobs.job import EXPIRES_AFTER_S


class Timing(NamedTuple):
    """How long is waited for what, in seconds."""

    expires: float = EXPIRES_AFTER_S
    grace: float = 15.0
    """For a job that goes on after a restart, however late it is."""
    first_look: float = 0.5
    """At a job that a source has accepted; later looks come less often, up to `last_look`."""
    last_look: float = 4.0
    most_looks_per_s: float = 100.0
    """At all jobs together, as looking costs the loop that serves the streams."""
    call: float = 15.0
    """For an answer that need not be made first."""
    contact: float = 30.0
    """Without a sensible answer about a job, until the next source is asked."""
    rounds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
    """After a round in which no source delivered, and one rests or surely did nothing, before the next."""
    again: float = 0.5
    """After the disk could not be written."""


USUAL: Final = Timing()
