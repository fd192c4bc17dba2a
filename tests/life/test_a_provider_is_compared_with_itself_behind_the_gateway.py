"""`kyma-proxy bench` asks a provider directly and through a gateway by turns, within its bounds, and writes no key."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kyma_proxy.ops.bench.asking import Asked
from kyma_proxy.ops.bench.bounds import Bounds, Price
from kyma_proxy.ops.bench.figures import DIRECT, GATEWAY, interval, rows
from kyma_proxy.ops.bench.report import plot, table, verdicts
from tests.harness import providers, whole
from tests.processes import command, environment, simulated_provider
from tests.waiting import PATIENCE_S, wait_until

KEY = "sk-this-is-secret"


def bench(url: str, out: Path, *arguments: str, model: str = "sim-1") -> tuple[int, str, str]:
    done = command("bench", "--url", url, "--model", model, "--out", out, "--rate", "200", *arguments, THE_KEY=KEY)
    return done.returncode, done.stdout, done.stderr


def test_both_ways_are_asked_as_often_and_no_more_than_the_bound(tmp_path: Path) -> None:
    with simulated_provider() as url:
        code, told, errors = bench(url, tmp_path / "out", "--requests", "22", "--key-env", "THE_KEY")
    assert code == 0, errors
    asked = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [sum(one["way"] == way for one in asked) for way in (DIRECT, GATEWAY)] == [10, 10]  # and one each to begin with
    assert all(one["failure"] is None and one["first_s"] > 0 and one["completion_tokens"] for one in asked)
    assert "| time to the first event, ms |" in told
    ET.parse(tmp_path / "out" / "bench.svg")
    assert KEY not in told + errors + "".join(path.read_text() for path in (tmp_path / "out").iterdir())


def test_without_a_bound_nothing_is_asked(tmp_path: Path) -> None:
    code, _, errors = bench("http://127.0.0.1:9/v1", tmp_path)
    assert code != 0
    assert "--requests N" in errors


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--max-usd", "1"), "--price IN/OUT"),
        (("--requests", "1", "--key-env", "NOT_THERE"), "no such variable"),
        (("--requests", "9"), "the first request, direct, failed"),
    ],
)
def test_what_can_not_be_asked_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    code, told, errors = bench("http://127.0.0.1:9/v1", tmp_path, *arguments)
    assert (code, told) == (1, "")
    assert reason in errors
    assert errors.strip().count("\n") == 0


async def test_a_rejected_key_ends_it_after_one_request(tmp_path: Path) -> None:
    async with providers() as (provider,):
        provider.judge = lambda _: whole(b'{"error":"no"}', status="401 No")
        url = f"http://127.0.0.1:{provider.port}/v1"
        code, _, errors = await asyncio.to_thread(bench, url, tmp_path, "--requests", "50", "--key-env", "THE_KEY")
        assert (code, len(provider.received)) == (1, 1)
        assert provider.received[0].headers["authorization"] == f"Bearer {KEY}"
    assert "401" in errors
    assert KEY not in errors


def test_a_request_counts_with_the_most_that_it_may_cost_until_its_use_is_known() -> None:
    bounds = Bounds(None, 0.001, Price(1.0, 10.0))
    taken = bounds.take(100, 50)
    assert taken == pytest.approx(0.0006)
    assert bounds.take(100, 50) is None
    assert taken is not None
    bounds.settle(taken, 20, 10)
    assert bounds.usd == pytest.approx(0.00012)
    assert bounds.take(100, 50) is not None


def test_unknown_use_keeps_what_was_taken() -> None:
    bounds = Bounds(None, 1.0, Price(1.0, 10.0))
    taken = bounds.take(100, 50) or 0.0
    bounds.settle(taken, None, 10)
    assert bounds.usd == taken


def asked(way: str, number: int, first_ms: float) -> Asked:
    return Asked(way, number, None, first_ms / 1000, first_ms / 1000, (0.01, 0.02), 3, 5, 100.0)


def test_a_difference_within_the_noise_is_called_so() -> None:
    ones = [asked(DIRECT, at, 100 + at % 7) for at in range(30)]
    same = [asked(GATEWAY, at, 100 + (at + 3) % 7) for at in range(30)]
    slower = [asked(GATEWAY, at, 110 + at % 7) for at in range(30)]
    assert "no difference outside the noise" in verdicts(rows([*ones, *same]))[0]
    assert "+10.00" in verdicts(rows([*ones, *slower]))[0]


def test_a_percentile_is_told_only_if_values_lie_above_it() -> None:
    few = [asked(way, at, 100) for way in (DIRECT, GATEWAY) for at in range(20)]
    titles = [row.title for row in rows(few)]
    assert not any("99th" in title and "first" in title for title in titles)
    assert interval([1.0, 2.0, 3.0]) is None


def test_failures_are_counted_and_a_plot_without_values_is_still_a_picture() -> None:
    failed = [Asked(DIRECT, 0, "500: no"), Asked(DIRECT, 1, "500: no"), Asked(GATEWAY, 0, "timeout <&>")]
    assert "- 2 × 500: no" in table(failed)
    ET.fromstring(plot(failed, "a title with <&>"))


def test_who_ends_it_early_is_told_what_has_ended(tmp_path: Path) -> None:
    """It is paid for. So is what is under way, but nobody waits for that."""
    log = tmp_path / "told"
    with simulated_provider() as url, log.open("wb") as told:
        line = [
            sys.executable, "-m", "kyma_proxy", "bench", "--url", url, "--model", "sim-1", "--requests", "100000", "--rate",
            "50", "--out", str(tmp_path / "out"),
        ]  # fmt: skip
        with subprocess.Popen(
            line, env=environment(), stdout=told, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it  # noqa: PLW1509
        ) as process:  # fmt: skip
            try:
                wait_until(lambda: b"Ctrl-C ends it" in log.read_bytes() or process.poll() is not None)
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE_S)
            finally:
                process.kill()
    assert "direct: " in log.read_text()
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) is not None
