"""`check` finds what would keep this file from being served on this machine, and says so to people and to scripts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.configurations import listeners, simulated_configuration
from tests.processes import command, free_port

PROVIDER = "http://127.0.0.1:9/v1"


def written(directory: Path, *, listen: str = "", log: object = "-", admin: str = "null", more: str = "") -> Path:
    path = directory / "gateway.yaml"
    sections = listeners(listen or f"127.0.0.1:{free_port()}", access_log=log, admin=admin)
    path.write_text(simulated_configuration(PROVIDER, more=f"{sections}{more}"))
    return path


def checked(*arguments: object, code: int = 2, **variables: str) -> dict[str, Any]:
    """The result of a check as JSON; nothing else is printed."""
    result = command("check", "--json", *map(str, arguments), **variables)
    assert (result.returncode, result.stderr) == (code, "")
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["ok"] is (code == 0)
    assert all(set(one) == {"path", "line", "message"} for part in ("problems", "warnings") for one in document[part])
    return document


def problem(*arguments: object) -> tuple[str, str]:
    """The path and the message of the only problem, whose line is known."""
    (found,) = checked(*arguments)["problems"]
    assert found["line"] > 0
    return found["path"], found["message"]


def test_a_log_or_a_database_whose_directory_is_missing_is_a_problem(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    told = f"can't be written: there is no directory {missing}"
    assert problem(written(tmp_path, log=missing / "a.log")) == ("access_log", f"{missing}/a.log {told}")
    more = f"accounts: {{required: true, database: 'sqlite:{missing}/a.db'}}\n"
    assert problem(written(tmp_path, more=more)) == ("accounts.database", f"{missing}/a.db {told}")
    assert problem(written(tmp_path, log=tmp_path)) == ("access_log", f"{tmp_path} can't be written: it is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_log_that_may_not_be_written_is_a_problem(tmp_path: Path) -> None:
    directory = tmp_path / "others"
    directory.mkdir(mode=0o555)
    assert problem(written(tmp_path, log=directory / "a.log"))[1].endswith(f"permission denied in {directory}")


def test_a_certificate_that_is_missing_is_a_problem_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, more="tls: {certificate: /missing.pem, key: /missing.key}\n")
    assert problem(path) == ("tls.certificate", "/missing.pem can't be read (no such file or directory)")


@pytest.mark.parametrize(
    ("listen", "admin"),
    [("127.0.0.1:8080", "127.0.0.1:8080"), ("0.0.0.0:8080", "127.0.0.1:8080"), ("127.0.0.1:8080", "[::]:8080"),
     ("localhost:8080", "127.0.0.1:8080"), ("unix:/run/a.sock", "unix:/run/a.sock?mode=0660")],
)  # fmt: skip
def test_two_listeners_at_one_address_are_a_problem(tmp_path: Path, listen: str, admin: str) -> None:
    path, message = problem(written(tmp_path, listen=listen, admin=f"{{listen: '{admin}'}}"))
    assert path == "admin.listen"
    assert message == f"is the address of the public listener too ({listen}); give it a port of its own"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.0.0.1:8081", "unix:/run/b.sock", "10.0.0.1:8080"])
def test_two_listeners_at_two_addresses_are_none(tmp_path: Path, listen: str) -> None:
    assert checked(written(tmp_path, listen="127.0.0.1:8080", admin=f"{{listen: '{listen}'}}"), code=0)["problems"] == []


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", ":8080", "[::]:8080", "10.1.2.3:8080"])
def test_a_listener_that_others_reach_without_accounts_is_a_warning(tmp_path: Path, listen: str) -> None:
    (found,) = checked(written(tmp_path, listen=listen), code=0)["warnings"]
    assert found["path"] == "listen"
    assert "whoever reaches it uses your providers' keys" in found["message"]
    more = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/a.db'}}\n"
    assert "listen" not in [one["path"] for one in checked(written(tmp_path, listen=listen, more=more), code=0)["warnings"]]


def test_a_configuration_whose_every_provider_is_off_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("api_key: provider-key", "api_key: ${MISSING}"))
    told = (
        "every provider is off, so that nothing could be served (simulated: the environment variable MISSING is not set; "
        "claude: the environment variable MISSING is not set; images: the environment variable MISSING is not set; and 1 more)"
    )
    assert problem(path) == ("providers", told)
    for words in (("check",), ("serve",)):
        result = command(*words, path)
        assert result.returncode == 2
        assert told in result.stderr


def test_where_a_key_may_still_come_that_every_provider_is_off_is_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("api_key: provider-key", f"api_key_file: '{tmp_path}/key'"))
    assert "every provider is off" in " ".join(one["message"] for one in checked(path, code=0)["warnings"])
    (tmp_path / "key").write_text("sk-provider-key")
    assert checked(path, code=0)["warnings"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing.yaml",), 1, "missing.yaml: no such file or directory"),
        (("/",), 1, "/: is a directory"),
        ((), 1, "no configuration: give --config FILE or set KYMA_CONFIG"),
        (("a.yaml", "--config", "b.yaml"), 1, "two configurations are given, a.yaml and b.yaml; leave one out"),
        (("--nonsense",), 2, "unrecognized arguments: --nonsense"),
        (("a", "b"), 2, "unrecognized arguments: b"),
        (("--config",), 2, "argument --config: expected one argument"),
    ],
)
def test_the_result_is_json_whatever_it_is(arguments: tuple[str, ...], code: int, words: str) -> None:
    document = checked(*arguments, code=code, KYMA_CONFIG="")
    ((found,), warnings) = document["problems"], document["warnings"]
    assert (found["path"], found["line"], warnings) == ("", 0, [])
    assert words in found["message"]


def test_without_json_a_usage_error_is_told_with_the_usage() -> None:
    result = command("check", "--nonsense")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: kyma-proxy")
    assert result.stderr.endswith("error: unrecognized arguments: --nonsense\n")


def test_a_text_that_is_not_utf_8_is_told_as_json_too(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"listen: x\naccess_log: caf\xe9\n")
    (found,) = checked(path, code=1)["problems"]
    assert found["message"].endswith("is not UTF-8 text: line 2 has the byte 0xe9; save it as UTF-8")


def test_the_file_is_given_by_position_by_option_or_by_variable(tmp_path: Path) -> None:
    path = written(tmp_path)
    results = [checked(path, code=0), checked("--config", path, code=0), checked(code=0, KYMA_CONFIG=str(path))]
    assert results[0] == results[1] == results[2] == checked(path, "--config", path, code=0)


def test_warnings_are_told_beside_problems(tmp_path: Path) -> None:
    path = written(tmp_path, listen="0.0.0.0:8080", more="drain: 30\n")
    document = checked(path)
    assert [one["path"] for one in document["problems"]] == ["drain"]
    assert [one["path"] for one in document["warnings"]] == ["listen"]
    result = command("check", path)
    assert result.stdout.startswith("warning: line ")
    assert "drain: a duration is a number with a unit" in result.stderr


def test_a_command_that_does_not_serve_needs_no_keys_and_no_rights_for_serving(tmp_path: Path) -> None:
    more = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/a.db'}}\ntls: {{certificate: /missing, key: /missing}}\n"
    path = written(tmp_path, log=tmp_path / "missing" / "a.log", more=more)
    path.write_text(path.read_text().replace("api_key: provider-key", "api_key: ${MISSING}"))
    result = command("accounts", "create", "a@b.example", "--config", path)
    assert (result.returncode, "problem" in result.stderr) == (0, False)
