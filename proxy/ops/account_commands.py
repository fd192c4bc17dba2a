"""This file has the commands about accounts: what they ask of the admin API, and how they tell it. (Contract §13.)"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from proxy.errors import StartError

if TYPE_CHECKING:
    from proxy.ops.admin_client import AdminClient

_Action = Callable[["AdminClient", argparse.Namespace], Awaitable[Any]]
_PAGE: Final = 1000


def add_account_commands(commands: Any, config_path: Callable[[Path | None], Path]) -> None:
    """Add `accounts`, `keys` and `credits` to the command's words."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", type=Path, help="the configuration, YAML (default: $KYMA_CONFIG)")
    common.add_argument("--json", action="store_true", help="print the answer as JSON")
    account = argparse.ArgumentParser(add_help=False)
    account.add_argument("account", metavar="ACCOUNT", help="its id or its e-mail")

    def group(name: str, text: str) -> Any:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_HOW}")
        return made.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(parent: Any, name: str, text: str, ask: _Action, tell: Callable[[Any], None], *more: Any) -> Any:
        made = parent.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[*more, common])
        made.set_defaults(action=lambda words: _run(words, config_path(words.config), ask, tell))
        return made

    accounts = group("accounts", "make, list, show and block accounts")
    create = command(accounts, "create", "make an account with a first key, which is shown this once", _create, _tell_created)
    create.add_argument("email", metavar="EMAIL")
    create.add_argument("--grant", metavar="USD", help="credits to begin with")
    found = command(accounts, "list", "list accounts", _list, _tell_accounts)
    found.add_argument("--email", metavar="EMAIL", help="only this one")
    command(accounts, "show", "show an account and its keys", _show, _tell_account, account)
    command(accounts, "block", "refuse an account's requests, from the next on", _block, _tell_account, account)
    command(accounts, "unblock", "let a blocked account in again", _unblock, _tell_account, account)

    keys = group("keys", "make, list and revoke the keys of accounts")
    made = command(keys, "create", "make a further key, which is shown this once", _create_key, _tell_key, account)
    made.add_argument("--name", metavar="NAME", default="key", help="what it is for")
    command(keys, "list", "list an account's keys", _keys, _tell_keys, account)
    revoke = command(keys, "revoke", "take a key out of use, from the next request on", _revoke, _tell_revoked, account)
    revoke.add_argument("key", metavar="KEY", help="the key's id, as `keys list` shows it")

    credits_ = group("credits", "add credits and list the ledger")
    add = command(credits_, "add", "take in a payment, or give credits", _add, _tell_added, account)
    add.add_argument("amount", metavar="USD")
    add.add_argument("--kind", choices=("purchase", "grant"), required=True)
    add.add_argument("--payment-id", metavar="ID", help="of the payment, which counts once however often it is added")
    add.add_argument("--reason", metavar="TEXT", help="of the grant")
    ledger = command(credits_, "list", "list an account's ledger, newest first", _ledger, _tell_ledger, account)
    ledger.add_argument("--limit", metavar="N", type=int, default=20)


_HOW: Final = "A running gateway is asked through its admin listener; where none runs, the database is opened here."


def _run(words: argparse.Namespace, path: Path, ask: _Action, tell: Callable[[Any], None]) -> int:
    from proxy.ops.admin_client import Refused, admin_client  # noqa: PLC0415  (the other commands need no client)
    from proxy.ops.reload import read_snapshot  # noqa: PLC0415

    async def do() -> Any:
        async with admin_client(read_snapshot(path, os.environ)) as client:
            return await ask(client, words)

    try:
        told = asyncio.run(do())
    except Refused as error:
        if words.json:
            print(json.dumps(error.document))
            return 1
        raise StartError(str(error)) from None
    if words.json:
        print(json.dumps(told))
    else:
        tell(told)
    return 0


# ---- what is asked


async def _create(client: AdminClient, words: argparse.Namespace) -> Any:
    return await client.ask("POST", "", {"email": words.email} | ({"grant": words.grant} if words.grant else {}))


async def _list(client: AdminClient, words: argparse.Namespace) -> Any:
    if words.email:
        return (await client.ask("GET", f"?email={quote(words.email)}"))["data"]
    listed: list[Any] = []
    while True:
        page = await client.ask("GET", f"?limit={_PAGE}&offset={len(listed)}")
        listed += page["data"]
        if not page["has_more"]:
            return listed


