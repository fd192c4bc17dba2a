"""Reports of several workers add up to what one process would have counted."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.exchange import State
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.ops.workers.messages import FromWorker, Report
from kyma_proxy.ops.workers.reports import Reporter, absorb
from kyma_proxy.telemetry.counters import Counters, Ending, Series

HOUR_S = 3600.0
KEYS = (("chat", "m", "p"), ("messages", "m", "q"))


def count(counters: Counters, key: tuple[str, str, str], status: int, seconds: float) -> None:
    """Count a request, as it is counted at its end."""
    series = counters.series.setdefault(key, Series())
    state = State.COMPLETED if status == 200 else State.FAILED
    for ending in series.endings:
        if ending.status == status:
            ending.count += 1
            break
    else:
        series.endings.append(Ending(status, state))
    series.bytes_in += 10
    series.prompt = (series.prompt or 0) + 3
    series.duration.observe(seconds)
    counters.attempts[*key, "connect"] = counters.attempts.get((*key, "connect"), 0) + 1
    counters.reject("bad_http")
    counters.stale_retries += 1


def shown(counters: Counters) -> object:
    """Everything that was counted, in a form that can be compared."""
    return (
        {
            key: (
                sorted((one.status, one.state.value, one.count) for one in series.endings),
                series.bytes_in, series.prompt, series.completion, series.duration.counts, round(series.duration.total, 6),
            )
            for key, series in counters.series.items()
        },
        counters.attempts, counters.rejected, counters.stale_retries,
    )  # fmt: skip


def sent(report: Report) -> Report:
    """The report as it arrives."""
    received: Report = msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=FromWorker)
    return received


class Process:
    """The counts of one process."""

    def __init__(self) -> None:
        self.counters, self.breakers, self.now = Counters(), BreakerTable(), 100.0
        self.reporter = Reporter(self.counters, self.breakers, lambda: {"kyma_in_flight": lambda: 2}, lambda: self.now)

    def did(self, at: int, now: float, *, succeeded: bool) -> None:
        """A source was asked, and the request ended so."""
        self.now = now
        breaker = self.breakers.at("p m", "chat", is_main=True)
        breaker.acquire(now)
        breaker.hours.add(now, succeeded=succeeded)
        self.breakers.of_model("m").add(now, succeeded=succeeded)
        count(self.counters, KEYS[at % 2], 200 if succeeded else 502, 0.01 * at)


EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0, HOUR_S / 2), st.booleans(), st.booleans()), max_size=40
)  # which worker, how much later, if it succeeds, and if a report follows


@given(EVENTS)
def test_reports_of_any_workers_at_any_time_add_up_to_what_one_process_counts(
    events: list[tuple[int, float, bool, bool]],
) -> None:
    one, workers, supervisor = Process(), [Process() for _ in range(3)], Process()
    now = 100.0
    for at, (which, later, succeeded, reports) in enumerate(events):
        now += later
        one.did(at, now, succeeded=succeeded)
        workers[which].did(at, now, succeeded=succeeded)
        if reports:
            absorb(sent(workers[which].reporter.report()), supervisor.counters, supervisor.breakers, now)
    for worker in workers:
        worker.now = now
        absorb(sent(worker.reporter.report()), supervisor.counters, supervisor.breakers, now)
        last = worker.reporter.report()
        assert (last.series, last.sources, last.models, last.attempts) == ([], [], [], [])
    assert shown(supervisor.counters) == shown(one.counters)
    if events:
        assert supervisor.breakers.asked_at("p m") == one.breakers.asked_at("p m")
        assert supervisor.breakers.of_model("m").sums(now) == one.breakers.of_model("m").sums(now)
        assert supervisor.breakers.at("p m", "chat").hours.sums(now) == one.breakers.at("p m", "chat").hours.sums(now)


def test_a_success_that_is_taken_back_is_taken_back_everywhere() -> None:
    worker, supervisor = Process(), Process()
    worker.did(0, 100.0, succeeded=True)
    absorb(sent(worker.reporter.report()), supervisor.counters, supervisor.breakers, 100.0)
    hours = worker.breakers.at("p m", "chat").hours
    hours.take_back(101.0)
    hours.add(101.0, succeeded=False)
    worker.now = 101.0
    absorb(sent(worker.reporter.report()), supervisor.counters, supervisor.breakers, 101.0)
    assert supervisor.breakers.at("p m", "chat").hours.sums(101.0) == (0, 1)


def test_gauges_of_the_configuration_are_not_added_up() -> None:
    worker = Process()
    reporter = Reporter(
        worker.counters, worker.breakers,
        lambda: {"kyma_in_flight": lambda: 2, "kyma_config_last_reload_success": lambda: 1}, lambda: 1.0,
    )  # fmt: skip
    gauges = reporter.report().gauges
    assert gauges["kyma_in_flight"] == pytest.approx(2)
    assert "kyma_config_last_reload_success" not in gauges
    assert gauges["kyma_workers_resident_memory_bytes"] > 2**20
