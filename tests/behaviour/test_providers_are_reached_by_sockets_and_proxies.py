"""A provider may listen on a unix socket or stand behind an HTTP proxy, whose credential no provider and no caller sees."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.configurations import ProviderEntry, configuration
from tests.harness import OK, Answer, Gateway, Provider, gateway, providers, whole

PASSWORD = "p@ss:word-of-the-proxy"
URL_PASSWORD = "p%40ss%3Aword-of-the-proxy"
CREDENTIAL = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()


class HttpProxy:
    """A proxy that tunnels and relays, and is strict: it wants its credential, and in plain HTTP the whole URL."""

    def __init__(self, credential: str | None = None, *, answer: bytes | None = None) -> None:
        self.port = 0
        self.heads: list[str] = []
        self._credential = credential
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split("\r\n")[0].split(" ")
        if self._answer is not None:
            writer.write(self._answer)
        elif self._credential is not None and f"\r\nproxy-authorization: {self._credential}\r\n" not in head:
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n"
            )
        elif method == "CONNECT":
            host, port = target.rsplit(":", 1)
            to_reader, to_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._join(reader, writer, to_reader, to_writer)
        elif target.startswith("http://"):
            host, _, path = target.removeprefix("http://").partition("/")
            to_reader, to_writer = await asyncio.open_connection(*host.split(":"))
            kept = [line for line in head.split("\r\n")[1:] if not line.startswith("proxy-")]
            to_writer.write("\r\n".join([f"{method} /{path} HTTP/1.1", *kept]).encode())
            await self._join(reader, writer, to_reader, to_writer)
        else:
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_reader: asyncio.StreamReader,
        to_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                target.write(piece)
                await target.drain()
            target.close()

        try:
            await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))
        finally:
            to_writer.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def proxied(credential: str | None = None, *, answer: bytes | None = None) -> AsyncIterator[HttpProxy]:
    """A proxy on a port of the kernel's choice."""
    proxy = HttpProxy(credential, answer=answer)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


async def answered(running: Gateway) -> Answer:
    client = await running.client()
    client.ask()
    return await client.answer()


