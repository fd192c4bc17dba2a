"""The account commands print the same with and without a running gateway, and say in one line why they fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kyma_proxy.errors import StartError
from kyma_proxy.ops.accounts import access, formatting
from kyma_proxy.ops.accounts.access import call_admin_api
from kyma_proxy.ops.accounts.commands import PAGE_SIZE
from kyma_proxy.ops.accounts.opening import open_database
from kyma_proxy.ops.admin_client import AdminClient, Document
from kyma_proxy.ops.cli import main
from kyma_proxy.ops.reload import read_snapshot
from tests.configurations import configuration, listeners
from tests.processes import command, free_port, serving

TOKEN = "canary-token-of-some-length"
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
LIVE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n" + b'{"status": "ok"}'


class Outcome(NamedTuple):
    """The exit code of a command, and what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The document that it printed."""
        return json.loads(self.stdout)

    @property
    def refusal(self) -> str:
        """The one line in which it was refused."""
        (line,) = self.stderr.splitlines()
        assert (self.code, self.stdout) == (1, "")
        return line.removeprefix("kyma-proxy: ")


Execute = Callable[..., Outcome]


def written(
    directory: Path, *, admin: str = "", token: str | None = TOKEN, required: str = "true", database: Path | None = None
) -> Path:
    """A configuration in a file; its admin listener is at `admin`, or where nobody listens."""
    secret = f", token: {token}" if token else ""
    sections = listeners(
        f"127.0.0.1:{free_port()}",
        access_log=directory / "access.log",
        admin=f"{{listen: '{admin or f'127.0.0.1:{free_port()}'}'{secret}}}",
    )
    accounts = f"accounts: {{required: {required}, database: 'sqlite:{database or directory / 'kyma.db'}'}}\n"
    text = configuration(9, more=f"{sections}{accounts}")
    path = directory / "command.yaml"
    path.write_text(text)
    return path


def checked(code: int, stdout: str, stderr: str) -> Outcome:
    """The outcome of a command, once it is checked that no secret and no traceback is on stderr."""
    assert "ky-" not in stderr
    assert TOKEN not in stdout + stderr
    assert "Traceback" not in stderr
    return Outcome(code, stdout, stderr)


def execute_in_a_process(path: Path, *arguments: str) -> Outcome:
    """Execute a command in a process of its own."""
    done = command(*arguments, KYMA_CONFIG=str(path))
    return checked(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def execute(capsys: pytest.CaptureFixture[str]) -> Execute:
    """Executes a command in this process, which is faster."""

    def execute_here(path: Path, *arguments: str) -> Outcome:
        code = main([*arguments[:2], "--config", str(path), *arguments[2:]])
        return checked(code, *capsys.readouterr())

    return execute_here


class Shared(NamedTuple):
    """A running gateway with an account and its key; tests do not change them."""

    directory: Path
    config: Path
    admin: str
    account: str
    key: str


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    directory = tmp_path_factory.mktemp("shared")
    admin = f"127.0.0.1:{free_port()}"
    config = written(directory, admin=admin)
    made = execute_in_a_process(config, "accounts", "create", "shared@example.com", "--json").json
    with serving(config.read_text(), directory, "", "--check-accounts"):
        shown = execute_in_a_process(config, "accounts", "show", made["id"], "--json").json
        yield Shared(directory, config, admin, made["id"], shown["keys"][0]["id"])


def use_every_command(execute: Execute, path: Path) -> list[Outcome]:
    """Execute each command once or twice, as an operator would."""
    outcomes: list[Outcome] = []

    def do(*arguments: str) -> Outcome:
        outcomes.append(execute(path, *arguments))
        assert outcomes[-1].code == 0, outcomes[-1]
        return outcomes[-1]

    shown = do("accounts", "create", "a@example.com", "--grant", "1.25").stdout
    account, secret = re.findall(r"(?m)^(?:account|key) +(\S+)$", shown)
    pay = ("credits", "add", "A@example.com", "10", "--kind", "purchase", "--payment-id", "pay-1")
    assert do(*pay).stdout.startswith("added: purchase of $10.00, payment pay-1\n")
    assert do(*pay).stdout.startswith("nothing has changed: purchase of $10.00, payment pay-1, is in the ledger since ")
    do("credits", "add", account, "0.5", "--kind", "grant", "--reason", "thanks", "--json")
    ledger = do("credits", "list", account, "--limit", "2").stdout
    assert re.findall(r"grant|purchase", ledger) == ["grant", "purchase"]
    assert ledger.endswith("There are older entries; --limit shows more.\n")
    key = do("keys", "create", account, "--name", "server", "--json").json
    assert "server" in do("keys", "list", "a@example.com").stdout
    do("keys", "revoke", "a@example.com", key["id"])
    assert "state      blocked\n" in do("accounts", "block", account).stdout
    assert "state      active\n" in do("accounts", "unblock", "a@example.com").stdout
    shown = do("accounts", "show", "a@example.com").stdout
    assert all(line in shown.splitlines() for line in ("tier       1", "balance    $11.75", "purchased  $10.00"))
    assert "server" not in shown
    assert [one["id"] for one in do("accounts", "list", "--json").json["data"]] == [account]
    for once in (secret, key["api_key"]):
        assert sum(once in one.stdout for one in outcomes) == 1
    return outcomes


def without_names(outcomes: list[Outcome]) -> list[list[str]]:
    """The lines that were printed, without ids, keys and times; keys of the same second are in any order."""
    names = re.compile(r"(acct|key)_[0-9a-f]{16}|ky-[\w-]{8,}|\"created\":\d+")
    return [sorted(MOMENT.sub("WHEN", names.sub("NAME", one.stdout)).splitlines()) for one in outcomes]


def test_commands_print_the_same_with_and_without_a_running_gateway(tmp_path: Path, execute: Execute) -> None:
    """One configuration is that of a running gateway, whose admin listener is a unix socket; the other has a database only."""
    one, other = tmp_path / "running", tmp_path / "alone"
    one.mkdir()
    other.mkdir()
    running, alone = written(one, admin=f"unix:{one}/admin.sock"), written(other)
    with serving(running.read_text(), one, "") as gateway:
        online = use_every_command(execute, running)
        assert "ky-" not in gateway.stderr
    offline = use_every_command(execute, alone)
    assert without_names(online) == without_names(offline)
    assert {each.stderr for each in online} == {""}
    assert offline[0].stderr == f"kyma-proxy: created the database {other}/kyma.db, as there was none\n"
    assert {each.stderr for each in offline[1:]} == {""}


REFUSALS = [
    (("accounts", "create", "nobody"), "invalid_request", "`email` is not an e-mail address."),
    (("accounts", "create", "SHARED@example.com"), "conflict", "There is already an account with this e-mail."),
    (("accounts", "create", "z@example.com", "--grant", "ten"), "invalid_request", "`grant` must be an amount"),
    (("accounts", "show", "acct_0"), "not_found", "There is no such account"),
    (("accounts", "show", "z@example.com"), "not_found", "There is no such account"),
    (("accounts", "show", ".."), "not_found", "There is no such account"),
    (("accounts", "block", ""), "not_found", "There is no such account"),
    (("keys", "list", "a/../b?c"), "not_found", "There is no such account"),
    (("keys", "revoke", "ACCOUNT", "key_0"), "not_found", "The account has no such key"),
    (("keys", "revoke", "ACCOUNT", "../transactions"), "not_found", "The account has no such key"),
    (("keys", "create", "ACCOUNT", "--name", ""), "invalid_request", "The body is not what is expected here"),
    (("credits", "list", "ACCOUNT", "--limit", "0"), "invalid_request", "`limit` must be a whole number"),
    (("credits", "add", "ACCOUNT", "10", "--kind", "purchase"), "invalid_request", "A purchase takes --payment-id"),
    (("credits", "add", "ACCOUNT", "1", "--kind", "grant", "--payment-id", "p"), "invalid_request", "A grant takes no"),
    *(
        (("credits", "add", "ACCOUNT", amount, "--kind", "purchase", "--payment-id", "p"), "invalid_request", "`amount`")
        for amount in ("4.99", "-5", "0", "ten", "$10", "NaN", "1e400", "1000001", "10.0000000001")
    ),
]


@pytest.mark.parametrize(("arguments", "code", "reason"), REFUSALS)
def test_a_refusal_is_one_line_or_one_json_document(
    shared: Shared, execute: Execute, arguments: tuple[str, ...], code: str, reason: str
) -> None:
    line = [shared.account if argument == "ACCOUNT" else argument for argument in arguments]
    assert execute(shared.config, *line).refusal.startswith(reason)
    outcome = execute(shared.config, *line, "--json")
    assert (outcome.code, outcome.stderr, outcome.json["error"]["code"]) == (1, "", code)
    assert outcome.json["error"]["message"].startswith(reason)
    assert execute(shared.config, "credits", "list", shared.account).stdout == "no entries\n"


def test_an_argument_or_a_file_name_that_is_not_utf_8_is_an_error_and_the_document_is_json(
    shared: Shared, execute: Execute
) -> None:
    error = execute(shared.config, "accounts", "create", "\udcff@example.com", "--json").json["error"]
    assert (error["code"], error["message"]) == ("invalid_json", "An argument is not UTF-8 text.")
    error = execute(Path("/missing/\udcff.yaml"), "accounts", "list", "--json").json["error"]
    assert (error["code"], error["message"]) == ("failed", "/missing/\udcff.yaml: no such file or directory")


def test_a_payment_of_another_amount_is_refused(tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path)
    execute(path, "accounts", "create", "a@example.com")
    pay = ("--kind", "purchase", "--payment-id", "pay-1", "--json")
    assert execute(path, "credits", "add", "a@example.com", "10", *pay).json["is_new"]
    assert not execute(path, "credits", "add", "a@example.com", "10.00", *pay).json["is_new"]
    assert execute(path, "credits", "add", "a@example.com", "11", *pay).json["error"]["code"] == "conflict"


def test_all_accounts_are_listed_however_many_pages_they_fill(tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path)
    emails = [f"{number}@example.com" for number in range(2 * PAGE_SIZE + 1)]

    async def create_all() -> None:
        service = open_database(read_snapshot(path, {}))
        await asyncio.gather(*(service.create_account(email, amount=0, kind="grant") for email in emails))
        await service.drain()
        service.store.close()

    asyncio.run(create_all())
    assert sorted(one["email"] for one in execute(path, "accounts", "list", "--json").json["data"]) == sorted(emails)
    assert len(execute(path, "accounts", "list").stdout.splitlines()) == len(emails) + 1
    (found,) = execute(path, "accounts", "list", "--email", "3@Example.com", "--json").json["data"]
    assert found["email"] == "3@example.com"


def test_names_that_callers_chose_can_not_control_the_operators_terminal(tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path)
    execute(path, "accounts", "create", "a@example.com")
    refused = execute(path, "keys", "create", "a@example.com", "--name", "\x1b[2J\nmine", "--json").json
    assert refused["error"]["code"] == "invalid_request"
    key = {"id": "key_1", "prefix": "ky-1", "name": "\x1b[2J\nmine", "created": 0, "last_used": None}  # from an older database
    assert "\\u001b[2J\\u000amine" in formatting.keys({"data": [key]})


# ---- who is asked, and what keeps one from it


def test_a_wrong_or_missing_admin_token_is_named(shared: Shared, tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path, admin=shared.admin, token="another-token-of-some-length", database=shared.directory / "kyma.db")
    assert execute(path, "accounts", "list").refusal.startswith(f"the gateway at {shared.admin} has another admin token; ")
    error = execute(path, "accounts", "list", "--json").json["error"]
    assert (error["code"], "has another admin token" in error["message"]) == ("failed", True)
    path.write_text(path.read_text().replace("another-token-of-some-length", "${KYMA_NO_SUCH_TOKEN}"))
    assert "needs its admin token, and none is set here; set admin.token, or the" in execute(path, "accounts", "list").refusal


def test_a_gateway_without_an_admin_token_takes_no_commands(tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path, token=None)
    with serving(path.read_text(), tmp_path, ""):
        assert "has no admin token, so it takes no commands; set admin.token" in execute(path, "accounts", "list").refusal


def test_the_gateway_of_another_database_is_not_used(shared: Shared, tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path, admin=shared.admin)
    line = execute(path, "accounts", "create", "z@example.com").refusal
    assert line.startswith(f"the gateway at {shared.admin} keeps its accounts in {shared.directory}/kyma.db, but this ")
    assert not (tmp_path / "kyma.db").exists()


def test_a_gateway_without_accounts_leaves_the_database_to_the_command(tmp_path: Path, execute: Execute) -> None:
    admin = f"127.0.0.1:{free_port()}"
    path = written(tmp_path, admin=admin, required="false")
    with serving(path.read_text(), tmp_path, ""):
        assert execute(path, "accounts", "create", "a@example.com", "--json").json["email"] == "a@example.com"
        unnamed = written(tmp_path, admin=admin, required="false", token=None)
        assert execute(unnamed, "accounts", "show", "a@example.com").code == 0
        soon = written(tmp_path, admin=admin)  # required from the next start on
        assert execute(soon, "accounts", "show", "a@example.com").code == 0


def test_a_database_in_use_is_never_opened_twice(shared: Shared, tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(StartError) as refused:
            asyncio.run(call_admin_api(read_snapshot(path, {}), no_request, creates_database=False, lock_timeout_s=0.0))
        return str(refused.value)

    def no_request(_: AdminClient) -> Document:
        raise AssertionError("there is no admin API to be called")

    elsewhere = written(tmp_path, database=shared.directory / "kyma.db")
    assert re.search(r"kyma\.db: is in use by process \d+, and nothing answers at admin\.listen", refusal(elsewhere))
    elsewhere.write_text(re.sub(r"(?m)^admin: .*$", "admin: null", elsewhere.read_text()))
    assert "without an admin listener it can't be called" in refusal(elsewhere)
    mistaken = written(tmp_path, admin=shared.admin, required="false", token=None, database=shared.directory / "kyma.db")
    assert "and the gateway at" in refusal(mistaken)


def test_a_database_that_is_soon_released_is_waited_for(
    tmp_path: Path, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    snapshot = read_snapshot(path, {})
    holder, tries = open_database(snapshot), []

    def opened(wanted: Any) -> Any:
        tries.append(wanted)
        if len(tries) == 2:
            holder.store.close()
        return open_database(wanted)

    monkeypatch.setattr(access, "open_database", opened)
    assert execute(path, "accounts", "list").stdout == "no accounts\n"
    assert len(tries) == 2


def test_only_create_makes_a_database(tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path)
    for arguments in (("accounts", "list"), ("accounts", "show", "a@example.com"), ("credits", "list", "a@example.com")):
        assert execute(path, *arguments).refusal.startswith(
            f"{tmp_path}/kyma.db: there is no database; `kyma-proxy accounts create`"
        )
    assert list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def listening(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these answers on one connection and closes it: its address, and the bytes that it received."""
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            for answer in answers:
                received.append(connection.recv(65536))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", received
        thread.join()


