"""The suite: it saves all samples, reports what it could not measure, and leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bench import results, suite
from bench.harness import Harness, generate_load
from bench.histogram import summarize
from bench.load import LoadResult, Workload, run_load
from bench.processes import process_tree
from bench.results import Cores, Run
from bench.sampling import highest_rate, take_sample
from bench.scenario import Load, PlanName, Point, Scenarios
from bench.script import Script
from bench.systems.contract import Deployment, System
from bench.systems.target import Target
from tests.processes import ROOT, environment
from tests.waiting import wait_until

RELAY = """
import asyncio, os, sys
port, provider, max_connections = map(int, sys.argv[1:])
served = 0

async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()

async def serve(reader, writer):
    global served
    served += 1
    if served > max_connections:
        print("too many connections", flush=True)
        os._exit(3)
    provider_reader, provider_writer = await asyncio.open_connection("127.0.0.1", provider)
    await asyncio.gather(copy(reader, provider_writer), copy(provider_reader, writer), return_exceptions=True)

async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()

asyncio.run(main())
"""


class Relay(System, frozen=True, kw_only=True):
    """A system that relays bytes, and dies of one connection too many."""

    max_connections: int = 1_000_000
    is_installed: bool = True

    def command(self) -> Sequence[str] | None:
        return (sys.executable, "-c", RELAY) if self.is_installed else None

    def version(self) -> str:
        return "1"

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        return [str(port), str(deployment.provider_port), str(self.max_connections)]


def relay(name: str, *, max_connections: int = 1_000_000, is_installed: bool = True) -> Relay:
    return Relay(
        name=name, title=name, install_hint=f"buy {name}", max_connections=max_connections, is_installed=is_installed
    )  # fmt: skip


def point(scenario: str, report: tuple[str, ...], script: Script, load: Load, *, rounds: int = 2) -> Point:
    return Point(
        scenario=scenario, title=scenario, name="", provider=script, tls=False, load=load, gateway={}, more_models=0,
        accounts=0, fresh=False, report=report, systems=(), rounds=rounds,
    )  # fmt: skip


SHORT = point(
    "short", ("cpu_us", "added_first_byte_p50_us"), Script(), Load(connections=2, requests=20, warm_up=2, timeout_s=10.0)
)
STREAM = point(
    "stream",
    ("cpu_us", "added_delay_p50_us"),
    Script(events=60, gap_ms=5, tick_ms=1),
    Load(shape="streams", connections=4, window_s=0.05, timeout_s=10.0),
    rounds=1,
)


def generate_here(workload: Workload, core: int | None) -> LoadResult:
    """Generate the load in this process, which spares the start of another one."""
    return asyncio.run(run_load(workload))


def measure(out: Path, points: Sequence[Point], *systems: Relay) -> Run:
    by_name = {one.name: one for one in systems}
    scenarios = Scenarios(tuple(points), (), {})
    return suite.measure("quick", scenarios, by_name, out, pin=False, generate=generate_here)


@pytest.mark.timeout(120)
def test_every_system_is_measured_in_every_round_and_the_file_holds_all_samples(tmp_path: Path) -> None:
    before = process_tree(os.getpid())
    run = measure(tmp_path / "run.json", [SHORT, STREAM], relay("one"), relay("other"))
    assert results.read(tmp_path / "run.json") == run
    for measurement, rounds in zip(run.measurements, (2, 1), strict=True):
        assert {name: one.failed for name, one in measurement.samples.items()} == {"direct": None, "one": None, "other": None}
        for name in ("one", "other"):
            assert len(measurement.samples[name].values["cpu_us"]) == rounds
    assert len(run.measurements[0].samples["direct"].values["first_byte_p50_us"]) == 2
    assert set(run.measurements[1].samples["one"].histograms) == {"delay", "first_byte"}
    assert set(process_tree(os.getpid())) <= set(before)


@pytest.mark.timeout(120)
def test_a_system_that_dies_has_failed_with_its_output_and_the_others_are_still_measured(tmp_path: Path) -> None:
    run = measure(tmp_path / "run.json", [SHORT, STREAM], relay("frail", max_connections=4), relay("sound"))
    frail = run.measurements[0].samples["frail"]
    assert frail.values == {}
    assert frail.failed is not None
    assert "the system died: too many connections" in frail.failed
    assert run.measurements[0].samples["sound"].failed is None
    assert len(run.measurements[1].samples["sound"].values["cpu_us"]) == 1


@pytest.mark.timeout(120)
def test_a_system_that_is_not_installed_is_absent_and_no_failure(tmp_path: Path) -> None:
    run = measure(tmp_path / "run.json", [SHORT], relay("sound"), relay("dear", is_installed=False))
    assert run.absent == {"dear": "buy dear"}
    assert "dear" not in run.measurements[0].samples


@pytest.mark.parametrize("limit_per_s", [60.0, 777.0, 40_000.0])
def test_the_search_finds_the_highest_sustained_rate_within_ten_percent(limit_per_s: float) -> None:
    rate = highest_rate(lambda rate_per_s: rate_per_s <= limit_per_s)
    assert rate is not None
    assert limit_per_s / 1.1 <= rate <= limit_per_s


def test_a_rate_that_fails_once_is_tried_once_more() -> None:
    tried: list[float] = []

    def fails_every_first_time(rate_per_s: float) -> bool:
        tried.append(rate_per_s)
        return rate_per_s <= 1000.0 and tried.count(rate_per_s) == 2

    rate = highest_rate(fails_every_first_time)
    assert rate is not None
    assert 900.0 < rate <= 1000.0


def test_the_search_ends_at_the_maximum_rate_and_finds_none_below_the_minimum() -> None:
    assert highest_rate(lambda rate_per_s: True, min_per_s=50.0, max_per_s=400.0) == pytest.approx(400.0, rel=0.1)
    assert highest_rate(lambda rate_per_s: False) is None


class OneTarget:
    """A harness whose only system answers late above a rate, and fails above twice that rate."""

    def __init__(self, limit_per_s: float) -> None:
        self.limit_per_s = limit_per_s
        self.workloads: list[Workload] = []

    def target(self, name: str, point: Point) -> Target:
        return Target(name=name, port=1)

    def start_target(self, name: str, point: Point) -> Target:
        return Target(name=name, port=1)

    def run_load(self, target: Target, workload: Workload) -> LoadResult:
        self.workloads.append(workload)
        if workload.load.rate_per_s > 2 * self.limit_per_s:
            raise RuntimeError("not done within 8 s")
        late = workload.load.rate_per_s > self.limit_per_s
        return LoadResult(first_byte=summarize([11_000_000 if late else 9_000_000]))


SEARCH = Load(shape="search", connections=8, max_p99_ms=10.0, window_s=0.5)


def test_a_sustained_rate_is_one_whose_p99_is_below_the_limit() -> None:
    harness = OneTarget(limit_per_s=300.0)
    sample = take_sample(harness, point("sustained", ("sustained_per_s",), Script(), SEARCH), "one", SEARCH)
    assert 300.0 / 1.1 <= sample.values["sustained_per_s"] <= 300.0
    first = harness.workloads[0].load
    assert (first.shape, first.rate_per_s, first.requests, first.warm_up, first.connections) == ("open", 50.0, 25, 2, 8)


def test_a_system_that_sustains_no_rate_has_failed() -> None:
    with pytest.raises(RuntimeError, match="it does not sustain 50 requests a second with the 99th percentile under 10 ms"):
        take_sample(OneTarget(limit_per_s=1.0), point("sustained", ("sustained_per_s",), Script(), SEARCH), "one", SEARCH)


def test_the_load_generator_runs_in_a_process_of_its_own(unused_tcp_port: int) -> None:
    result = generate_load(Workload(load=Load(requests=1), port=unused_tcp_port, model="short"), None)
    assert (result.failed or "").startswith("can't connect")


def is_running(pid: int) -> bool:
    """True if the process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def read_endless(plan: PlanName, path: Path) -> Scenarios:
    """A plan that lasts until it is interrupted."""
    return Scenarios((msgspec.structs.replace(SHORT, rounds=1_000_000),), (), {})


