"""The commands about accounts do the same whether a gateway runs or not, and say clearly what keeps them from it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import command, configuration, free_port, serving

TOKEN = "an-admin-token-of-some-length"
_Run = Callable[..., subprocess.CompletedProcess[str]]


def written(directory: Path, *, required: str = "true", token: str | None = TOKEN, port: int | None = None) -> str:
    """A configuration with accounts, whose admin listener has this token."""
    token = f", token: {token}" if token else ""
    return configuration(
        "http://127.0.0.1:1/v1", f"127.0.0.1:{free_port()}", directory / "access.log",
        more=f"accounts: {{required: {required}, database: 'sqlite:{directory}/kyma.db'}}\n",
        admin=f"{{listen: '127.0.0.1:{port or free_port()}'{token}}}",
    )  # fmt: skip


@pytest.fixture(params=["while a gateway runs", "while none runs"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[_Run]:
    """Runs a command about accounts."""
    text = written(tmp_path)
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    with serving(text, tmp_path, "") if "none" not in request.param else contextlib.nullcontext():
        yield lambda *words: command(*words, KYMA_CONFIG=str(path))


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON that it printed."""
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_an_account_from_its_making_to_its_ledger(run: _Run) -> None:
    made = told(run("accounts", "create", "a@example.com", "--grant", "1", "--json"))
    assert made["balance"] == 1
    bought = told(run("credits", "add", "A@example.com", "10", "--kind", "purchase", "--payment-id", "p1", "--json"))
    assert (bought["is_new"], bought["account"]["tier"]) == (True, 1)
    assert not told(run("credits", "add", made["id"], "10.00", "--kind", "purchase", "--payment-id", "p1", "--json"))["is_new"]
    granted = run("credits", "add", made["id"], "0.5", "--kind", "grant", "--reason", "thanks")
    assert granted.stdout.startswith("grant of $0.5 added")
    ledger = told(run("credits", "list", made["id"], "--json"))
    assert [(one["kind"], one["amount"]) for one in ledger] == [("grant", 0.5), ("purchase", 10), ("grant", 1)]
    key = told(run("keys", "create", made["id"], "--name", "server", "--json"))
    assert key["api_key"].startswith(key["prefix"])
    assert key["api_key"] not in run("keys", "list", made["id"]).stdout
    assert run("keys", "revoke", made["id"], key["id"]).stdout == f"{key['id']} is revoked\n"
    assert [one["name"] for one in told(run("keys", "list", made["id"], "--json"))] == ["first"]
    assert "blocked  yes" in run("accounts", "block", made["id"]).stdout
    assert "blocked  no" in run("accounts", "unblock", made["id"]).stdout
    shown = run("accounts", "show", "a@example.com").stdout
    assert "balance  $11.5 ($0 held)" in shown
    assert "tier     1 (purchased $10)" in shown
    assert [one["id"] for one in told(run("accounts", "list", "--json"))] == [made["id"]]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("accounts", "create", "nobody"), "`email` is not an e-mail address"),
        (("accounts", "show", "acct_1"), "There is no such account"),
        (("accounts", "show", "a@example.com"), "There is no account a@example.com"),
        (("credits", "add", "acct_1", "10", "--kind", "purchase"), "a purchase needs --payment-id"),
        (("keys", "revoke", "acct_1", "key_1"), "There is no such account"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(written(tmp_path))
    done = command(*words, "--config", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kyma-proxy: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("amount", ["4.99", "-1", "ten", "1e400", "10.0000000001"])
def test_a_purchase_is_a_reasonable_amount(tmp_path: Path, amount: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(written(tmp_path))
    made = told(command("accounts", "create", "a@example.com", "--json", "--config", path))
    words = ("credits", "add", made["id"], "--kind", "purchase", "--payment-id", "p", "--json", "--config", path)
    done = command(*words, "--", amount)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "invalid_request")


def test_another_token_is_named(tmp_path: Path) -> None:
    port = free_port()
    with serving(written(tmp_path, port=port), tmp_path, ""):
        path = tmp_path / "other.yaml"
        path.write_text(written(tmp_path, port=port, token="another-token-of-some-length"))
        done = command("accounts", "list", "--config", path)
        assert (done.returncode, "has another admin.token" in done.stderr) == (1, True)


def test_a_gateway_without_a_token_is_named(tmp_path: Path) -> None:
    port = free_port()
    text = written(tmp_path, port=port, token=None)
    with serving(text, tmp_path, ""):
        done = command("accounts", "list", "--config", tmp_path / "gateway.yaml")
        assert (done.returncode, "runs without admin.token" in done.stderr) == (1, True)


def test_a_database_in_use_is_never_opened_twice(tmp_path: Path) -> None:
    with serving(written(tmp_path), tmp_path, "") as running:
        path = tmp_path / "other.yaml"
        path.write_text(written(tmp_path))  # another admin listener, where nobody answers
        done = command("accounts", "list", "--config", path)
        assert done.returncode == 1
        assert str(running.process.pid) in done.stderr


def test_accounts_can_be_made_before_they_are_required(tmp_path: Path) -> None:
    text = written(tmp_path, required="false")
    with serving(text, tmp_path, ""):
        made = told(command("accounts", "create", "a@example.com", "--json", "--config", tmp_path / "gateway.yaml"))
    assert made["email"] == "a@example.com"


def test_a_wrong_configuration_is_no_accounts_fault(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("models: []\n")
    assert command("accounts", "list", "--config", path).returncode == 2