@contextlib.asynccontextmanager
async def encrypted(directory: Path) -> AsyncIterator[tuple[Provider, str]]:
    """A provider with TLS, and the member of its entry that trusts it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with providers(tls=context) as (provider,):
        yield provider, f"ca_file: '{directory / 'ca.pem'}'"


# ---- unix sockets


@pytest.mark.parametrize("form", ["unix:%s:/v1", "http://unix:%s:/v1", "unix://%s:/v1/"])
async def test_a_provider_may_listen_on_a_unix_socket(tmp_path: Path, form: str) -> None:
    path = tmp_path / "vllm.sock"
    provider = Provider()
    server = await asyncio.start_unix_server(provider.serve, path)
    async with gateway(configuration(ProviderEntry(form % path)), tmp_path) as running:
        for _ in range(2):
            assert (await answered(running)).status == 200
        line, host = provider.received[0].line, provider.received[0].headers["host"]
        assert (line, host, provider.connections) == ("POST /v1/chat/completions HTTP/1.1", "localhost", 1)
    server.close()
    await provider.close()


async def test_a_unix_socket_that_nobody_serves_leads_to_the_next_source(tmp_path: Path) -> None:
    async with providers() as (other,):
        text = configuration(ProviderEntry(f"unix:{tmp_path / 'gone.sock'}"), other.port)
        async with gateway(text, tmp_path) as running:
            answer = await answered(running)
            assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
            assert running.source()["reason"] in (None, "no connection: no such file or directory")


# ---- proxies


async def test_https_goes_through_a_proxys_tunnel_and_only_the_proxy_gets_its_credential(tmp_path: Path) -> None:
    async with encrypted(tmp_path) as (provider, trust), proxied(CREDENTIAL) as proxy:
        more = f"{trust}, proxy: 'http://user:{URL_PASSWORD}@127.0.0.1:{proxy.port}'"
        text = configuration(ProviderEntry(f"https://localhost:{provider.port}/v1", more=more))
        async with gateway(text, tmp_path) as running:
            for _ in range(2):
                assert (await answered(running)).status == 200
            (head,) = proxy.heads  # one tunnel, which is kept
            assert head.startswith(f"CONNECT localhost:{provider.port} HTTP/1.1\r\nhost: localhost:{provider.port}\r\n")
            assert "provider-key" not in head
            assert not any(name.startswith("proxy-") for one in provider.received for name in one.headers)
            assert provider.received[0].line == "POST /v1/chat/completions HTTP/1.1"


async def test_plain_http_names_the_whole_url_to_a_proxy(tmp_path: Path) -> None:
    async with providers() as (provider,), proxied(CREDENTIAL) as proxy:
        text = configuration(ProviderEntry(provider.port, more=f"proxy: 'http://user:{URL_PASSWORD}@127.0.0.1:{proxy.port}'"))
        async with gateway(text, tmp_path) as running:
            assert (await answered(running)).status == 200
            assert proxy.heads[0].startswith(f"POST http://127.0.0.1:{provider.port}/v1/chat/completions HTTP/1.1\r\n")
            assert provider.received[0].headers["host"] == f"127.0.0.1:{provider.port}"


async def test_a_sources_proxy_replaces_its_providers(tmp_path: Path) -> None:
    async with providers() as (provider,), proxied() as proxy:
        nowhere = "proxy: 'http://127.0.0.1:1'"
        for source, count in ((f"proxy: 'http://127.0.0.1:{proxy.port}'", 1), ("proxy: null", 1)):
            text = configuration(ProviderEntry(provider.port, more=nowhere, source=source))
            async with gateway(text, tmp_path) as running:
                assert (await answered(running)).status == 200
            assert len(proxy.heads) == count


REFUSALS = {
    "no credential": (None, "its proxy asks for a user and a password, or refuses those in its URL (407)"),
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "its proxy does not allow this host (403)"),
    "bad gateway": (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "its proxy could not reach the provider (502)"),
    "other": (b"HTTP/1.1 418 I'm a teapot\r\n\r\n", "its proxy answered 418"),
    "no http": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "its proxy does not speak HTTP"),
    "too much": (b"HTTP/1.1 200 OK\r\n\r\nhello", "its proxy sent more than the tunnel's head"),
    "closed": (b"", "its proxy closed the connection"),
    "endless": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000, "its proxy does not speak HTTP"),
}


@pytest.mark.parametrize(("answer", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_proxys_refusal_is_told_and_names_no_credential(tmp_path: Path, answer: bytes | None, reason: str) -> None:
    async with proxied(CREDENTIAL, answer=answer) as proxy:
        more = f"proxy: 'http://user:wrong-password@127.0.0.1:{proxy.port}'"
        async with gateway(configuration(ProviderEntry("https://provider.example/v1", more=more)), tmp_path) as running:
            refused = await answered(running)
            assert refused.status == 502
            assert f"no connection: {reason}" in refused.json["error"]["message"]
            assert b"wrong-password" not in refused.body


async def test_a_proxy_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with gateway(configuration(ProviderEntry(9, more="proxy: 'http://127.0.0.1:1'")), tmp_path) as running:
        refused = await answered(running)
        assert "no connection: its proxy could not be reached" in refused.json["error"]["message"]


async def test_the_environments_proxy_is_used_only_if_it_is_asked_for(tmp_path: Path) -> None:
    async with providers() as (provider,), proxied() as proxy:
        variables = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}
        for more, environment, count in (
            ("", variables, 0),
            ("proxy: environment", {**variables, "NO_PROXY": "localhost,127.0.0.0/8"}, 0),
            ("proxy: environment", {}, 0),
            ("proxy: environment", variables, 1),
        ):
            text = configuration(ProviderEntry(provider.port, more=more))
            async with gateway(text, tmp_path, environment=environment) as running:
                provider.plays(OK)
                assert (await answered(running)).status == 200
            assert len(proxy.heads) == count


async def test_a_providers_error_that_quotes_the_proxys_password_is_masked(tmp_path: Path) -> None:
    async with providers() as (provider,), proxied() as proxy:
        more = f"proxy: 'http://user:{URL_PASSWORD}@127.0.0.1:{proxy.port}'"
        async with gateway(configuration(ProviderEntry(provider.port, more=more)), tmp_path) as running:
            quoted = f'{{"error":"{PASSWORD} {CREDENTIAL}"}}'.encode()
            provider.plays(whole(quoted, status="400 Bad Request"))
            answer = await answered(running)
            assert (answer.status, PASSWORD in answer.body.decode(), CREDENTIAL in answer.body.decode()) == (400, False, False)
