"""A key, an authority or a certificate that has changed is taken, by a reload or by itself; a bad one changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.configurations import ProviderEntry, configuration, listeners
from tests.harness import Gateway, Provider, gateway, providers
from tests.processes import free_port, serving
from tests.waiting import PATIENCE_S, until, wait_until

OLD, NEW = "the-old-key-0123456789", "the-new-key-0123456789"


def with_file(port: int, path: Path) -> str:
    return configuration(ProviderEntry(port, api_key=None, more=f"api_key_file: '{path}'"))


def with_command(port: int, *arguments: object, more: str = "") -> str:
    written = ", ".join(f"'{argument}'" for argument in arguments)
    return configuration(ProviderEntry(port, api_key=None, more=f"api_key_command: [{written}]{more}"))


async def ask(running: Gateway) -> int:
    client = await running.client()
    client.ask()
    return (await client.answer()).status


def last_key(provider: Provider) -> str:
    return provider.received[-1].headers["authorization"].removeprefix("Bearer ")


@contextlib.asynccontextmanager
async def watching(running: Gateway) -> AsyncIterator[None]:
    """The gateway looks at files and commands, more often than usual."""
    task = asyncio.create_task(running.configuration.watch_outside(0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def swap(mount: Path, key: str) -> None:
    """Replace a secret as Kubernetes does: a new folder, and a link `..data` that is moved over the old one."""
    folder = mount / f"..{time.monotonic_ns()}"
    folder.mkdir()
    (folder / "key").write_text(f"{key}\n")
    (mount / "..next").symlink_to(folder.name)
    (mount / "..next").rename(mount / "..data")


def mounted(directory: Path, key: str) -> Path:
    """The path of a mounted secret."""
    mount = directory / "mount"
    mount.mkdir()
    swap(mount, key)
    (mount / "key").symlink_to("..data/key")
    return mount / "key"


# ---- files


async def test_a_key_in_a_file_is_taken_at_a_reload_although_the_configuration_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"  {OLD}\n")
    async with providers() as (provider,), gateway(with_file(provider.port, path), tmp_path) as running:
        assert (await ask(running), last_key(provider)) == (200, OLD)
        path.write_text(NEW)
        outcome = await running.configuration.reload("a test")
        assert (outcome.result, outcome.renewed) == ("reloaded", (str(path),))
        assert (await ask(running), last_key(provider)) == (200, NEW)
        assert (await running.configuration.reload("a test")).result == "unchanged"


async def test_a_mounted_secret_that_is_swapped_is_taken_by_itself(tmp_path: Path) -> None:
    path = mounted(tmp_path, OLD)
    async with providers() as (provider,), gateway(with_file(provider.port, path), tmp_path) as running, watching(running):
        assert (await ask(running), last_key(provider)) == (200, OLD)
        swap(path.parent, NEW)
        await until(lambda: running.configuration.reloads)
        assert (await ask(running), last_key(provider)) == (200, NEW)


async def test_a_key_is_renewed_although_the_configuration_file_is_half_edited(tmp_path: Path) -> None:
    path = mounted(tmp_path, OLD)
    async with providers() as (provider,), gateway(with_file(provider.port, path), tmp_path) as running, watching(running):
        running.file.write_text("providers: [")
        swap(path.parent, NEW)
        await until(lambda: running.configuration.reloads.get("reloaded"))
        assert (await ask(running), last_key(provider)) == (200, NEW)


async def test_without_its_key_file_a_provider_is_off_and_comes_back_with_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    async with providers() as (provider,), gateway(with_file(provider.port, path), tmp_path) as running:
        off = f"the file {path} can't be read (no such file or directory)"
        assert running.configuration.snapshot.providers["p0"].off == off
        assert await ask(running) == 503
        async with watching(running):
            path.write_text(NEW)
            await until(lambda: running.configuration.snapshot.providers["p0"].off is None)
            assert (await ask(running), last_key(provider)) == (200, NEW)


async def test_a_key_file_that_vanishes_leaves_the_key_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "key"
    path.write_text(OLD)
    async with providers() as (provider,), gateway(with_file(provider.port, path), tmp_path) as running:
        path.unlink()
        with caplog.at_level(logging.WARNING):
            assert (await running.configuration.reload("a test")).result == "unchanged"
        assert f"{path} can't be read (no such file or directory); what it held before is used on" in caplog.text
        assert (await ask(running), last_key(provider)) == (200, OLD)


@pytest.mark.parametrize("content", ["", "two\nlines", "caf\u00e9-0123456789", "\0"])
async def test_a_file_that_holds_no_key_switches_the_provider_off_and_is_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    async with gateway(with_file(9, path), tmp_path) as running:
        off = running.configuration.snapshot.providers["p0"].off
        assert off is not None
        assert off.startswith(f"the file {path} ")
        assert not content or content not in off


# ---- commands

PRINTER = "import sys; sys.stdout.write(open(sys.argv[1]).read()); sys.stderr.write('noise')"


async def test_a_command_prints_the_key_and_is_run_again_after_its_term(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{OLD}\n")
    async with providers() as (provider,):
        text = with_command(provider.port, sys.executable, "-c", PRINTER.replace("'", "''"), path, more=", api_key_refresh: 1s")
        async with gateway(text, tmp_path) as running, watching(running):
            assert (await ask(running), last_key(provider)) == (200, OLD)
            path.write_text(NEW)
            await until(lambda: running.configuration.reloads)
            assert (await ask(running), last_key(provider)) == (200, NEW)


async def test_a_reload_runs_the_command_again_and_names_the_program(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(OLD)
    async with providers() as (provider,), gateway(with_command(provider.port, "cat", path), tmp_path) as running:
        path.write_text(NEW)
        outcome = await running.configuration.reload("a test")
        assert (outcome.result, outcome.renewed) == ("reloaded", ("cat",))
        assert (await ask(running), last_key(provider)) == (200, NEW)


@pytest.mark.parametrize(("arguments", "reason"), [
    (("sh", "-c", f"echo {OLD}; exit 3"), "failed with exit status 3; run it by hand to see why"),
    (("sh", "-c", f"echo {OLD}; kill -9 $$"), "was ended by signal 9; run it by hand to see why"),
    (("sh", "-c", f"echo {OLD}; sleep 100"), "did not end within 0.2 s"),
    (("sh", "-c", f"echo {OLD}; exec >&-; sleep 100"), "did not end within 0.2 s"),
    (("sh", "-c", "sleep 100 & echo $!"), "did not end within 0.2 s"),
    (("yes", OLD), "printed more than 16 KiB"),
    (("/no/such/program",), "can''t be run: no such file or directory"),
    (("true",), "printed nothing"),
    (("echo", f"{OLD}\nmore"), "gives no key: one line of printable ASCII is expected"),
])  # fmt: skip
async def test_a_command_that_gives_no_key_switches_the_provider_off_and_is_not_quoted(
    tmp_path: Path, arguments: tuple[str, ...], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    if arguments[0] == "echo":
        arguments = ("printf", r"the-old-key-0123456789\nmore")
    async with gateway(with_command(9, *arguments, more=", api_key_timeout: 200ms"), tmp_path) as running:
        off = running.configuration.snapshot.providers["p0"].off
        assert off == f"its api_key_command {reason.replace(chr(39) * 2, chr(39))}"
        assert OLD not in off + caplog.text


async def test_a_command_that_fails_later_leaves_the_key_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "key"
    path.write_text(OLD)
    async with providers() as (provider,), gateway(with_command(provider.port, "cat", path), tmp_path) as running:
        path.unlink()
        with caplog.at_level(logging.WARNING):
            assert (await running.configuration.reload("a test")).result == "unchanged"
        assert "api_key_command cat failed with exit status 1; run it by hand to see why; the key that it printed before" in (
            caplog.text
        )
        assert (await ask(running), last_key(provider)) == (200, OLD)


async def test_commands_run_side_by_side_and_streams_go_on_meanwhile(tmp_path: Path) -> None:
    """Each of two commands waits for what the other has done, so both run at once; and the loop has its turns."""
    first, second = tmp_path / "first", tmp_path / "second"
    wait = "touch {0}; until [ -e {1} ]; do sleep 0.01; done; echo the-key-0123456789"
    entries = [
        ProviderEntry(9, api_key=None, more=f"api_key_command: [sh, -c, '{wait.format(mine, other)}']")
        for mine, other in ((first, second), (second, first))
    ]
    async with gateway(configuration(*entries), tmp_path) as running:
        assert [one.off for one in running.configuration.snapshot.providers.values()] == [None, None]
        first.unlink()
        second.unlink()
        turns = 0
        reloading = asyncio.create_task(running.configuration.reload("a test"))
        while not reloading.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100


# ---- certificates


class Certificates:
    """The certificate of the public listener, on disk, of one authority."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.certificate, self.key = directory / "certificate.pem", directory / "key.pem"
        self.renew()

    def renew(self) -> None:
        """Put another certificate and key in the place of the present ones."""
        leaf = self.authority.issue_cert("127.0.0.1")
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self.key)

    @property
    def settings(self) -> str:
        return f"tls: {{certificate: '{self.certificate}', key: '{self.key}'}}\n"

    @property
    def on_disk(self) -> bytes:
        """The certificate as it is sent."""
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text().partition("-----END CERTIFICATE-----\n")[0] + _END)

    @property
    def client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        return context


