"""An operator reads on standard error which source opens or closes and which key is rejected: once a minute each."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.telemetry.source_notices import INTERVAL_S, MAX_LINES, SourceNotices
from tests.factories import default_snapshot, snapshot
from tests.harness import both, whole
from tests.waiting import until

MANY = "providers:\n  - {name: one, base_url: http://one.example/v1, dialect: openai}\nmodels:\n" + "".join(
    f"  - {{id: m{at}, pool: [{{provider: one, model: real-{at}}}]}}\n" for at in range(2 * MAX_LINES)
)
ENDPOINT = "chat/completions"


def status(code: int, retry_after: int | None = None) -> AttemptFailure:
    return AttemptFailure(FailureKind.STATUS, "alpha", f"answered {code}", code, retry_after)


class Watched:
    """The notices of a table of breakers, at moments that the test chooses."""

    def __init__(self, caplog: pytest.LogCaptureFixture, of: Snapshot | None = None) -> None:
        caplog.set_level(logging.INFO, "kyma-proxy")
        self.caplog = caplog
        self.now = 1000.0
        self.table = BreakerTable()
        self.snapshot = default_snapshot() if of is None else of
        self.apply()
        self.notices = SourceNotices(lambda: self.snapshot, self.table, lambda: self.now)

    def apply(self) -> None:
        entries = self.snapshot.entries
        self.table.retain([one for model in entries for one in (*model.pool, *model.reserve)], [one.id for one in entries])

    def fail(
        self, failure: AttemptFailure, *, key: str = "alpha vendor/small-1", times: int = 4, at: str = ENDPOINT,
        account: str | None = None,
    ) -> None:  # fmt: skip
        breaker = self.table.at(key, at)
        for _ in range(times):
            breaker.acquire(self.now, account).failure(self.now, failure, lambda: 0.0)

    def answer(self, *, key: str = "alpha vendor/small-1", at: str = ENDPOINT) -> None:
        self.table.at(key, at).acquire(self.now).success(self.now)

    def lines(self, after: float = 0.0) -> list[str]:
        """What is told when so many seconds have passed."""
        self.now += after
        self.caplog.clear()
        self.notices.sweep()
        return [record.getMessage() for record in self.caplog.records]


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        (status(503), "the fault is the provider's"),
        (status(402), "add some at the provider"),
        (status(403), "its permissions"),
        (status(429), "a higher one, or add another source"),
        (AttemptFailure(FailureKind.CONNECT, "alpha", "no connection: refused"), "reaches alpha.example: its DNS"),
        (AttemptFailure(FailureKind.CONNECT_TIMEOUT, "alpha", "no connection within 2 s"), "reaches alpha.example: its DNS"),
        (AttemptFailure(FailureKind.FIRST_BYTE_TIMEOUT, "alpha", "no first byte within 60 s"), "`timeouts.first_byte`"),
        (AttemptFailure(FailureKind.IDLE_TIMEOUT, "alpha", "was silent"), "`timeouts.idle`"),
        (AttemptFailure(FailureKind.NO_ANSWER, "alpha", "answered with nothing"), "`base_url` and `dialect`"),
        (AttemptFailure(FailureKind.BROKEN, "alpha", "broke off"), "the fault is the provider's"),
        (AttemptFailure(FailureKind.OVERTAKEN, "alpha", "another was faster"), "`hedge_after`"),
    ],
)
def test_a_source_that_opens_is_told_with_its_failure_and_a_remedy(
    failure: AttemptFailure, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(caplog)
    watched.fail(failure)
    (line,) = watched.lines()
    assert line.startswith("source alpha vendor/small-1 is not asked for ")
    assert failure.detail in line
    assert remedy in line
    assert watched.lines(1.0) == []


def test_a_source_that_fails_for_one_account_alone_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog)
    watched.fail(status(503), account="guilty")
    (line,) = watched.lines()
    assert line.startswith("source alpha vendor/small-1 is not asked for 10 s for one account, as it failed (answered 503): ")


def test_a_single_failure_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog)
    watched.fail(status(503), times=1)
    assert watched.lines() == []


def test_a_source_that_closes_is_told_once_it_has_answered(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog)
    watched.fail(status(503))
    assert len(watched.lines()) == 1
    assert watched.lines(30.0) == []  # half-open: nobody knows yet
    watched.answer()
    assert watched.lines() == ["source alpha vendor/small-1 is asked again, after 30 s"]


def test_a_trial_that_fails_is_no_new_line(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog)
    watched.fail(status(503))
    told = watched.lines()
    for _ in range(20):
        watched.now += 130.0
        watched.fail(status(503), times=1)
        told += watched.lines()
    assert len(told) == 1


def test_a_failure_at_several_endpoints_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog)
    refused = AttemptFailure(FailureKind.CONNECT, "alpha", "no connection: refused")
    for endpoint in (ENDPOINT, "embeddings", "responses"):
        watched.fail(refused, at=endpoint)
    assert len(watched.lines()) == 1


def test_a_source_that_comes_and_goes_has_one_line_of_a_kind_in_a_minute_and_the_last_is_true(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched(caplog)
    told: list[tuple[float, str]] = []
    for _ in range(40):
        watched.fail(status(503))
        told += [(watched.now, line) for line in watched.lines()]
        watched.now += 12.5 + 0.01
        watched.table.at("alpha vendor/small-1", ENDPOINT).close()
        told += [(watched.now, line) for line in watched.lines()]
    watched.fail(status(503))
    for _ in range(100):
        told += [(watched.now, line) for line in watched.lines(1.0)]
    for kind in ("is not asked", "is asked again"):
        moments = [at for at, line in told if kind in line]
        assert len(moments) > 5
        assert all(after - before >= INTERVAL_S for before, after in itertools.pairwise(moments))
    assert "is not asked" in told[-1][1]


def test_a_rejected_key_is_told_at_once_for_the_provider_and_with_the_variable_that_holds_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched(caplog)
    watched.fail(status(401), times=1)
    (line,) = watched.lines()
    assert line.startswith("provider alpha rejects its key (answered 401): give ${ALPHA_KEY} a valid one, and restart")
    watched.fail(status(401), times=1, at="embeddings")
    assert [line for line in watched.lines(30.0) if "rejects" in line] == []
    watched.fail(status(401), times=1)
    assert len([line for line in watched.lines(40.0) if "rejects" in line]) == 1


def test_a_key_that_is_not_there_or_not_in_a_variable_has_its_own_remedy(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog)
    watched.fail(status(401), key="beta small", times=1)
    watched.fail(status(401), key="claude claude-sonnet", times=1)
    lines = watched.lines()
    assert "provider beta rejects its key (answered 401): the configuration has none for it, set its `api_key`" in lines
    assert (
        "provider claude rejects its key (answered 401): put a valid one where the configuration has it; a reload takes it"
        in lines
    )
    assert not any("secret-of" in line for line in lines)


def test_many_sources_that_open_at_once_do_not_flood_the_log_and_none_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog, snapshot(MANY))
    for at in range(2 * MAX_LINES):
        watched.fail(status(503, retry_after=300), key=f"one real-{at}")
    assert len(watched.lines()) == MAX_LINES
    assert watched.lines(30.0) == []
    assert len(watched.lines(INTERVAL_S)) == MAX_LINES


def test_the_models_of_a_pattern_share_its_line(caplog: pytest.LogCaptureFixture) -> None:
    pattern = 'models:\n  - {id: "one/*", pool: [{provider: one, model: "*"}]}\n'
    watched = Watched(caplog, snapshot(MANY[: MANY.index("models:")] + pattern))
    for name in ("x", "y", "z"):
        watched.fail(status(503, retry_after=100), key=f"one * {name}")
    assert [line.partition(" is not asked")[0] for line in watched.lines()] == ["source one x"]
    assert [line.partition(" is not asked")[0] for line in watched.lines(INTERVAL_S)] == ["source one y"]


def test_a_source_that_a_reload_changes_is_told_anew(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(caplog)
    watched.fail(status(503))
    assert len(watched.lines()) == 1
    watched.snapshot = snapshot(ALPHA_KEY="another")
    watched.apply()
    assert len(watched.lines(10.0)) == 1
    watched.now += INTERVAL_S
    watched.fail(status(503))
    assert len(watched.lines()) == 1
    watched.snapshot = snapshot(MANY)
    watched.apply()
    assert watched.lines(INTERVAL_S) == []


async def test_a_gateway_tells_of_a_rejected_key_and_of_a_source_that_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kyma-proxy")
    async with both(tmp_path) as (running, provider):
        caller = await running.client()
        for _ in range(2):
            provider.plays(whole(b'{"error":{"message":"no"}}', status="401 Unauthorized"))
            caller.ask()
            await caller.answer()
        await until(lambda: "is not asked for" in caplog.text)
    assert "provider p0 rejects its key (answered 401)" in caplog.text
    assert "provider-key-0" not in caplog.text
