"""A dry run of a reload says what would change, and changes nothing: by the admin API, and by `check --diff`."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.ops.reload import Configuration
from tests.configurations import ProviderEntry, configuration
from tests.processes import GatewayProcess, command, free_port, serving_simulated

TOKEN = "a-token-for-the-admin-api"
NOTHING: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}


class Running:
    """A gateway with an admin listener on TCP, whose configuration names variables."""

    def __init__(self, process: GatewayProcess, directory: Path, admin: str) -> None:
        self.process = process
        self.admin = admin
        self.file = directory / "gateway.yaml"
        self.other = directory / "other.yaml"

    def post(self, query: str, body: bytes | None = None, token: str = TOKEN) -> tuple[int, Any]:
        """The status and the document of a request for a reload."""
        request = urllib.request.Request(
            f"http://{self.admin}/admin/reload{query}", body, {"Authorization": f"Bearer {token}"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    @property
    def reloads(self) -> str:
        """The metrics of reloads."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as answer:
            return "\n".join(line for line in answer.read().decode().splitlines() if line.startswith("kyma_reloads_total{"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("gateway")
    admin = f"127.0.0.1:{free_port()}"
    with serving_simulated(directory, admin=f"{{listen: '{admin}', token: {TOKEN}}}") as process:
        yield Running(process, directory, admin)


def changed(text: str) -> str:
    """The text with a model, a provider and an alias added and removed, and settings that do and don't wait for a restart."""
    extra = '  - {name: extra, base_url: "http://extra", dialect: openai, api_key: a-key-that-is-secret}\nmodels:\n'
    text = (
        text.replace("models:\n", extra).replace("id: vendor/sim", "id: vendor/new").replace("input: 1, output: 2", "input: 3")
    )
    return text.replace("fast: sim", "quick: sim") + "drain: 7s\nlimits: {max_body: 2MiB}\ntls: {certificate: CERT, key: KEY}\n"


def test_the_answer_has_what_would_change_by_section_and_key_by_key(running: Running) -> None:
    before = running.file.read_text()
    text = changed(before).replace("tls: {certificate: CERT, key: KEY}\n", "accounts: {database: sqlite:other.db}\n")
    status, document = running.post("?dry_run=1", text.encode())
    assert status == 200
    assert (document["dry_run"], document["result"], document["needs_restart"]) == (True, "reloaded", ["accounts.database"])
    assert document["providers"] == {**NOTHING, "added": ["extra"]}
    assert document["models"] == {"added": ["vendor/new"], "removed": ["vendor/sim"], "changed": ["sim"]}
    assert document["aliases"] == {"added": ["quick"], "removed": ["fast"], "changed": []}
    assert document["fallbacks"] == NOTHING
    assert document["settings"] == ["drain", "limits.max_body", "accounts.database"]
    assert {"path": "drain", "kind": "changed", "name": None, "before": "25s", "after": "7s", "reload": "at once"} in document[
        "changes"
    ]
    assert document["changes"][-1]["reload"] == "restart"
    assert document["version"] != document["new_version"]
    assert "secret" not in json.dumps(document)
    assert running.post("?dry_run=1")[1]["result"] == "unchanged"
    assert running.reloads == ""


def test_a_wrong_file_has_the_problems_of_a_reload(running: Running) -> None:
    text = running.file.read_text().replace("pool:", "pol:")
    status, document = running.post("?dry_run=1", text.encode())
    assert (status, document["result"], document["changes"]) == (422, "failed", [])
    assert any("did you mean pool?" in problem["message"] and problem["line"] > 1 for problem in document["problems"])
    assert running.post("?dry_run=1", b"\xff")[0] == 400
    assert running.reloads == ""


@pytest.mark.parametrize("query", ["?dry_run", "?dry_run=true", "?dry-run=1", "?dry_run=1&dry_run=0", "?dryrun=1"])
def test_a_query_that_is_not_understood_reloads_nothing(running: Running, query: str) -> None:
    status, document = running.post(query)
    assert (status, document["error"]["code"]) == (400, "invalid_request")
    assert running.reloads == ""


def test_a_dry_run_needs_the_token(running: Running) -> None:
    assert running.post("?dry_run=1", token="another-token-of-16")[0] == 401


def test_a_large_configuration_can_be_sent(running: Running) -> None:
    text = running.file.read_text() + "# a comment\n" * 300_000
    assert len(text) > 3 * 2**20
    assert running.post("?dry_run=1", text.encode())[1]["changes"] == []


def test_check_says_what_would_change(running: Running) -> None:
    running.other.write_text(changed(running.file.read_text()).replace("tls: {certificate: CERT, key: KEY}\n", "usage: ask\n"))
    result = command("check", running.other, "--diff")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "~ usage: as_reported -> ask",
        "~ drain: 25s -> 7s",
        "~ limits.max_body: 32MiB -> 2MiB",
        "+ providers[extra]",
        "~ models[sim].price.input: 1 -> 3",
        "~ models[sim].price.output: 2 -> null",
        "- models[vendor/sim]",
        "+ models[vendor/new]",
        "- aliases[fast]: sim",
        "+ aliases[quick]: sim",
        f"{running.other}: 10 changes in the gateway at {running.admin}",
    ]
    same = command("check", running.file, "--diff")
    assert same.stdout == f"{running.file}: nothing would change in the gateway at {running.admin}\n"


def test_check_names_what_waits_for_a_restart(running: Running) -> None:
    text = running.file.read_text().replace("listen: '", "listen: '[::1]:1'  # '", 1)
    running.other.write_text(text)
    result = command("check", running.other, "--diff")
    assert result.stdout.splitlines()[-2].endswith("-> '[::1]:1'  (waits for a restart)")
    assert result.stdout.splitlines()[-1].endswith(f": 1 change, of which 1 waits in the gateway at {running.admin}")


def test_check_prints_the_same_as_json(running: Running) -> None:
    running.other.write_text(running.file.read_text() + "drain: 8s\n")
    result = command("check", running.other, "--diff", "--json")
    document = json.loads(result.stdout)
    assert (result.returncode, document["ok"], document["problems"]) == (0, True, [])
    assert [change["path"] for change in document["diff"]["changes"]] == ["drain"]
    assert document["diff"]["dry_run"] is True


def test_what_only_the_gateway_lacks_is_its_refusal(running: Running) -> None:
    running.other.write_text(running.file.read_text() + "drain: ${ONLY_HERE}\n")
    result = command("check", running.other, "--diff", ONLY_HERE="9s")
    assert (result.returncode, result.stdout) == (2, "")
    assert "the environment variable ONLY_HERE is not set" in result.stderr
    assert (
        result.stderr.splitlines()[-1] == f"{running.other}: the gateway at {running.admin} would refuse it, and change nothing"
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("127.0.0.1:", "127.0.0.1:1 # ", "nothing listens at"),
        (TOKEN, "another-token-of-the-admin-api", "has another admin token"),
        (f", token: {TOKEN}", "", "asks for its admin token; set admin.token here"),
    ],
)
def test_a_gateway_that_can_not_be_asked_is_one_line(running: Running, old: str, new: str, reason: str) -> None:
    text = running.file.read_text()
    line = next(line for line in text.splitlines() if line.startswith("admin:"))
    other = f"admin: {{listen: '127.0.0.1:{free_port()}'}}" if "nothing" in reason else line.replace(old, new)
    running.other.write_text(text.replace(line, other))
    result = command("check", running.other, "--diff")
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert reason in result.stderr