_END = "-----END CERTIFICATE-----\n"


async def served_certificate(port: int, certificates: Certificates) -> bytes:
    """The certificate that a new connection is shown."""
    async with asyncio.timeout(PATIENCE_S):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=certificates.client)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return shown


def test_a_renewed_certificate_is_served_after_sighup_and_open_connections_go_on(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    async def read_twice(process_id: int, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=certificates.client)
        before = await served_certificate(port, certificates)
        assert before == certificates.on_disk
        certificates.renew()
        assert certificates.on_disk != before
        os.kill(process_id, signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_S):
            while await served_certificate(port, certificates) != certificates.on_disk:
                await asyncio.sleep(0.01)
        writer.write(b"GET /v1/health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    port = free_port()
    text = configuration(9) + listeners(f"127.0.0.1:{port}", access_log=tmp_path / "log") + certificates.settings
    with serving(text, tmp_path, "") as running:
        asyncio.run(read_twice(running.process.pid, port))


async def test_a_certificate_that_does_not_fit_its_key_changes_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(tmp_path)
    async with gateway(configuration(9, more=certificates.settings), tmp_path) as running, watching(running):
        before = running.configuration.tls()
        key = certificates.key.read_bytes()
        certificates.renew()
        new_key = certificates.key.read_bytes()
        certificates.key.write_bytes(key)
        await until(lambda: running.configuration.reloads.get("failed"))
        assert running.configuration.tls() is before
        assert "are not a PEM certificate chain and its key" in caplog.text
        failures = running.configuration.reloads["failed"]
        certificates.key.write_bytes(new_key)
        await until(lambda: running.configuration.reloads.get("reloaded"))
        assert running.configuration.tls() is not before
        assert running.configuration.reloads["failed"] <= failures + 1


async def test_the_authorities_of_a_provider_are_renewed(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    path = tmp_path / "ca.pem"
    old.cert_pem.write_to_path(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    new.issue_cert("localhost").configure_cert(context)
    async with providers(tls=context) as (provider,):
        entry = ProviderEntry(f"https://localhost:{provider.port}/v1", more=f"ca_file: '{path}'")
        async with gateway(configuration(entry), tmp_path) as running, watching(running):
            assert await ask(running) == 502
            path.write_text(f"# caf\u00e9 & co\n{new.cert_pem.bytes().decode()}", encoding="utf-8")
            await until(lambda: running.configuration.reloads)
            running.forget_failures()
            assert await ask(running) == 200


async def test_authorities_that_are_no_certificates_change_nothing(tmp_path: Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    text = configuration(ProviderEntry("https://localhost:9/v1", more=f"ca_file: '{path}'"))
    async with gateway(text, tmp_path) as running:
        before = running.configuration.snapshot
        for wrong in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            path.write_text(wrong)
            outcome = await running.configuration.reload("a test")
            assert outcome.result == "failed"
            assert "holds no certificate in PEM" in str(outcome.message) + str(outcome.problems)
        assert running.configuration.snapshot is before


def test_a_command_that_hangs_does_not_delay_the_stop(tmp_path: Path) -> None:
    first = tmp_path / "first"
    hang = f"if [ -e {first} ]; then touch {first}.hangs; sleep 1000; fi; touch {first}; echo the-key-0123456789"
    entry = ProviderEntry(9, api_key=None, more=f"api_key_command: [sh, -c, '{hang}'], api_key_timeout: 15m")
    text = configuration(entry) + listeners(f"127.0.0.1:{free_port()}", access_log=tmp_path / "log")
    with serving(text, tmp_path, "") as running:
        running.signal(signal.SIGHUP)
        wait_until(Path(f"{first}.hangs").exists)
        running.signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0