async def _show(client: AdminClient, words: argparse.Namespace) -> Any:
    return await client.ask("GET", await _of(client, words))


async def _block(client: AdminClient, words: argparse.Namespace) -> Any:
    return await client.ask("POST", f"{await _of(client, words)}/block")


async def _unblock(client: AdminClient, words: argparse.Namespace) -> Any:
    return await client.ask("POST", f"{await _of(client, words)}/unblock")


async def _create_key(client: AdminClient, words: argparse.Namespace) -> Any:
    return await client.ask("POST", f"{await _of(client, words)}/keys", {"name": words.name})


async def _keys(client: AdminClient, words: argparse.Namespace) -> Any:
    return (await client.ask("GET", f"{await _of(client, words)}/keys"))["data"]


async def _revoke(client: AdminClient, words: argparse.Namespace) -> Any:
    return await client.ask("DELETE", f"{await _of(client, words)}/keys/{quote(words.key, safe='')}")


async def _add(client: AdminClient, words: argparse.Namespace) -> Any:
    if words.kind == "grant":
        return await client.ask("POST", f"{await _of(client, words)}/grants", {"amount": words.amount, "reason": words.reason})
    if not words.payment_id:
        raise StartError("a purchase needs --payment-id: the same payment must count once, however often it is added")
    document = {"amount": words.amount, "payment_id": words.payment_id}
    return await client.ask("POST", f"{await _of(client, words)}/purchases", document)


async def _ledger(client: AdminClient, words: argparse.Namespace) -> Any:
    return (await client.ask("GET", f"{await _of(client, words)}/transactions?limit={words.limit}"))["data"]


async def _of(client: AdminClient, words: argparse.Namespace) -> str:
    return f"/{quote(await client.account(words.account), safe='')}"


# ---- how it is told


def _tell_created(told: Any) -> None:
    _tell_account(told)
    _tell_secret(told)


def _tell_account(told: Any) -> None:
    rows = [
        ("account", told["id"]), ("e-mail", told["email"]), ("made", _moment(told["created"])),
        ("tier", f"{told['tier']} (purchased {_usd(told['purchased'])})"),
        ("balance", f"{_usd(told['balance'])} ({_usd(told['held'])} held)"), ("blocked", "yes" if told["blocked"] else "no"),
    ]  # fmt: skip
    for name, value in rows:
        print(f"{name:8} {value}")
    if told.get("keys"):
        _tell_keys(told["keys"])


def _tell_accounts(told: Any) -> None:
    _table(
        ("id", "e-mail", "tier", "balance", "blocked"),
        [(one["id"], one["email"], one["tier"], _usd(one["balance"]), "yes" if one["blocked"] else "") for one in told],
    )


def _tell_keys(told: Any) -> None:
    _table(
        ("key", "prefix", "name", "made", "last used"),
        [(one["id"], one["prefix"], one["name"], _moment(one["created"]), one["last_used"] or "never") for one in told],
    )


def _tell_key(told: Any) -> None:
    _tell_keys([told])
    _tell_secret(told)


def _tell_secret(told: Any) -> None:
    print(f"\n{told['api_key']}\n\nThis is the key. It is shown this once: only its digest is kept.")


def _tell_revoked(told: Any) -> None:
    print(f"{told['id']} is revoked")


def _tell_added(told: Any) -> None:
    what = f"{told['kind']} of {_usd(told['amount'])}"
    print(f"{what} added" if told["is_new"] else f"{what}: this payment had been added before; nothing has changed")
    _tell_account(told["account"])


def _tell_ledger(told: Any) -> None:
    _table(
        ("id", "at", "kind", "amount", "of"),
        [
            (one["id"], _moment(one["created"]), one["kind"], _usd(one["amount"]),
             one["payment_id"] or one["model"] or one["note"] or "")
            for one in told
        ],
    )  # fmt: skip


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    lines = [head, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    for line in lines:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def _usd(amount: float) -> str:
    return f"{'-' if amount < 0 else ''}${abs(amount):,.6f}".rstrip("0").rstrip(".") if amount else "$0"


def _moment(at: int) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
