"""A stale unix socket is replaced, one in use is not, and the gateway's own is removed at the end."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

from tests.configurations import configuration, listeners
from tests.harness import Client
from tests.processes import command, serving
from tests.waiting import until


def on_socket(path: Path, log: object) -> str:
    return configuration(9, more=listeners(f"unix:{path}", access_log=log))


async def answers_at(path: Path) -> bool:
    client = Client(*await asyncio.open_unix_connection(path))
    client.send(b"GET /v1/health HTTP/1.1\r\nhost: a\r\n\r\n")
    status = (await client.answer()).status
    client.leave()
    return status == 200


async def test_a_stale_unix_socket_is_replaced_and_the_gateways_own_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with serving(on_socket(path, tmp_path / "access.log"), tmp_path, "") as running:
        assert await answers_at(path)
        running.signal(signal.SIGTERM)
        await until(lambda: running.has_ended)
        assert running.end() == 0
    assert not path.exists()


async def test_a_unix_socket_in_use_is_refused_and_still_answers(tmp_path: Path) -> None:
    path, second = tmp_path / "a.sock", tmp_path / "second.yaml"
    with serving(on_socket(path, tmp_path / "access.log"), tmp_path, ""):
        second.write_text(on_socket(path, "-"))
        result = await asyncio.to_thread(command, "serve", "--config", second)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        told = "the address is in use; stop what listens there, or choose another with --listen"
        assert line.startswith(f"kyma-proxy: listen unix:{path}: {told}; ")
        assert await answers_at(path)


async def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path, config = tmp_path / "notes.txt", tmp_path / "gateway.yaml"
    path.write_text("precious")
    config.write_text(on_socket(path, "-"))
    result = await asyncio.to_thread(command, "serve", "--config", config)
    assert result.returncode == 1
    assert path.read_text() == "precious"