ENDLESS_SUITE = """
import sys
from bench import suite
from tests.bench.test_suite import read_endless, relay
sys.exit(suite.main(systems={"one": relay("one")}, read_plan=read_endless))
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_suite_saves_its_samples_and_ends_its_processes(tmp_path: Path, sent: signal.Signals) -> None:
    out = tmp_path / "run.json"
    command = [sys.executable, "-c", ENDLESS_SUITE, "--systems", "one", "--no-pin", "--out", str(out)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        assert bench.stderr is not None
        while "one: CPU (µs)" not in (line := bench.stderr.readline()):
            assert line, "it ended before anything was measured"
        started = process_tree(bench.pid)
        bench.send_signal(sent)
        report, progress = bench.communicate(timeout=60)
    assert bench.returncode == 130
    assert "interrupted: the samples taken until now are kept" in progress
    assert "not complete" in report
    run = results.read(out)
    assert run.interrupted
    assert run.measurements[0].samples["one"].values["cpu_us"]
    wait_until(lambda: not any(map(is_running, started)))


def test_an_unknown_scenario_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_of:
        suite.main(["--only", "shrot"])
    assert exit_of.value.code == 2
    error = capsys.readouterr().err
    assert "there is no scenario shrot" in error
    assert "short" in error


def test_a_file_that_is_not_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(msgspec.ValidationError):
        results.read(tmp_path / "run.json")


def test_a_point_with_more_connections_than_files_may_be_open_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.harness.raise_file_limit", lambda: 1_000)
    sent = []

    def generate(workload: Workload, core: int | None) -> LoadResult:
        sent.append(workload)
        return LoadResult()

    harness = Harness({}, Cores(), (), generate)
    try:
        target = Target(name="one", port=1)
        harness.run_load(target, Workload(load=Load(connections=450), port=1, model="short"))
        with pytest.raises(RuntimeError, match=r"451 connections need 1002 open files; a process may have 1000"):
            harness.run_load(target, Workload(load=Load(connections=451), port=1, model="short"))
    finally:
        harness.close()
    assert len(sent) == 1
