"""A reload takes each key of the configuration, or names it, as the reference says; and a dry run says so before."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from kyma_proxy.config.reload_result import ReloadPreview
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.loading.reference.fields import KEYS
from kyma_proxy.loading.reference.key import EACH_KEY, REPLACE, RESTART
from kyma_proxy.ops.reload import Configuration
from tests.documented_keys import ENVIRONMENT, DocumentedKey, documented_keys
from tests.harness import Client, both
from tests.processes import free_port, relayed
from tests.serving_place import ended, place
from tests.waiting import until

ALL = documented_keys()
WAIT_FOR_A_RESTART = {
    "listen", "tls", "admin", "admin.listen", "access_log", "workers", "accounts.required", "accounts.database",
    "dashboard.enabled", "dashboard.public_url",
}  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that examples name: in place of /etc/kyma and /run/secrets."""
    home = tmp_path_factory.mktemp("files")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    for name in ("old", "fullchain"):
        (home / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    for name in ("old.key", "privkey.pem"):
        (home / name).write_bytes(issued.private_key_pem.bytes())
    (home / "authority.pem").write_bytes(authority.cert_pem.bytes())
    (home / "openai").write_text("a-key-in-a-file\n")
    return home


def in_place(text: str, directory: Path) -> str:
    """The text with the paths of the files that there are, and a program that is there."""
    for path in ("/etc/kyma", "/run/secrets"):
        text = text.replace(f"{path}/", f"{directory}/")
    return text.replace("- gcloud", f"- {shutil.which('echo')}")


@pytest.mark.parametrize("one", ALL, ids=[one.path for one in ALL])
async def test_each_key_is_taken_or_named_as_the_reference_says(one: DocumentedKey, directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(in_place(one.before, directory))
    held = Configuration(file, ENVIRONMENT)
    before = held.snapshot
    file.write_text(in_place(one.after, directory))
    preview = await held.preview()
    assert (held.snapshot, held.reloads) == (before, {})
    outcome = await held.reload("a test")
    held.stop()

    waits = one.key.reload in (REPLACE, RESTART)
    assert waits == (one.path in WAIT_FOR_A_RESTART)
    assert (outcome.result, outcome.problems) == ("reloaded", ())
    assert outcome.needs_restart == ((one.path,) if waits else ())
    expected = Configuration(file, ENVIRONMENT)
    expected.stop()
    assert (comparable(held.snapshot) == comparable(expected.snapshot)) == (not waits)

    assert_is_outcome_of(preview, outcome)
    reloads = {change.path: change.reload for change in preview.changes}
    assert set(reloads.values()) <= ({one.key.reload} if waits else {one.key.reload, "at once", "new connections"})
    if one.key.reload != EACH_KEY:
        named = [path for path in reloads if is_at(path, one.path)]
        assert named, (one.path, reloads)
        assert all(reloads[path] == one.key.reload for path in named if plain(path) == one.path)


def comparable(snapshot: Snapshot) -> tuple[Snapshot, object]:
    """The snapshot, so that two that say the same are equal: a secret is equal to itself alone."""
    admin = snapshot.admin
    token = None if admin is None or admin.token is None else admin.token.reveal()
    return replace(snapshot, admin=None), None if admin is None else (admin.listen, token)


def assert_is_outcome_of(preview: ReloadPreview, outcome: Any) -> None:
    """A dry run and the reload after it say the same."""
    for name in ("result", "message", "problems", "needs_restart", "warnings", "renewed"):
        assert getattr(preview, name) == getattr(outcome, name), name
    assert preview.new_version == outcome.version


def plain(path: str) -> str:
    """The path as the reference has it: `models[gpt-4o].pool[openai gpt-4o].weight` is `models[].pool[].weight`."""
    at = "".join("[]" if part.startswith("[") and part != "[" else part for part in split(path))
    return at.removesuffix("[]")


def split(path: str) -> list[str]:
    """The parts of a path; each name in brackets is one."""
    parts = [""]
    depth = 0
    for letter in path:
        if letter == "[" and not depth:
            parts.append("")
        depth += (letter == "[") - (letter == "]")
        parts[-1] += letter
        if letter == "]" and not depth:
            parts.append("")
    return parts


def is_at(path: str, wanted: str) -> bool:
    """True if a change there is one of this key: of itself, of a part of it, or of the entry that has it."""
    at = plain(path).replace("[]", "")
    wanted = wanted.replace("[]", "").replace(".NAME", "")
    return at == wanted or at.startswith(f"{wanted}.") or wanted.startswith(f"{at}.")


def test_every_key_is_tried() -> None:
    assert len(ALL) == sum(map(len, KEYS.values())) > 130
    assert {one.path for one in ALL} >= WAIT_FOR_A_RESTART


# ---- at once, and for new connections


async def test_an_open_connection_has_the_new_limits_from_its_next_request_on(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, _):
        client = await running.client()
        for limits, status in (("", 200), ("limits: {max_body: 9B}\n", 413)):
            running.file.write_text(running.file.read_text() + limits)
            await running.configuration.reload("a test")
            client.ask()
            assert (await client.answer()).status == status


async def test_fewer_connections_are_for_new_ones(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, _):
        clients = [await running.client() for _ in range(2)]
        for client in clients:
            client.ask()
            assert (await client.answer()).status == 200
        running.file.write_text(running.file.read_text() + "limits: {max_connections: 1}\n")
        assert (await running.configuration.reload("a test")).result == "reloaded"
        for client in clients:
            client.ask()
            assert (await client.answer()).status == 200
        late = await running.client()
        late.ask()
        assert (await late.answer()).status == 503


async def test_an_open_connection_to_a_provider_goes_on_with_its_keep_alive(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        client = await running.client()
        for more in ("", ", keep_alive: 1h"):
            running.file.write_text(running.file.read_text().replace("dialect: openai", f"dialect: openai{more}"))
            await running.configuration.reload("a test")
            client.ask()
            assert (await client.answer()).status == 200
        assert provider.connections == 1


# ---- with serve --replace


@pytest.mark.parametrize("change", ["tls", "admin", "admin.listen", "access_log"])
async def test_a_new_process_takes_what_a_reload_can_not(tmp_path: Path, directory: Path, change: str) -> None:
    assert next(one for one in ALL if one.path == change).key.reload == REPLACE
    tls = ssl.create_default_context(cafile=directory / "authority.pem") if change == "tls" else None
    async with place(tmp_path) as here, here.serving() as old:
        admin, log = free_port(), str(tmp_path / "other.log")
        (line,) = (line for line in here.text.splitlines() if line.startswith("admin:"))
        here.text = {
            "tls": f"{here.text}tls: {{certificate: {directory}/old.pem, key: {directory}/old.key}}\n",
            "admin": here.text.replace(line, "admin: null"),
            "admin.listen": here.text.replace(line, f"admin: {{listen: '127.0.0.1:{admin}'}}"),
            "access_log": here.text.replace(str(tmp_path / "access.log"), log),
        }[change]
        async with here.serving("--replace"):
            assert await ended(old) == 0
            host, _, port = here.listen.rpartition(":")
            client = Client(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=tls and "localhost"))
            client.ask()
            assert (await client.answer()).status == 200
            client.writer.close()
            await client.writer.wait_closed()
            assert [answers(port) for port in (here.admin, admin)] == [
                change in ("tls", "access_log"), change == "admin.listen",
            ]  # fmt: skip
            if change == "access_log":
                await until(lambda: relayed(Path(log)))


def answers(port: int) -> bool:
    """True if something listens at this port of this machine."""
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
