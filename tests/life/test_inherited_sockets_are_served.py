"""Sockets that a supervisor has opened (LISTEN_FDS) are served, and what is no listening socket is a clear error."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from kyma_proxy.errors import StartError
from kyma_proxy.ops.inherited_sockets import inherited_sockets
from tests.configurations import configuration, listeners
from tests.processes import environment, free_port
from tests.waiting import PATIENCE_S, wait_until

OPENS = """
import os, socket, sys
sockets = [socket.create_server(("127.0.0.1", int(port))) for port in sys.argv[2:]]
for number, one in enumerate(sockets):
    os.dup2(one.fileno(), 3 + number + 100)
for number, one in enumerate(sockets):
    os.dup2(3 + number + 100, 3 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "public:admin"}
os.execv(sys.executable, [sys.executable, "-W", "error", "-m", "kyma_proxy", "serve", "--config", sys.argv[1]])
"""


def status(port: int, path: str) -> int:
    """The status of a page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        return int(answer.status)


def test_the_sockets_of_a_supervisor_are_served_under_their_names(tmp_path: Path) -> None:
    public, admin = free_port(), free_port()
    config, errors = tmp_path / "gateway.yaml", tmp_path / "stderr"
    sections = listeners(
        f"127.0.0.1:{free_port()}", access_log=tmp_path / "log", admin=f"{{listen: '127.0.0.1:{free_port()}'}}"
    )
    config.write_text(configuration(1, more=sections))
    line = [sys.executable, "-c", OPENS, str(config), str(public), str(admin)]
    with errors.open("wb") as stderr, subprocess.Popen(line, env=environment(), stderr=stderr) as process:
        try:
            wait_until(lambda: " serves " in errors.read_text() or process.poll() is not None)
            assert status(public, "/v1/health") == 200
            assert status(admin, "/readyz") == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def at_descriptor(made: int) -> Iterator[int]:
    """A descriptor that the function may take over."""
    descriptor = os.dup(made)
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def given(**more: str) -> dict[str, str]:
    """An environment with one inherited socket."""
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", **more}


@pytest.mark.parametrize(("names", "setting"), [("", "listen"), ("web", "listen"), ("admin", "admin.listen")])
def test_a_name_says_which_listener_a_socket_is_for(names: str, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as made, at_descriptor(made.fileno()) as descriptor:
        ((found, (one,)),) = inherited_sockets(given(LISTEN_FDNAMES=names), first=descriptor).items()
        assert found == setting
        assert one.getsockname() == made.getsockname()
        assert not os.get_inheritable(one.fileno())
        one.detach()


def test_what_does_not_listen_is_refused(tmp_path: Path) -> None:
    nothing = tmp_path / "file"
    nothing.touch()
    refused: list[tuple[socket.socket | TextIO, str]] = [
        (socket.socket(), "listens"), (socket.socket(type=socket.SOCK_DGRAM), "listens"), (nothing.open(), "no socket"),
    ]  # fmt: skip
    for made, words in refused:
        with made, at_descriptor(made.fileno()) as descriptor, pytest.raises(StartError, match=words):
            inherited_sockets(given(), first=descriptor)
    with pytest.raises(StartError, match="more than"):
        inherited_sockets(given(LISTEN_FDS="1000"))


@pytest.mark.parametrize("variables", [{}, {"LISTEN_PID": "1"}, {"LISTEN_FDS": "0"}, {"LISTEN_FDS": "x"}])
def test_sockets_of_another_process_are_left_alone(variables: dict[str, str]) -> None:
    assert inherited_sockets({} if not variables else given(**variables)) == {}
