"""The process that works for the gateway starts with the first work, is bounded in time and memory, and ends when it should."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.inline_coroutine import InlineCoroutine
from kyma_proxy.net.worker import MAX_WAITING, Worker
from tests.net.worker_functions import core_limit, fails, never_ends, refuses, same, takes_memory, upper
from tests.processes import environment
from tests.waiting import PATIENCE_S, until, wait_until

MEMORY_BYTES = 256 * 2**20


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def worker(clock: Clock | None = None, **how: Any) -> AsyncIterator[Worker]:
    made = Worker(asyncio.get_running_loop().call_soon_threadsafe, clock or Clock(), MEMORY_BYTES, **how)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)
        assert made.pid is None


class Running:
    """A call that goes on."""

    def __init__(self, call: Coroutine[Any, Any, Any]) -> None:
        self.result: Any = None
        self.coroutine = InlineCoroutine(self._run(call), asyncio.get_running_loop(), lambda: None)

    async def _run(self, call: Coroutine[Any, Any, Any]) -> None:
        try:
            self.result = await call
        except (GatewayError, asyncio.CancelledError) as error:
            self.result = error

    async def ended(self) -> Any:
        await until(lambda: self.result is not None)
        return self.result


def is_alive(pid: int) -> bool:
    """True if there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_functions_are_called_in_one_process_that_dumps_nothing() -> None:
    async with worker() as made:
        assert await Running(made.call(same, "remark", b"body" * 10**6)).ended() == ("remark", b"body" * 10**6)
        pid = made.pid
        assert pid not in (None, os.getpid())
        assert await Running(made.call(core_limit, None, b"")).ended() == ((0, 0), b"")
        assert made.pid == pid


async def test_errors_come_back_and_a_failure_shows_nothing_of_the_body(caplog: pytest.LogCaptureFixture) -> None:
    async with worker() as made:
        refused = await Running(made.call(refuses, "messages", b"")).ended()
        assert (refused.kind, refused.message, refused.param) == (Kind.INVALID_REQUEST, "No.", "messages")
        assert refused.retry_after == 7
        with caplog.at_level(logging.ERROR):
            assert (await Running(made.call(fails, None, b"a secret")).ended()).kind is Kind.INTERNAL
        assert "ValueError" in caplog.text
        assert "secret" not in caplog.text


async def test_work_that_takes_too_much_memory_is_refused_and_the_next_is_done() -> None:
    async with worker() as made:
        too_much = await Running(made.call(takes_memory, 2 * MEMORY_BYTES, b"")).ended()
        assert too_much.kind is Kind.BODY_TOO_LARGE
        pid = made.pid
        assert await Running(made.call(same, 1, b"")).ended() == (1, b"")
        assert made.pid == pid


async def test_work_that_takes_too_long_is_refused_and_the_next_is_done() -> None:
    async with worker(max_work_s=1.0) as made:
        assert (await Running(made.call(never_ends, None, b"")).ended()).kind is Kind.BODY_TOO_LARGE
        assert await Running(made.call(same, 1, b"")).ended() == (1, b"")


async def test_the_process_ends_when_it_has_been_idle() -> None:
    clock = Clock()
    async with worker(clock, idle_s=60.0) as made:
        await Running(made.call(same, 1, b"")).ended()
        pid = made.pid
        assert pid is not None
        clock.now = 60.0
        made.sweep()
        assert made.pid == pid
        clock.now = 60.1
        made.sweep()
        await until(lambda: made.pid is None)
        await until(lambda: not is_alive(pid))
        assert await Running(made.call(same, 2, b"")).ended() == (2, b"")


async def test_the_line_is_bounded_and_who_leaves_it_leaves_no_body() -> None:
    async with worker() as made:
        calls = [Running(made.call(never_ends, None, b""))]
        calls += [Running(made.call(same, at, b"body")) for at in range(MAX_WAITING - 1)]
        refused = await Running(made.call(same, None, b"")).ended()
        assert (refused.kind, refused.retry_after is None) == (Kind.OVERLOADED, False)
        for one in calls[1:]:
            one.coroutine.cancel()
        await until(lambda: made.waiting == 1)
        assert all([isinstance(await one.ended(), asyncio.CancelledError) for one in calls[1:]])
        await until(lambda: made.pid)
        pid = made.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert (await calls[0].ended()).kind is Kind.OVERLOADED
        assert await Running(made.call(same, 1, b"")).ended() == (1, b"")


PROGRAM = """
import asyncio
from kyma_proxy.net.inline_coroutine import InlineCoroutine
from kyma_proxy.net.worker import Worker
from tests.net.worker_functions import never_ends

async def main():
    loop = asyncio.get_running_loop()
    worker = Worker(loop.call_soon_threadsafe, loop.time, 2**28)
    InlineCoroutine(worker.call(never_ends, None, b""), loop, lambda: None)
    while worker.pid is None:
        await asyncio.sleep(0.01)
    print(worker.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_process_ends_with_a_gateway_that_is_killed() -> None:
    line = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        assert is_alive(pid)
        running.kill()
        running.wait(PATIENCE_S)
        wait_until(lambda: not is_alive(pid))


async def test_a_process_that_was_killed_while_idle_costs_nobody_a_request() -> None:
    async with worker() as made:
        await Running(made.call(same, 1, b"")).ended()
        killed = made.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, killed, os.WEXITED | os.WNOWAIT)  # all its threads are gone
        assert await Running(made.call(same, 2, b"")).ended() == (2, b"")


async def test_who_leaves_while_the_process_starts_leaves_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with worker() as made:
        one = Running(made.call(upper, "argument", b"body"))
        one.coroutine.cancel()
        await one.ended()
        await until(lambda: not made.waiting)
    assert "could not be changed" not in caplog.text
