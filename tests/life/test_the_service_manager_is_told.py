"""The service manager is told when the gateway is ready, reloads, lives and stops; where there is none, nobody is told."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kyma_proxy.ops.sd_notify import SystemdNotifier
from tests.configurations import configuration
from tests.harness import gateway
from tests.waiting import PATIENCE_S


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The socket of a service manager, and its name in the environment."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@kyma-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + name[1:] if name.startswith("@") else name)
        made.settimeout(PATIENCE_S)
        yield made, name


async def received(made: socket.socket) -> dict[str, str]:
    """The variables of the next message."""
    text = (await asyncio.to_thread(made.recv, 4096)).decode()
    return dict(line.split("=", 1) for line in text.splitlines())


async def test_each_state_is_told(manager: tuple[socket.socket, str]) -> None:
    made, name = manager
    systemd = SystemdNotifier({"NOTIFY_SOCKET": name})
    systemd.ready("serves 3 models")
    assert await received(made) == {"READY": "1", "STATUS": "serves 3 models"}
    with systemd.reloading():
        reloading = await received(made)
        assert reloading["RELOADING"] == "1"
        assert reloading["MONOTONIC_USEC"].isdecimal()
    assert await received(made) == {"READY": "1"}
    systemd.replaced_by(4711)
    assert await received(made) == {"MAINPID": "4711"}
    systemd.stopping()
    assert (await received(made))["STOPPING"] == "1"
    systemd.close()
    systemd.stopping()


async def test_signs_of_life_come_while_the_loop_runs(manager: tuple[socket.socket, str]) -> None:
    made, name = manager
    systemd = SystemdNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())})
    systemd.ready("")
    assert "READY" in await received(made)
    for _ in range(3):
        assert await received(made) == {"WATCHDOG": "1"}
    systemd.close()


@pytest.mark.parametrize(
    "more", [{"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "-1"}, {"WATCHDOG_USEC": ""}, {}]
)
async def test_no_sign_of_life_is_sent_where_none_is_awaited(manager: tuple[socket.socket, str], more: dict[str, str]) -> None:
    made, name = manager
    systemd = SystemdNotifier({"NOTIFY_SOCKET": name, **more})
    systemd.ready("")
    systemd.stopping()
    assert "READY" in await received(made)
    assert "STOPPING" in await received(made)
    systemd.close()


async def test_a_reload_is_told(tmp_path: Path, manager: tuple[socket.socket, str]) -> None:
    made, name = manager
    systemd = SystemdNotifier({"NOTIFY_SOCKET": name})
    async with gateway(configuration(1), tmp_path) as running:
        running.configuration.reloading = systemd.reloading
        await running.configuration.reload("test")
    systemd.close()
    assert (await received(made))["RELOADING"] == "1"
    assert await received(made) == {"READY": "1"}


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
async def test_without_a_service_manager_nothing_happens(environment: dict[str, str]) -> None:
    systemd = SystemdNotifier(environment)
    systemd.ready("")
    with systemd.reloading():
        systemd.stopping()
    systemd.close()
