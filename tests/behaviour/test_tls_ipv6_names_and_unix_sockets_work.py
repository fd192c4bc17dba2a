"""TLS, IPv6, names and unix sockets work towards callers and providers; no credential goes to an unknown server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.configurations import ProviderEntry, configuration, listeners
from tests.harness import CLOSE, OK, STREAM, Client, Gateway, Provider, gateway, providers
from tests.processes import GatewayProcess, free_port, serving
from tests.waiting import until

BODY = b'{"model":"m","messages":[]}'


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


class Authority:
    """A certificate authority of our own, a certificate of it, and the TLS contexts of both sides."""

    def __init__(self, directory: Path, *names: str) -> None:
        self._authority = trustme.CA()
        leaf = self._authority.issue_cert(*names)
        self.file, self.certificate, self.key = (directory / name for name in ("ca.pem", "certificate.pem", "key.pem"))
        self._authority.cert_pem.write_to_path(self.file)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self.key)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(self.server)

    @property
    def client(self) -> ssl.SSLContext:
        """The TLS context of a caller who trusts it."""
        context = ssl.create_default_context(cafile=self.file)
        context.set_alpn_protocols(["http/1.1"])
        return context


@contextlib.asynccontextmanager
async def secured(
    directory: Path, *names: str, host: str = "localhost", trusted: Path | None = None
) -> AsyncIterator[tuple[Gateway, Provider]]:
    """A gateway in front of a provider that speaks TLS and has a certificate for `names`."""
    authority = Authority(directory, *names)
    async with providers(tls=authority.server) as (provider,):
        text = configuration(
            ProviderEntry(f"https://{host}:{provider.port}/v1", more=f"ca_file: '{trusted or authority.file}'")
        )
        async with gateway(text, directory) as running:
            yield running, provider


@contextlib.asynccontextmanager
async def addressed(directory: Path, host: str, *, listen: str = "127.0.0.1") -> AsyncIterator[tuple[Gateway, Provider]]:
    """A gateway that knows its provider by another name."""
    async with (
        providers(host=listen) as (provider,),
        gateway(configuration(ProviderEntry(f"http://{host}:{provider.port}/v1")), directory) as running,
    ):
        yield running, provider


async def answer_of(running: Gateway) -> Any:
    client = await running.client()
    client.post(BODY)
    return await client.answer()


# ---------------------------------------------------------------------------------------------- towards providers


async def test_a_provider_is_reached_over_tls(tmp_path: Path) -> None:
    async with secured(tmp_path, "localhost") as (running, provider):
        provider.plays(STREAM)
        answer = await answer_of(running)
        assert answer.status == 200
        assert provider.received[0].headers["authorization"] == "Bearer provider-key-0"
        assert provider.tls[0].selected_alpn_protocol() in (None, "http/1.1")


async def test_a_provider_with_an_ip_address_is_reached_over_tls(tmp_path: Path) -> None:
    async with secured(tmp_path, "127.0.0.1", host="127.0.0.1") as (running, _):
        assert (await answer_of(running)).status == 200


async def test_the_second_connection_resumes_the_tls_session_of_the_first(tmp_path: Path) -> None:
    async with secured(tmp_path, "localhost") as (running, provider):
        provider.plays(OK, CLOSE)
        assert (await answer_of(running)).status == 200
        assert (await answer_of(running)).status == 200
        assert [tls.session_reused for tls in provider.tls] == [False, True]


async def test_a_certificate_of_an_unknown_authority_is_refused_before_a_credential_is_sent(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "localhost")
    async with secured(tmp_path, "localhost", trusted=stranger.file) as (running, provider):
        answer = await answer_of(running)
        assert (answer.status, answer.json["error"]["code"]) == (502, "provider_error")
        assert "its certificate is not valid" in answer.json["error"]["message"]
        assert provider.received == []


async def test_a_certificate_for_another_name_is_refused_before_a_credential_is_sent(tmp_path: Path) -> None:
    async with secured(tmp_path, "other.example") as (running, provider):
        answer = await answer_of(running)
        assert answer.status == 502
        assert "its certificate is not valid" in answer.json["error"]["message"]
        assert provider.received == []


async def test_a_provider_that_does_not_speak_tls_gets_no_request(tmp_path: Path) -> None:
    async with providers() as (provider,):
        text = configuration(ProviderEntry(f"https://127.0.0.1:{provider.port}/v1"), timeouts="{connect: 300ms}")
        async with gateway(text, tmp_path) as running:
            provider.plays(OK)
            answer = await answer_of(running)
            assert answer.status in (502, 504)
            assert provider.received == []


@needs_ipv6
async def test_a_provider_is_reached_over_ipv6(tmp_path: Path) -> None:
    async with addressed(tmp_path, "[::1]", listen="::1") as (running, provider):
        assert (await answer_of(running)).status == 200
        assert provider.received[0].headers["host"] == f"[::1]:{provider.port}"


async def test_a_provider_is_reached_by_its_name(tmp_path: Path) -> None:
    async with addressed(tmp_path, "localhost") as (running, provider):
        assert (await answer_of(running)).status == 200
        assert provider.received[0].headers["host"] == f"localhost:{provider.port}"


async def test_a_name_that_does_not_exist_is_an_error_within_seconds(tmp_path: Path) -> None:
    text = configuration(ProviderEntry("http://does-not-exist.invalid/v1"))
    async with gateway(text, tmp_path) as running:
        async with asyncio.timeout(5):
            answer = await answer_of(running)
        assert answer.status in (502, 504)  # 504 where this machine has no name server that would say so
        assert "no connection" in answer.json["error"]["message"]


# ------------------------------------------------------------------------------------------------- the public door


@contextlib.asynccontextmanager
async def listener(directory: Path, listen: str, base: str, more: str = "") -> AsyncIterator[tuple[GatewayProcess, Provider]]:
    """A gateway process that listens there, in front of a scripted provider."""
    async with providers() as (provider,):
        sections = listeners(listen, access_log=directory / "access.log")
        text = configuration(provider.port, more=f"{sections}{more}")
        with serving(text, directory, base) as running:
            yield running, provider
            running.signal(signal.SIGTERM)
            await until(lambda: running.has_ended)


async def statuses(client: Client, provider: Provider) -> list[int]:
    """The answers to a stream, a large request, a page, an unknown model and a malformed request on one connection."""
    provider.plays(STREAM)
    client.ask(stream=True)
    stream = await client.answer()
    assert b"[DONE]" in stream.body
    client.post(b'{"model":"m","messages":"' + b"x" * 1_000_000 + b'"}')
    large = await client.answer()
    client.get("/v1/models")
    page = await client.answer()
    assert page.json["data"][0]["id"] == "m"
    client.ask(model="unknown")
    unknown = await client.answer()
    client.send(b"GET nonsense\r\n\r\n")
    malformed = await client.answer()
    assert await client.read_to_end() == b""
    client.leave()
    return [answer.status for answer in (stream, large, page, unknown, malformed)]


EXPECTED = [200, 200, 200, 404, 400]


async def test_the_public_listener_speaks_tls(tmp_path: Path) -> None:
    authority, port = Authority(tmp_path, "localhost"), free_port()
    more = f"tls: {{certificate: '{authority.certificate}', key: '{authority.key}'}}\n"
    async with listener(tmp_path, f"127.0.0.1:{port}", "", more) as (running, provider):
        client = Client(*await asyncio.open_connection("localhost", port, ssl=authority.client))
        tls = client.writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        assert tls.version() == "TLSv1.3"
        assert await statuses(client, provider) == EXPECTED
        plain = Client(*await asyncio.open_connection("localhost", port))
        plain.ask()
        assert (await plain.answer()).status == 400
        plain.leave()
        assert "Traceback" not in running.stderr


async def test_the_public_listener_may_be_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "kyma.sock"
    async with listener(tmp_path, f"unix:{path}", "") as (_, provider):
        assert await statuses(Client(*await asyncio.open_unix_connection(path)), provider) == EXPECTED


@needs_ipv6
async def test_the_public_listener_may_be_on_ipv6(tmp_path: Path) -> None:
    port = free_port()
    async with listener(tmp_path, f"[::1]:{port}", f"http://[::1]:{port}") as (_, provider):
        assert await statuses(Client(*await asyncio.open_connection("::1", port)), provider) == EXPECTED
