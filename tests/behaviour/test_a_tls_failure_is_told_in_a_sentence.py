"""A provider with which TLS fails is told apart in words: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme

from tests.configurations import ProviderEntry, configuration
from tests.harness import gateway
from tests.waiting import PATIENCE_S

Prepare = Callable[[Path], tuple[ssl.SSLContext | None, Path | None]]
_LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


def _signed(directory: Path, *names: str, not_after: datetime.datetime | None = None) -> tuple[ssl.SSLContext, Path]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    not_before = None if not_after is None else not_after - datetime.timedelta(days=1)
    authority.issue_cert(*names, not_after=not_after, not_before=not_before).configure_cert(context)
    return context, directory / "ca.pem"


def only(version: ssl.TLSVersion) -> Callable[[Path], tuple[ssl.SSLContext, Path]]:
    def prepare(directory: Path) -> tuple[ssl.SSLContext, Path]:
        context, authority = _signed(directory, "localhost")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = version
            context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context, authority

    return prepare


def expired(directory: Path) -> tuple[ssl.SSLContext, Path]:
    return _signed(directory, "localhost", not_after=_LONG_AGO)


def for_another_name(directory: Path) -> tuple[ssl.SSLContext, Path]:
    return _signed(directory, "other.example")


def of_a_stranger(directory: Path) -> tuple[ssl.SSLContext, Path]:
    trustme.CA().cert_pem.write_to_path(directory / "other.pem")
    return _signed(directory, "localhost")[0], directory / "other.pem"


def self_signed(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """The certificate of an authority, as a server's own."""
    authority = trustme.CA()
    trustme.CA().cert_pem.write_to_path(directory / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, blob in (("own.pem", authority.cert_pem), ("own.key", authority.private_key_pem)):
        blob.write_to_path(directory / name)
    context.load_cert_chain(directory / "own.pem", directory / "own.key")
    return context, directory / "other.pem"


def without_tls(directory: Path) -> tuple[None, None]:
    return None, None


@contextlib.asynccontextmanager
async def server(context: ssl.SSLContext | None, answer: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            writer.write(answer)
            await writer.drain()
            await reader.read()
        writer.close()

    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)  # the server's side of a failed handshake
    async with asyncio.timeout(PATIENCE_S):
        serving = await asyncio.start_server(serve, "localhost", 0, ssl=context)
        try:
            yield serving.sockets[0].getsockname()[1]
        finally:
            serving.close()


async def told(directory: Path, base_url: str, authority: Path | None) -> tuple[str, str]:
    """What the caller is told, and the reason that `/v1/status` has."""
    more = "" if authority is None else f"ca_file: '{authority}'"
    async with gateway(configuration(ProviderEntry(base_url, more=more)), directory) as running:
        client = await running.client()
        for _ in range(5):  # the status has a reason once the breaker has opened
            client.ask()
            answer = await client.answer()
            if running.source()["reason"] is not None:
                break
        assert answer.status == 502
        return answer.json["error"]["message"], running.source()["reason"]


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (
            only(ssl.TLSVersion.TLSv1_1),
            "it closed the connection during the handshake, as servers do that speak TLS 1.0 or 1.1",
        ),
        (expired, "its certificate is not valid: it has expired"),
        (for_another_name, "its certificate is not valid: it is for another host name"),
        (of_a_stranger, "its certificate is not valid: its authority is not trusted"),
        (self_signed, "its certificate is not valid: it is self-signed"),
        (without_tls, "it answers without TLS at this port; base_url should begin with http://"),
    ],
    ids=["closed", "expired", "another-name", "stranger", "self-signed", "plain"],
)
async def test_a_failure_of_tls_is_one_sentence(tmp_path: Path, prepare: Prepare, sentence: str) -> None:
    context, authority = prepare(tmp_path)
    async with server(context, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n") as port:
        message, reason = await told(tmp_path, f"https://localhost:{port}/v1", authority)
    assert f"TLS failed: {sentence}" in message
    assert reason.startswith(f"TLS failed: {sentence}")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_a_provider_that_speaks_old_tls_only_is_told_so(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context, authority = only(version)(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=refuse_handshakes, args=(listener, context))
        serving.start()
        try:
            message, reason = await told(tmp_path, f"https://localhost:{listener.getsockname()[1]}/v1", authority)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            await asyncio.to_thread(serving.join)
    for text in (message, reason):
        assert "TLS failed: it speaks TLS 1.0 or 1.1 only, and the gateway requires TLS 1.2 or later" in text


def refuse_handshakes(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Answer each handshake as OpenSSL does, with an alert that reaches the other side; until the listener is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_S)
            with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
                secured.do_handshake()


async def test_a_tls_port_that_is_spoken_to_without_it_is_one_sentence(tmp_path: Path) -> None:
    alert = b"\x15\x03\x01\x00\x02\x02\x46"  # fatal: protocol_version
    async with server(None, alert) as port:
        message, reason = await told(tmp_path, f"http://localhost:{port}/v1", None)
    assert "it speaks TLS at this port; base_url should begin with https://" in message
    assert "it speaks TLS at this port" in reason
