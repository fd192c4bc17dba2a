"""A late event is told with what the gateway did at that moment, and the gateway runs within the wrapper as it does alone."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from array import array
from pathlib import Path

import msgspec
import pytest

from bench.client import request_bytes
from bench.delay.__main__ import MarkedGateway, Seen, report
from bench.delay.arrivals import Arrivals, read
from bench.delay.causes import NOT_HELD, Mark, late_events, own_holds
from bench.delay.plot import write_plot
from bench.harness import start_provider
from bench.processes import ROOT, free_port, is_answering
from bench.systems.contract import Deployment
from bench.systems.target import start

MS = 1_000_000


def arrivals(*events: tuple[int, int]) -> Arrivals:
    """Events by the millisecond at which each came, and the milliseconds by which it was late."""
    return Arrivals(array("q", [came * MS for came, _ in events]), array("q", [delay * MS for _, delay in events]))


def mark(kind: str, start_ms: int, end_ms: int, own_ms: int | None = None) -> Mark:
    return Mark(
        kind, start_ms * MS, end_ms * MS, (end_ms - start_ms if own_ms is None else own_ms) * MS, f"what the {kind} did"
    )


def test_a_late_event_has_the_marks_between_its_sending_and_its_coming() -> None:
    seen = arrivals((100, 1), (130, 20), (132, 18), (500, 9))
    marks = [mark("collector", 112, 125), mark("ledger", 10, 60), mark("log", 491, 492), mark("timer", 900, 950)]
    first, second = late_events(seen.came_ns, seen.delay_ns, marks, 5 * MS)
    assert (first.at_ns, first.count, first.worst_ns) == (130 * MS, 2, 20 * MS)
    assert [one.kind for one in first.marks] == ["collector"]
    assert first.cause == "collector 13.0 ms (what the collector did)"
    assert [one.kind for one in second.marks] == ["log"]


def test_a_late_event_without_a_mark_is_not_the_gateways() -> None:
    (late,) = late_events(array("q", [100 * MS]), array("q", [9 * MS]), [], 5 * MS)
    assert late.cause == NOT_HELD


def test_only_what_is_no_lack_of_a_processor_counts_as_the_gateways_own() -> None:
    starved, busy = mark("held", 0, 400, own_ms=0), mark("held", 500, 520, own_ms=20)
    assert own_holds([starved, busy, mark("collector", 0, 90)], 5 * MS) == [busy]


def test_the_report_tells_percentiles_and_the_difference_to_nginx() -> None:
    seen = {name: Seen(arrivals(*((at, 1) for at in range(100)))) for name in ("direct", "nginx", "gateway")}
    told = report(100, seen, 5.0)
    assert "99.9th percentile: +0.00 ms beside nginx" in told
    assert "No event was late by 5 ms." in told
    assert "The gateway itself never held up its loop" in told


def test_arrivals_are_read_as_they_were_written(tmp_path: Path) -> None:
    seen = arrivals((1, 2), (3, 4))
    seen.save(tmp_path / "arrivals")
    assert read(tmp_path / "arrivals") == seen


def test_the_plot_has_a_panel_for_each_system_and_one_for_the_marks(tmp_path: Path) -> None:
    seen = {name: arrivals(*((at, 1) for at in range(50))) for name in ("gateway", "nginx")}
    write_plot(tmp_path / "plot.svg", "a title", seen, [mark("collector", 10, 20)], 0.0)
    texts = {one.text for one in ET.parse(tmp_path / "plot.svg").iter() if one.text}
    assert {"a title", "gateway", "nginx", "what the gateway did", "collector", "held"} <= texts


@pytest.mark.timeout(90)
def test_the_wrapped_gateway_serves_and_notes_its_sweeper_its_log_and_its_ledger(tmp_path: Path) -> None:
    model = "short-after-300ms"  # the sweeper has its turn meanwhile
    provider = start_provider(tmp_path / "provider", None, port := free_port())
    try:
        models, bytecode = ("short", model), tmp_path / "bytecode"
        deployment = Deployment(provider_port=port, core=None, models=models, bytecode=bytecode, accounts=1)
        target = start(MarkedGateway(path=ROOT / "proxy", marks=tmp_path / "marks.json"), deployment)
        try:
            assert is_answering(target.port, request_bytes(target.port, model, stream=False, headers=target.headers))
        finally:
            target.stop()
    finally:
        provider.stop()
    marks = msgspec.json.decode((tmp_path / "marks.json").read_bytes(), type=list[Mark])
    assert {"sweeper", "log", "ledger"} <= {one.kind for one in marks}
    assert all(one.end_ns >= one.start_ns and one.own_ns >= 0 for one in marks)
