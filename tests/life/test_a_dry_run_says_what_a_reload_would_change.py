"""What a reload would change can be asked, and nothing changes: by the admin API, and by `check --diff`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.ops.reload import Configuration
from tests.configurations import ProviderEntry, configuration
from tests.harness import Answer, Client, Gateway, admin_port, both
from tests.processes import command, free_port, serving_simulated

pytestmark = pytest.mark.timeout(120)  # one test runs several commands
TOKEN = "a-token-for-the-admin-api"
ADMIN = f"admin: {{token: {TOKEN}}}\n"
NOTHING: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}


async def post(running: Gateway, path: str, body: bytes = b"", token: str = TOKEN) -> Answer:
    """The answer of the admin API."""
    with admin_port(running) as port:
        client = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        client.send(head.encode() + body)
        return await client.answer()


def changed(text: str) -> str:
    """The text with a provider, a model and an alias more or less, and other settings."""
    text = text.replace(
        "models:\n", '  - {name: extra, base_url: "http://extra", dialect: openai, api_key: secret-key}\nmodels:\n'
    )
    text = text.replace("input: 1,", "input: 3,").replace("id: n,", "id: new,").replace("fast: m", "quick: m")
    return text + "drain: 7s\nlimits: {max_body: 2MiB}\naccounts: {database: sqlite:other.db}\n"


WITH_MORE: dict[str, Any] = {"models": "  - {id: n, provider: p0}\n", "more": f"aliases: {{fast: m}}\n{ADMIN}"}


# ---- POST /admin/reload?dry_run=1


async def test_the_answer_has_what_would_change_by_section_and_key_by_key(tmp_path: Path) -> None:
    async with both(tmp_path, **WITH_MORE) as (running, _):
        before = running.configuration.snapshot
        assert (await post(running, "/admin/reload?dry_run=1")).json["result"] == "unchanged"
        running.file.write_text(changed(running.file.read_text()))
        answer = await post(running, "/admin/reload?dry_run=1")
        document = answer.json
        assert (answer.status, document["dry_run"], document["result"]) == (200, True, "reloaded")
        assert document["needs_restart"] == ["accounts.database"]
        assert document["providers"] == {**NOTHING, "added": ["extra"]}
        assert document["models"] == {"added": ["new"], "removed": ["n"], "changed": ["m"]}
        assert document["aliases"] == {"added": ["quick"], "removed": ["fast"], "changed": []}
        assert document["fallbacks"] == NOTHING
        assert document["settings"] == ["drain", "limits.max_body", "accounts.database"]
        drain = {"path": "drain", "kind": "changed", "name": None, "before": "25s", "after": "7s", "reload": "at once"}
        assert drain in document["changes"]
        assert document["changes"][-1]["reload"] == "restart"
        assert b"secret-key" not in answer.body
        assert (running.configuration.snapshot, running.configuration.reloads) == (before, {})
        assert (await post(running, "/admin/reload")).json["version"] == document["new_version"] != document["version"]


async def test_a_wrong_file_has_the_problems_of_a_reload(tmp_path: Path) -> None:
    async with both(tmp_path, more=ADMIN) as (running, _):
        running.file.write_text(running.file.read_text().replace("pool:", "pol:"))
        dry = await post(running, "/admin/reload?dry_run=1")
        assert (dry.status, dry.json["result"], dry.json["changes"], running.configuration.reloads) == (422, "failed", [], {})
        assert running.configuration.last_reload_succeeded
        real = await post(running, "/admin/reload?dry_run=0")
        assert (real.status, real.json["problems"]) == (422, dry.json["problems"])
        running.file.unlink()
        missing = await post(running, "/admin/reload?dry_run=1")
        assert (missing.status, missing.json["result"]) == (422, "failed")
        assert "no such file" in missing.json["message"]


@pytest.mark.parametrize("query", ["dry_run", "dry_run=true", "dry-run=1", "dry_run=1&dry_run=0", "dryrun=1", "dry_run=1&x=1"])
async def test_what_is_not_understood_reloads_nothing(tmp_path: Path, query: str) -> None:
    async with both(tmp_path, more=ADMIN) as (running, _):
        answer = await post(running, f"/admin/reload?{query}")
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
        answer = await post(running, "/admin/reload?dry_run=1", b"drain: 1s\n")
        assert answer.status == 400
        assert "check FILE --diff" in answer.json["error"]["message"]
        assert (await post(running, "/admin/reload?dry_run=1", token="another-token")).status == 401
        assert running.configuration.reloads == {}


async def test_a_dry_run_runs_no_command_and_takes_no_renewed_key(tmp_path: Path) -> None:
    file, key, ran, other = (tmp_path / name for name in ("gateway.yaml", "key", "ran", "other"))
    key.write_text("a-key-in-a-file-1")
    entries = [
        ProviderEntry(1, api_key=None, more=f"api_key_file: {key}"),
        ProviderEntry(2, api_key=None, more=f"api_key_command: [sh, -c, 'echo x >> {ran}; echo a-key-that-is-printed']"),
    ]
    file.write_text(configuration(*entries))
    held = Configuration(file, {})
    before = held.snapshot
    assert ran.read_text() == "x\n"
    key.write_text("a-key-in-a-file-2")
    for expected in ("reloaded", "reloaded"):
        preview = await held.preview()
        assert (preview.result, preview.renewed, preview.changes) == (expected, (str(key),), ())
    file.write_text(configuration(entries[0], entries[1]._replace(more=f"api_key_command: [touch, {other}]")))
    assert [change.path for change in (await held.preview()).changes] == ["providers[p1].api_key_command"]
    assert (held.snapshot, held.reloads, ran.read_text()) == (before, {}, "x\n")
    assert not other.exists()
    held.stop()


async def test_a_large_configuration_is_compared_too(tmp_path: Path) -> None:
    models = "".join(f"  - {{id: model-{at}, provider: p0}}\n" for at in range(2_000))
    async with both(tmp_path, models=models, more=ADMIN) as (running, _):
        before = running.configuration.snapshot
        running.file.write_text(running.file.read_text().replace("model-1999,", "model-2000,"))
        for _ in range(2):
            document = (await post(running, "/admin/reload?dry_run=1")).json
            assert document["models"] == {"added": ["model-2000"], "removed": ["model-1999"], "changed": []}
        assert (running.configuration.snapshot, running.configuration.reloads) == (before, {})
        assert (await post(running, "/admin/reload")).json["result"] == "reloaded"


async def test_a_setting_that_waits_already_is_named_until_the_restart(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(configuration(1))
    held = Configuration(file, {})
    file.write_text(configuration(1, more="access_log: /elsewhere\n"))
    await held.reload("a test")
    preview = await held.preview()
    assert (preview.result, preview.needs_restart) == ("unchanged", ("access_log",))
    assert [(change.path, change.reload) for change in preview.changes] == [("access_log", "replace")]
    held.stop()


# ---- POST /admin/config/compare


async def test_a_configuration_from_outside_is_compared_as_it_is_written(tmp_path: Path) -> None:
    """Otherwise somebody with the token could ask of many texts which of them fit a variable, and so learn its value."""
    async with both(tmp_path, more=ADMIN) as (running, _):
        for form, changes in (({"aliases": {"${HOME}": "/root", "a": "${HOME}"}}, {"${HOME}": "/root", "a": "${HOME}"}),):
            document = (await post(running, "/admin/config/compare", json.dumps(form).encode())).json
            found = {one["name"]: one["after"] for one in document["changes"] if one["path"].startswith("aliases")}
            assert found == changes
        for body in (b"{", b"[]", b"\xff"):
            assert (await post(running, "/admin/config/compare", body)).status == 400
        large = {"aliases": {f"an-alias-with-a-long-name-and-a-number-{at}": "m" * 60 for at in range(25_000)}}
        answer = await post(running, "/admin/config/compare", json.dumps(large).encode())
        assert len(answer.json["aliases"]["added"]) == 25_000
        assert running.configuration.reloads == {}


# ---- kyma-proxy check FILE --diff


class Running:
    """A gateway in a process of its own, its admin listener, its file, and another beside it."""

    def __init__(self, directory: Path, admin: str) -> None:
        self.admin = admin
        self.file = directory / "gateway.yaml"
        self.text = self.file.read_text()
        self.other = directory / "other.yaml"

    def diff(self, text: str, *options: str, **environment: str) -> tuple[int, list[str], list[str]]:
        """The exit code of `check --diff` with this text, and the lines that it prints, on both outputs."""
        self.other.write_text(text)
        result = command("check", self.other, "--diff", *options, **environment)
        return result.returncode, result.stdout.splitlines(), result.stderr.splitlines()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("gateway")
    admin = f"127.0.0.1:{free_port()}"
    with serving_simulated(directory, admin=f"{{listen: '{admin}', token: {TOKEN}}}"):
        yield Running(directory, admin)


def test_check_says_what_would_change(running: Running) -> None:
    text = running.text.replace(
        "models:\n", '  - {name: extra, base_url: "http://extra", dialect: openai, api_key: "${A}"}\nmodels:\n'
    )
    text = (
        text.replace("input: 1, output: 2", "input: 3")
        .replace("id: vendor/sim", "id: vendor/new")
        .replace("fast: sim", "quick: sim")
    )
    assert running.diff(f"{text}usage: ask\ndrain: 7s\nlimits: {{max_body: 2MiB}}\n", A="a-key") == (0, [
        "~ usage: as_reported -> ask",
        "~ drain: 25s -> 7s",
        "~ limits.max_body: 32MiB -> 2MiB",
        "+ providers[extra]",
        "~ models[sim].price.input: 1 -> 3",
        "~ models[sim].price.output: 2 -> (left out)",
        "- models[vendor/sim]",
        "+ models[vendor/new]",
        "- aliases[fast]: sim",
        "+ aliases[quick]: sim",
        f"{running.other}: 10 changes in the gateway at {running.admin}",
    ], [])  # fmt: skip
    assert running.diff(running.text) == (0, [f"{running.other}: nothing would change in the gateway at {running.admin}"], [])


def test_check_sees_another_secret_and_shows_none(running: Running) -> None:
    assert "provider-key" in running.text
    code, lines, _ = running.diff(running.text.replace("api_key: provider-key", "api_key: another-provider-key", 1))
    assert (code, lines[0]) == (0, "~ providers[simulated].api_key: (not shown) -> (not shown)")
    assert len(lines) == 2


def test_check_names_what_waits_for_a_restart(running: Running) -> None:
    _, lines, _ = running.diff(running.text.replace("listen: '", "listen: '[::1]:1'  # '", 1))
    assert lines[0].endswith("-> '[::1]:1'  (waits for a restart)")
    assert lines[1] == f"{running.other}: 1 change, of which 1 waits in the gateway at {running.admin}"


def test_check_prints_the_same_as_json(running: Running) -> None:
    code, lines, _ = running.diff(f"{running.text}drain: 8s\n", "--json")
    document = json.loads(lines[0])
    assert (code, len(lines), document["ok"], document["problems"]) == (0, 1, True, [])
    assert [change["path"] for change in document["diff"]["changes"]] == document["diff"]["settings"] == ["drain"]
    assert document["diff"]["gateway"] == running.admin
    code, lines, _ = running.diff(f"{running.text}drain: 8\n", "--json")
    assert (code, json.loads(lines[0])["ok"]) == (2, False)


@pytest.mark.parametrize(
    ("admin", "reason"),
    [
        ("{listen: '127.0.0.1:%d', token: %s}", "nothing listens at"),
        ("{listen: '%s', token: another-token-of-the-admin-api}", "has another admin token"),
        ("{listen: '%s'}", "asks for its admin token; set admin.token here"),
        ("null", "has no admin listener; give that of the running gateway with --admin ADDRESS"),
    ],
)
def test_a_gateway_that_can_not_be_asked_is_one_line(running: Running, admin: str, reason: str) -> None:
    values: tuple[Any, ...] = (free_port(), TOKEN) if "%d" in admin else (running.admin,) if "%s" in admin else ()
    (line,) = (line for line in running.text.splitlines() if line.startswith("admin:"))
    code, lines, errors = running.diff(running.text.replace(line, f"admin: {admin % values}"))
    assert (code, lines, len(errors)) == (1, [], 1)
    assert reason in errors[0]


def test_a_unix_socket_is_asked_too_and_an_option_names_another(tmp_path: Path) -> None:
    admin = f"unix:{tmp_path}/admin.sock"
    with serving_simulated(tmp_path, admin=f"{{listen: '{admin}', token: {TOKEN}}}"):
        running = Running(tmp_path, admin)
        assert running.diff(f"{running.text}drain: 8s\n")[1][0] == "~ drain: 25s -> 8s"
        _, lines, _ = running.diff(running.text.replace(admin, f"{admin}-new"), "--admin", admin)
        assert lines[0] == f"~ admin.listen: {admin} -> {admin}-new  (waits for `serve --replace`, or a restart)"
