"""A worker that can't start ends the start with its reason; later the reason is told once, and it is tried on and on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kyma_proxy.errors import StartError
from kyma_proxy.ops.reload import Configuration
from kyma_proxy.ops.sd_notify import SystemdNotifier
from kyma_proxy.ops.workers import worker_process
from kyma_proxy.ops.workers.supervisor import Supervisor
from tests.configurations import configuration, listeners
from tests.processes import environment, free_port, started
from tests.waiting import PATIENCE_S, until
from tests.workers.crews import WORKERS, processes_of


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """A supervisor in this process; its workers are processes of their own."""
    file = tmp_path / "gateway.yaml"
    listen = f"127.0.0.1:{free_port()}"
    file.write_text(configuration(9, more=listeners(listen, access_log=tmp_path / "access.log") + WORKERS))
    surroundings = environment(XDG_RUNTIME_DIR=str(tmp_path))
    made = Supervisor(Configuration(file, surroundings), None, surroundings, SystemdNotifier({}))
    yield made
    made.stop()
    made.stop()
    await made.close()


async def test_a_start_fails_with_the_reason_of_the_first_worker(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "PROGRAM", "raise SystemExit(3)")
    with pytest.raises(StartError, match="worker 1 can't start: its process has ended with exit code 3"):
        await supervisor.start()


async def test_later_the_reason_is_told_once_and_the_worker_comes_back_when_it_can(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await supervisor.start()
    usable = worker_process.PROGRAM
    monkeypatch.setattr(worker_process, "PROGRAM", "raise SystemExit(3)")
    first = supervisor.workers[1]
    first.kill()
    await until(lambda: "worker 1 can't start: its process has ended with exit code 3" in caplog.text)
    tried = supervisor.workers[1]
    await until(lambda: supervisor.workers[1] is not tried)
    monkeypatch.setattr(worker_process, "PROGRAM", usable)
    await until(lambda: "worker 1 serves again" in caplog.text)
    assert caplog.text.count("worker 1 can't start") == 1
    assert supervisor.workers[2].is_serving


async def test_the_service_manager_hears_of_the_supervisor_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        file = tmp_path / "gateway.yaml"
        listen = f"127.0.0.1:{free_port()}"
        file.write_text(configuration(9, more=listeners(listen, access_log=tmp_path / "access.log") + WORKERS))

        async def told() -> str:
            return (await asyncio.to_thread(manager.recv, 4096)).decode()

        with started(tmp_path, f"http://{listen}", "--config", str(file), NOTIFY_SOCKET=str(tmp_path / "notify")) as running:
            assert await told() == f"READY=1\nSTATUS=serves with 2 workers on {listen}"
            dead = processes_of(running)[0]
            os.kill(dead, signal.SIGKILL)
            await until(lambda: "serves again" in running.stderr)
            running.signal(signal.SIGHUP)
            assert (await told()).startswith("RELOADING=1")
            assert await told() == "READY=1"
            running.signal(signal.SIGTERM)
            assert (await told()).startswith("STOPPING=1")
