"""Tells on standard error of sources whose circuit breaker opens or closes, and of keys that are rejected.

Each line says what to do. A source that comes and goes has one line of a kind in a minute (for all models of a pattern
together), and all sources have MAX_LINES: the rest waits, and then only what is still so is told.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import Snapshot, Source
from kyma_proxy.core.routing.breaker import CLOSED, OPEN
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.plan import each_key
from kyma_proxy.telemetry.remedies import REJECTED_KEY, key_remedy, remedy

_log: Final = logging.getLogger("kyma-proxy")
INTERVAL_S: Final = 60.0
"""A source has one line of a kind in so many seconds."""
MAX_LINES: Final = 30
"""So many lines are written in that time about all sources."""
RETRY_S: Final = 1.0
_OPENED: Final = "opened"
_CLOSED: Final = "closed"
_REJECTED: Final = "rejected"


class _Subject(NamedTuple):
    """A source of the configuration and the model for which it is asked, which may be one that only a pattern knows."""

    source: Source
    model: str

    @property
    def name(self) -> str:
        which = f" with key number {self.source.key_number}" if self.source.siblings else ""
        return f"source {self.source.provider.name} {self.model}{which}"


class SourceNotices:
    """Looks at the sources of which the breaker table says that something may have changed."""

    def __init__(self, current: Callable[[], Snapshot], breakers: BreakerTable, clock: Callable[[], float]) -> None:
        self._current = current
        self._breakers = breakers
        self._clock = clock
        self._opened_at: dict[str, float] = {}  # by Source.key: those that were told to be open
        self._noted_at: dict[tuple[str, str], float] = {}  # by subject and kind, the oldest first
        self._waiting: set[str] = set()
        self._next = 0.0  # when to look at those again
        self._snapshot: Snapshot | None = None
        self._sources: dict[str, Source] = {}
        self._of_patterns: list[Source] = []

    def sweep(self) -> None:
        """Tell of what has changed. It is called at each tick, and costs nothing while nothing fails."""
        if self._breakers.changed or (self._waiting and self._clock() >= self._next):
            self._look(self._clock())

    def _look(self, now: float) -> None:
        changed = self._breakers.changed
        keys = sorted(changed | self._waiting)
        changed.clear()
        self._waiting.clear()
        noted_at = self._noted_at
        for noted in [noted for noted, at in noted_at.items() if now - at >= INTERVAL_S]:
            del noted_at[noted]
        snapshot = self._current()
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            sources = each_key(source for model in snapshot.entries for source in (*model.pool, *model.reserve))
            self._sources = {source.key: source for source in sources}
            self._of_patterns = [source for source in self._sources.values() if source.model.endswith("*")]
        for key in keys:
            subject = self._subject_of(key)
            if subject is None:  # a reload has removed it
                self._opened_at.pop(key, None)
            else:
                self._look_at(key, subject, snapshot, now)
        self._next = now + RETRY_S

    def _subject_of(self, key: str) -> _Subject | None:
        """The source with this key; None if it is no longer in the configuration."""
        source = self._sources.get(key)
        if source is not None:
            return _Subject(source, source.model)
        for source in self._of_patterns:
            rest = key.removeprefix(f"{source.key} ")
            if rest != key and " " not in rest:
                return _Subject(source, source.model[:-1] + rest)
        return None

    def _look_at(self, key: str, subject: _Subject, snapshot: Snapshot, now: float) -> None:
        source = subject.source
        self._look_at_key(key, source, snapshot, now)
        endpoints = self._breakers.endpoints_of(key).values()
        states = [breaker.state(now) for breaker in endpoints]
        is_noted_open = key in self._opened_at
        if OPEN in states and not is_noted_open:
            if self._may_write(source.key, _OPENED, now):
                self._opened_at[key] = now
                worst = max(endpoints, key=lambda breaker: breaker.open_for_s(now))
                seconds, failure = math.ceil(worst.open_for_s(now)), worst.reason()
                whom = " for one account" if worst.allows(now) else ""  # whose requests alone have failed
                why = "" if failure is None else f", as it failed ({failure.detail}): {remedy(failure, source)}"
                _log.warning("%s", snapshot.substitutions.shown(f"{subject.name} is not asked for {seconds} s{whom}{why}"))
            else:
                self._waiting.add(key)
        elif is_noted_open and all(state == CLOSED for state in states):
            if self._may_write(source.key, _CLOSED, now):
                seconds = round(now - self._opened_at.pop(key))
                _log.info("%s", snapshot.substitutions.shown(f"{subject.name} is asked again, after {seconds} s"))
            else:
                self._waiting.add(key)

    def _look_at_key(self, key: str, source: Source, snapshot: Snapshot, now: float) -> None:
        failure, provider = self._breakers.source_failure(key), source.provider
        if failure is None or failure.status != REJECTED_KEY:
            return
        if self._may_write(f"{provider.name} {source.key_number}", _REJECTED, now):
            which = f"key number {source.key_number}" if source.siblings else "key"
            words = f"provider {provider.name} rejects its {which} ({failure.detail}): "
            _log.warning("%s", snapshot.substitutions.shown(words + key_remedy(provider, source.key_number, snapshot)))

    def _may_write(self, subject: str, kind: str, now: float) -> bool:
        """True if a line may be written now; it is taken as written."""
        if (subject, kind) in self._noted_at or len(self._noted_at) >= MAX_LINES:
            return False
        self._noted_at[subject, kind] = now
        return True