def test_a_unix_socket_is_asked_too_and_named_by_an_option(tmp_path: Path) -> None:
    admin = f"unix:{tmp_path}/admin.sock"
    with serving_simulated(tmp_path, admin=f"{{listen: '{admin}', token: {TOKEN}}}"):
        file, other = tmp_path / "gateway.yaml", tmp_path / "other.yaml"
        other.write_text(file.read_text() + "drain: 8s\n")
        assert command("check", other, "--diff").stdout.startswith("~ drain: 25s -> 8s\n")
        other.write_text(other.read_text().replace(admin, f"{admin}-new"))
        moved = command("check", other, "--diff", "--admin", admin).stdout
        assert f"~ admin.listen: {admin} -> {admin}-new  (waits for `serve --replace`, or a restart)\n" in moved


# ---- in this process


async def test_a_dry_run_runs_no_command_and_takes_no_renewed_key(tmp_path: Path) -> None:
    file, key, ran = tmp_path / "gateway.yaml", tmp_path / "key", tmp_path / "ran"
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
    file.write_text(configuration(entries[0], entries[1]._replace(more="api_key_command: [touch, nothing]")))
    assert [change.path for change in (await held.preview()).changes] == ["providers[p1].api_key_command"]
    assert (held.snapshot, ran.read_text()) == (before, "x\n")
    assert not (tmp_path / "nothing").exists()
    file.unlink()
    assert (await held.preview()).result == "failed"
    assert held.last_reload_succeeded
    assert held.reloads == {}
    held.stop()


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
