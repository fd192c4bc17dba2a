"""Makes a worker's reports of what it has counted, and adds the reports of all workers up in the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kyma_proxy.core.exchange import State
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.history import HourlyCounts, hour_of
from kyma_proxy.ops import memory
from kyma_proxy.ops.workers.messages import HistogramCounts, Report, SeriesCounts, SourceCounts
from kyma_proxy.telemetry.counters import Counters, Ending, Histogram, Series

RESIDENT: Final = "kyma_workers_resident_memory_bytes"
_HOURS: Final = 24
_OF_THE_SUPERVISOR: Final = ("kyma_config_last_reload_success", "kyma_config_last_reload_success_timestamp_seconds")


class _Reported:
    """The counts of an hour that were reported."""

    __slots__ = ("failed", "hour", "succeeded")

    def __init__(self, hour: int) -> None:
        self.hour = hour
        self.succeeded = self.failed = 0


class Reporter:
    """Makes reports, each of what has happened since the last one."""

    def __init__(
        self, counters: Counters, breakers: BreakerTable, gauges: Callable[[], Mapping[str, Callable[[], float]]],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._counters = counters
        self._breakers = breakers
        self._gauges = gauges
        self._clock = clock
        self._of_sources: dict[str, _Reported] = {}
        self._of_models: dict[str, _Reported] = {}
        self._asked_at: dict[str, float] = {}

    def report(self) -> Report:
        """The next report."""
        now = self._clock()
        taken = self._counters.take()
        gauges = {name: read() for name, read in self._gauges().items() if name not in _OF_THE_SUPERVISOR}
        gauges[RESIDENT] = float(memory.resident_bytes())
        return Report(
            [_series_counts(key, one) for key, one in taken.series.items()],
            list(taken.attempts.items()),
            taken.rejected,
            taken.stale_retries,
            self._sources(now),
            self._models(now),
            gauges,
        )

    def _sources(self, now: float) -> list[SourceCounts]:
        found = []
        for key, endpoint, breaker in self._breakers.known():
            name = f"{key} {endpoint}"
            if breaker.asked_at == self._asked_at.get(name, 0.0) and name not in self._of_sources:
                continue
            succeeded, failed = self._more(self._of_sources, name, breaker.hours, now)
            if succeeded or failed or breaker.asked_at != self._asked_at.get(name):
                self._asked_at[name] = breaker.asked_at
                streamed, whole = (breaker.first_bytes_of(streams=streams).average_s for streams in (True, False))
                is_main = breaker.missing_at > 1
                found.append(SourceCounts(key, endpoint, is_main, breaker.asked_at, streamed, whole, succeeded, failed))
        return found

    def _models(self, now: float) -> list[tuple[str, int, int]]:
        found = [(name, *self._more(self._of_models, name, hours, now)) for name, hours in self._breakers.hours_of_models()]
        return [one for one in found if one[1] or one[2]]

    def _more(self, reported: dict[str, _Reported], name: str, hours: HourlyCounts, now: float) -> tuple[int, int]:
        """Successes and failures that were not reported: since the hour of the last report, or of the last day."""
        hour = hour_of(now)
        before = reported.get(name)
        if before is None:
            before = reported[name] = _Reported(hour - _HOURS + 1)
        succeeded, failed = hours.of_hour(before.hour)
        more, more_failed = succeeded - before.succeeded, failed - before.failed
        while before.hour < hour:
            before.hour += 1
            succeeded, failed = hours.of_hour(before.hour)
            more, more_failed = more + succeeded, more_failed + failed
        before.succeeded, before.failed = succeeded, failed
        return more, more_failed


def absorb(report: Report, counters: Counters, breakers: BreakerTable, now: float) -> None:
    """Add what a worker has counted to what is counted here."""
    for one in report.series:
        series = counters.series.get(one.key)
        if series is None:
            series = counters.series[one.key] = Series()
        _add_series(series, one)
    for failed, count in report.attempts:
        counters.attempts[failed] = counters.attempts.get(failed, 0) + count
    for code, count in report.rejected.items():
        counters.rejected[code] = counters.rejected.get(code, 0) + count
    counters.stale_retries += report.stale_retries
    for source in report.sources:
        breaker = breakers.at(source.key, source.endpoint, is_main=source.is_main)
        breaker.asked_at = max(breaker.asked_at, source.asked_at)
        for streams, seconds in ((True, source.streamed_s), (False, source.whole_s)):
            if seconds:
                breaker.first_bytes_of(streams=streams).average_s = seconds
        breaker.hours.add_counted(now, source.succeeded, source.failed)
    for model, successes, failures in report.models:
        breakers.of_model(model).add_counted(now, successes, failures)


def _series_counts(key: tuple[str, str, str], series: Series) -> SeriesCounts:
    return SeriesCounts(
        key, [(one.status, one.state.value, one.count) for one in series.endings], series.bytes_in, series.bytes_out,
        series.prompt, series.completion, series.cached, *map(_histogram_counts, _histograms(series)),
    )  # fmt: skip


def _histograms(series: Series) -> tuple[Histogram, Histogram, Histogram]:
    return series.first_byte, series.duration, series.overhead


def _histogram_counts(histogram: Histogram) -> HistogramCounts:
    return HistogramCounts(histogram.counts, histogram.total)


def _add_series(series: Series, more: SeriesCounts) -> None:
    for status, end, count in more.endings:
        state = State(end)
        known = next((one for one in series.endings if one.status == status and one.state is state), None)
        if known is None:
            series.endings.append(Ending(status, state, count))
        else:
            known.count += count
    series.bytes_in += more.bytes_in
    series.bytes_out += more.bytes_out
    series.prompt = _sum(series.prompt, more.prompt)
    series.completion = _sum(series.completion, more.completion)
    series.cached = _sum(series.cached, more.cached)
    for histogram, counted in zip(_histograms(series), (more.first_byte, more.duration, more.overhead), strict=True):
        histogram.counts = [one + other for one, other in zip(histogram.counts, counted.counts, strict=True)]
        histogram.total += counted.total


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other
