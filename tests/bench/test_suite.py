"""The suite keeps what it has measured, says what it could not measure, and leaves nothing running behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bench import results, suite
from bench.processes import tree
from bench.results import Run
from bench.scenario import Load, Point, Scenarios
from bench.script import Script
from bench.systems.contract import Place, System
from tests.processes import ROOT, environment
from tests.waiting import wait_until

RELAY = """
import asyncio, os, sys
port, provider, most = map(int, sys.argv[1:])
served = 0

async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()

async def serve(reader, writer):
    global served
    served += 1
    if served > most:
        print("out of luck", flush=True)
        os._exit(3)
    answer, ask = await asyncio.open_connection("127.0.0.1", provider)
    await asyncio.gather(copy(reader, ask), copy(answer, writer), return_exceptions=True)

async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()

asyncio.run(main())
"""


class Relay(System, frozen=True, kw_only=True):
    """A system that passes bytes on, and dies of one connection too many."""

    most: int = 1_000_000
    is_installed: bool = True

    def command(self) -> Sequence[str] | None:
        return (sys.executable, "-c", RELAY) if self.is_installed else None

    def version(self) -> str:
        return "1"

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        return [str(port), str(place.provider_port), str(self.most)]


def relay(name: str, *, most: int = 1_000_000, is_installed: bool = True) -> Relay:
    return Relay(name=name, title=name, how_to_get=f"buy {name}", most=most, is_installed=is_installed)


def point(scenario: str, report: tuple[str, ...], script: Script, load: Load, *, rounds: int = 2) -> Point:
    return Point(
        scenario=scenario, title=scenario, name="", provider=script, tls=False, load=load, gateway={}, more_models=0,
        accounts=0, fresh=False, report=report, systems=(), rounds=rounds,
    )  # fmt: skip


SHORT = point(
    "short", ("cpu_us", "added_first_byte_p50_us"), Script(), Load(connections=2, requests=20, warm=2, timeout_s=10.0)
)
STREAM = point(
    "stream",
    ("cpu_us", "added_delay_p50_us"),
    Script(events=30, gap_ms=10, tick_ms=1),
    Load(shape="streams", connections=4, window_s=0.1, timeout_s=10.0),
)


def measure(out: Path, points: Sequence[Point], *systems: Relay) -> Run:
    return suite.measure("quick", Scenarios(tuple(points), (), {}), {one.name: one for one in systems}, out, pin=False)


@pytest.mark.timeout(120)
def test_every_system_is_measured_in_every_round_and_the_file_holds_it_all(tmp_path: Path) -> None:
    before = tree(os.getpid())
    run = measure(tmp_path / "run.json", [SHORT, STREAM], relay("one"), relay("other"))
    assert results.read(tmp_path / "run.json") == run
    for measured in run.measured:
        assert {name: taken.failed for name, taken in measured.taken.items()} == {"direct": None, "one": None, "other": None}
        for name in ("one", "other"):
            assert len(measured.taken[name].values["cpu_us"]) == 2
    assert len(run.measured[1].taken["direct"].values["delay_p50_us"]) == 2
    assert set(run.measured[1].taken["one"].histograms) == {"delay", "first_byte"}
    assert set(tree(os.getpid())) <= set(before)


@pytest.mark.timeout(120)
def test_who_dies_half_way_has_failed_with_its_last_words_and_the_others_go_on(tmp_path: Path) -> None:
    run = measure(tmp_path / "run.json", [SHORT, STREAM], relay("frail", most=4), relay("sound"))
    frail = run.measured[0].taken["frail"]
    assert frail.values == {}
    assert frail.failed is not None
    assert "it died: out of luck" in frail.failed
    assert run.measured[0].taken["sound"].failed is None
    assert len(run.measured[1].taken["sound"].values["cpu_us"]) == 2


@pytest.mark.timeout(120)
def test_who_is_not_installed_is_absent_and_is_no_failure(tmp_path: Path) -> None:
    run = measure(tmp_path / "run.json", [SHORT], relay("sound"), relay("dear", is_installed=False))
    assert run.absent == {"dear": "buy dear"}
    assert "dear" not in run.measured[0].taken


@pytest.mark.timeout(120)
def test_a_rate_that_is_sustained_is_found(tmp_path: Path) -> None:
    load = Load(shape="search", connections=8, most_ms=1000.0, window_s=0.1, timeout_s=10.0)
    run = measure(
        tmp_path / "run.json", [point("sustained", ("sustained_per_s",), Script(first_ms=1), load, rounds=1)], relay("one")
    )
    (found,) = run.measured[0].taken["one"].values["sustained_per_s"]
    assert found >= 200


def is_running(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_what_it_has_and_ends_what_it_has_started(tmp_path: Path, sent: signal.Signals) -> None:
    out = tmp_path / "run.json"
    words = ["--plan", "all", "--only", "features", "--systems", "gateway-interpreted", "--no-pin", "--out", str(out)]
    command = [sys.executable, "-m", "bench.suite", *words]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        assert bench.stderr is not None
        while "gateway-interpreted: cpu_us" not in (line := bench.stderr.readline()):
            assert line, "it ended before anything was measured"
        started = tree(bench.pid)
        bench.send_signal(sent)
        report, said = bench.communicate(timeout=60)
    assert bench.returncode == 130
    assert "interrupted: what was measured until now is kept" in said
    assert "not complete" in report
    run = results.read(out)
    assert run.interrupted
    assert run.measured[0].taken["gateway-interpreted"].values["cpu_us"]
    wait_until(lambda: not any(map(is_running, started)))


def test_a_word_that_the_suite_does_not_know_is_told_what_it_knows() -> None:
    command = [sys.executable, "-m", "bench.suite", "--only", "shrot"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "there is no scenario shrot" in done.stderr
    assert "short" in done.stderr


def test_a_file_that_is_no_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(msgspec.ValidationError):
        results.read(tmp_path / "run.json")