@pytest.mark.parametrize("answer", [b"-ERR unknown command\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"])
def test_the_admin_token_is_not_sent_to_what_is_no_gateway(tmp_path: Path, execute: Execute, answer: bytes) -> None:
    with listening(answer) as (address, received):
        assert "what listens there is no gateway" in execute(written(tmp_path, admin=address), "accounts", "list").refusal
    assert TOKEN.encode() not in b"".join(received)


def test_a_gateway_that_dies_in_the_middle_of_a_command_is_reported(tmp_path: Path, execute: Execute) -> None:
    kept = json.dumps({"accounts": {"required": True, "database": f"{tmp_path}/kyma.db"}}).encode()
    config = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(kept) + kept
    with listening(LIVE, config, b"") as (address, received):
        line = execute(written(tmp_path, admin=address), "accounts", "create", "a@example.com").refusal
    assert line.startswith(f"the gateway at {address} does not answer (")
    assert line.endswith("look whether it was done before you try again")
    assert f"Bearer {TOKEN}".encode() in received[1]


def test_an_interrupted_command_fails(tmp_path: Path, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(access, "call_admin_api", interrupted)
    assert execute(written(tmp_path), "accounts", "list").refusal.startswith("interrupted; ")


def test_a_wrong_configuration_is_reported_with_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "command.yaml"
    path.write_text("listne: x\nmodels: 1\n")
    outcome = execute_in_a_process(path, "accounts", "list", "--json")
    error = outcome.json["error"]
    assert (outcome.code, outcome.stderr, error["code"]) == (2, "", "invalid_configuration")
    message = "a list is expected here: each entry begins with a dash and a space"
    assert {"path": "models", "line": 2, "message": message} in error["problems"]
    outcome = execute_in_a_process(path, "accounts", "list")
    assert (outcome.code, outcome.stdout, outcome.stderr.count(f"{path}: ")) == (2, "", len(error["problems"]) + 1)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("accounts",), ("create", "list", "show", "block", "unblock", "admin listener of the running gateway")),
        (("accounts", "create"), ("EMAIL", "--grant USD", "--config FILE", "--json")),
        (("keys", "revoke"), ("ACCOUNT", "KEY_ID", "id or e-mail")),
        (("credits", "add"), ("--kind {purchase,grant}", "--payment-id ID", "--reason TEXT", "5 or more")),
        (("serve",), ("--check-accounts",)),
    ],
)
def test_each_command_has_a_help_text(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert [part for part in parts if part not in text] == []


def test_check_accounts_refuses_a_database_in_which_anything_is_wrong(tmp_path: Path, execute: Execute) -> None:
    path = written(tmp_path)
    execute(path, "accounts", "create", "a@example.com", "--grant", "1")
    with contextlib.closing(sqlite3.connect(tmp_path / "kyma.db")) as database, database:
        database.execute("UPDATE accounts SET balance = balance + 1")
    outcome = execute_in_a_process(path, "serve", "--check-accounts")
    assert outcome.refusal.startswith(f"{tmp_path}/kyma.db: ")
