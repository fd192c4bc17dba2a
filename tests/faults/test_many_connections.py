"""The soak with many idle connections counts them rightly, and names each promise that was not kept, and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.faults.many_connections import MAX_KIB, REFUSED, Opened, Result, broken_promises, hold, opened, report
from tests.faults.test_hostile_soak import STATE, times
from tests.harness import both
from tests.waiting import until

PLACES = 100
FULL = msgspec.structs.replace(STATE, connections=PLACES, sockets=STATE.sockets + PLACES)
RESULT = Result(
    without=times(1_000_000), beside=times(1_000_000), afterwards=times(1_000_000), places=PLACES,
    opened=Opened(PLACES, REFUSED - 3, 3), cold=STATE, first=FULL, before=STATE, full=FULL, after=STATE,
)  # fmt: skip


def test_when_every_promise_was_kept_nothing_is_named() -> None:
    assert broken_promises(RESULT) == []
    assert f"{PLACES} places: {PLACES} connections stayed open, {REFUSED - 3} got a 503, 3 were closed" in report(RESULT)


def test_a_good_caller_who_failed_while_the_gateway_was_full_or_afterwards_is_named() -> None:
    failed = times(1_000_000, errors=("status 503",))
    for one in (RESULT._replace(beside=failed), RESULT._replace(afterwards=failed)):
        assert broken_promises(one) == ["a good caller failed: status 503 (1)"]


def test_a_good_caller_who_is_more_than_twice_as_late_is_a_broken_promise_of_each_measure() -> None:
    assert len(broken_promises(RESULT._replace(beside=times(2_100_000)))) == 3


def test_more_connections_than_places_are_a_broken_promise() -> None:
    full = msgspec.structs.replace(FULL, connections=PLACES + 1)
    found = Opened(PLACES + 1, REFUSED - 1, 0)
    assert [text.split(",")[0] for text in broken_promises(RESULT._replace(full=full, opened=found))] == [
        f"there were {PLACES + 1} connections",
        f"{REFUSED - 1} connections were refused",
    ]


def test_a_connection_that_only_one_side_knows_is_a_broken_promise() -> None:
    full = msgspec.structs.replace(FULL, connections=PLACES - 1)
    (broken,) = broken_promises(RESULT._replace(full=full))
    assert broken == f"{PLACES} connections stayed open, and the gateway knows {PLACES - 1}"


def test_the_memory_of_a_connection_is_that_of_the_first_time() -> None:
    def taking(kib: float) -> Result:
        return RESULT._replace(first=msgspec.structs.replace(FULL, memory_mib=STATE.memory_mib + kib * PLACES / 1024))

    assert broken_promises(taking(MAX_KIB - 0.1)) == []
    assert broken_promises(taking(MAX_KIB + 0.1)) == [
        f"an idle connection takes {MAX_KIB + 0.1:.1f} KiB, more than {MAX_KIB:g}"
    ]


@pytest.mark.parametrize("name", ["sockets", "tasks", "held"])
def test_whatever_is_not_given_back_is_named(name: str) -> None:
    after = msgspec.structs.replace(STATE, **{name: getattr(STATE, name) + 1})
    assert broken_promises(RESULT._replace(after=after)) == [f"{name} is not back where it began"]


async def test_those_that_stay_open_and_those_that_are_refused_are_counted(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {max_connections: 20}\n") as (gateway, _):
        held = await hold(gateway.port, 30)
        await until(lambda: opened(held) == Opened(20, 10, 0))
        assert gateway.connections == 20
        assert sum(one.status == "200" for one in held) == 10
        for one in held:
            one.leave()
        await until(lambda: gateway.connections == 0)
