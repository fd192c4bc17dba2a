"""`kyma-proxy health` exits with 0 if a gateway takes requests and with 1 otherwise, by its configuration or by an address."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.configurations import listeners, simulated_configuration
from tests.processes import GatewayProcess, command, free_port, serving, simulated_provider
from tests.waiting import PATIENCE_S, wait_until

STREAM = b'{"model": "sim", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'


@contextlib.contextmanager
def gateway(directory: Path, *, admin: str | None = None, more: str = "", pace: str = "0ms") -> Iterator[GatewayProcess]:
    """A running gateway; `base` is its public address. `admin` is the address of its admin listener."""
    listen = f"127.0.0.1:{free_port()}"
    section = "null" if admin is None else f"{{listen: '{admin}'}}"
    with simulated_provider(pace) as provider:
        sections = listeners(listen, access_log=directory / "access.log", admin=section)
        text = simulated_configuration(provider, more=f"{sections}{more}")
        with serving(text, directory, "") as running:
            running.base = listen
            yield running


def health(*arguments: object, **environment: str) -> tuple[int, str]:
    """The exit code, and the line that is printed."""
    done = command("health", *arguments, **environment)
    return done.returncode, (done.stdout + done.stderr).strip()


def addresses(directory: Path) -> list[str]:
    return [f"127.0.0.1:{free_port()}", f"unix:{directory}/admin.sock"]


@pytest.mark.parametrize("kind", [0, 1], ids=["tcp", "unix"])
def test_a_gateway_that_takes_requests_is_healthy_by_its_file_and_by_its_address(tmp_path: Path, kind: int) -> None:
    admin = addresses(tmp_path)[kind]
    with gateway(tmp_path, admin=admin) as running:
        assert health("--config", tmp_path / "gateway.yaml") == (0, f"{admin}: ok")
        assert health(KYMA_CONFIG=str(tmp_path / "gateway.yaml")) == (0, f"{admin}: ok")
        assert health("--admin", admin, "--live") == (0, f"{admin}: ok")
        assert health("--admin", admin, "--quiet") == (0, "")
        assert health("--listen", running.base) == (0, f"{running.base}: ok")


def test_without_an_admin_listener_the_public_one_is_asked(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        assert health("--config", tmp_path / "gateway.yaml") == (0, f"{running.base}: ok")


def test_a_public_listener_with_tls_is_asked_whatever_its_certificate_says(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("gateway.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    tls = f"tls: {{certificate: {tmp_path}/tls.pem, key: {tmp_path}/tls.pem}}\n"
    with gateway(tmp_path, more=tls) as running:
        assert health("--config", tmp_path / "gateway.yaml") == (0, f"{running.base}: ok")
        assert health("--listen", running.base, "--tls") == (0, f"{running.base}: ok")


def test_a_gateway_that_is_about_to_stop_is_alive_and_not_ready(tmp_path: Path) -> None:
    admin = addresses(tmp_path)[0]
    with (
        gateway(tmp_path, admin=admin, pace="10s", more="shutdown_delay: 1h\ndrain: 1ms\n") as running,
        socket.socket() as caller,
    ):
        host, _, port = running.base.partition(":")
        caller.settimeout(PATIENCE_S)
        caller.connect((host, int(port)))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {running.base}\r\nContent-Length: {len(STREAM)}\r\n\r\n"
        caller.sendall(head.encode() + STREAM)
        assert caller.recv(8) == b"HTTP/1.1"
        running.signal(signal.SIGTERM)
        wait_until(lambda: health("--admin", admin)[0] == 1)
        assert health("--admin", admin) == (1, f"kyma-proxy: {admin}: draining")
        assert health("--admin", admin, "--live") == (0, f"{admin}: ok")
        running.signal(signal.SIGTERM)  # a second one does not wait
        wait_until(lambda: running.has_ended)
        assert health("--admin", admin, "--live")[0] == 1


def test_a_probe_by_address_reads_no_file(tmp_path: Path) -> None:
    admin = addresses(tmp_path)[0]
    with gateway(tmp_path, admin=admin):
        (tmp_path / "gateway.yaml").write_text("listen: [")
        assert health("--admin", admin, KYMA_CONFIG=str(tmp_path / "gateway.yaml"))[0] == 0
        code, line = health("--config", tmp_path / "gateway.yaml")
        assert code == 1
        assert "this is not YAML" in line


def test_a_mistake_elsewhere_in_the_file_changes_nothing(tmp_path: Path) -> None:
    admin = addresses(tmp_path)[0]
    with gateway(tmp_path, admin=admin):
        text = (tmp_path / "gateway.yaml").read_text()
        (tmp_path / "gateway.yaml").write_text(text + "drain: soon\naliases: {a: nothing}\n")
        assert health("--config", tmp_path / "gateway.yaml") == (0, f"{admin}: ok")


def test_where_nothing_listens_is_no_health(tmp_path: Path) -> None:
    for address in addresses(tmp_path):
        assert health("--admin", address) == (1, f"kyma-proxy: {address}: nothing listens there")
        assert health("--listen", address) == (1, f"kyma-proxy: {address}: nothing listens there")
    assert health("--config", tmp_path / "none.yaml")[0] == 1


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"SSH\r\n", b""],
)
def test_another_server_is_no_healthy_gateway(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)

        def answers() -> None:
            asking, _ = server.accept()
            with asking:
                asking.recv(4096)
                asking.sendall(answer)

        thread = threading.Thread(target=answers)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        code, line = health("--admin", address)
        thread.join(PATIENCE_S)
    assert code == 1
    assert line.startswith(f"kyma-proxy: {address}: ")
    assert "Traceback" not in line
