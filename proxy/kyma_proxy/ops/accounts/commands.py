"""This file is the commands about accounts: their words, and what each asks of whoever keeps the accounts. (Contract §8, §13.)

An answer is the admin API's document, as it is with `--json`, else as a few lines for people. Nothing is decided here that the
API decides: amounts, e-mails and names are checked there.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from kyma_proxy.errors import ConfigError, StartError
from kyma_proxy.ops.accounts import texts
from kyma_proxy.ops.admin_client import AdminClient, Document, Refused
from kyma_proxy.ops.options import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_OK, add_config, config_path

_Words = argparse.Namespace
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
PAGE_SIZE: Final = 200
"""Accounts in one answer: so few that a gateway's streams do not feel it."""
_WHO: Final = "the account's id or e-mail"
_WHERE: Final = "It speaks to the admin listener of the running gateway, and opens the database itself where none runs."


def add_account_commands(commands: Any) -> None:
    """Add `accounts`, `keys` and `credits` to the commands, which are argparse's sub-parsers."""
    accounts = _group(commands, "accounts", "make, list, show, block and unblock accounts")
    one = _command(accounts, "create", "make an account, and print it with its first key", _create, texts.created)
    one.add_argument("email", metavar="EMAIL", help="the e-mail, which no other account has")
    one.add_argument("--grant", metavar="USD", help="credits to begin with, which are no purchase")
    one.set_defaults(makes_database=True)
    one = _command(accounts, "list", "list the accounts, the oldest first", _list, texts.accounts)
    one.add_argument("--email", metavar="EMAIL", help="only the account with this e-mail")
    one = _command(accounts, "show", "show an account and its keys", _show, texts.account_and_keys)
    _add_account(one)
    one = _command(accounts, "block", "refuse an account's requests, from the next one on", _block, texts.account)
    _add_account(one)
    one = _command(accounts, "unblock", "let a blocked account in again", _unblock, texts.account)
    _add_account(one)

    keys = _group(commands, "keys", "make, list and revoke an account's keys")
    one = _command(keys, "create", "make a further key, and print it", _create_key, texts.key_created)
    _add_account(one)
    one.add_argument("--name", metavar="NAME", help="what lists call the key (default: key)")
    one = _command(keys, "list", "list an account's keys that work", _list_keys, texts.keys)
    _add_account(one)
    one = _command(keys, "revoke", "take a key out of use, for good", _revoke_key, texts.key_revoked)
    _add_account(one)
    one.add_argument("key", metavar="KEY_ID", help="the key's id, as `keys list` shows it")

    credit = _group(commands, "credits", "take in payments, give credits, and read an account's ledger")
    one = _command(credit, "add", "take in a payment, once, or give credits", _add_credits, texts.credits_added)
    _add_account(one)
    one.add_argument("amount", metavar="USD", help="US dollars, such as 10 or 10.50; a purchase is 5 or more")
    one.add_argument(
        "--kind", choices=("purchase", "grant"), required=True, help="a purchase counts for the tier, a grant does not"
    )
    one.add_argument(
        "--payment-id", metavar="ID", help="the payment's own id, for a purchase; the same id again changes nothing"
    )
    one.add_argument("--reason", metavar="TEXT", help="why, for a grant; it stands in the ledger")
    one = _command(credit, "list", "list an account's ledger, the newest first", _list_credits, texts.ledger)
    _add_account(one)
    one.add_argument("--limit", metavar="N", default="20", help="so many entries at most, up to 1000 (default: 20)")


def perform(words: _Words) -> int:
    """Do what the words say and print it; returns the exit code. Without `--json` raises ConfigError and StartError."""
    try:
        document = _answer(words)
    except (ConfigError, StartError, Refused) as error:
        if words.json:
            print(json.dumps({"error": _error(error)}))
        elif isinstance(error, Refused):
            print(f"kyma-proxy: {texts.plain(error.message)}", file=sys.stderr)
        else:
            raise
        return EXIT_BAD_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
    print(json.dumps(document) if words.json else words.tell(document))
    return EXIT_OK


def _answer(words: _Words) -> Document:
    from kyma_proxy.ops.accounts.access import ask_accounts  # noqa: PLC0415  (other commands need no database)
    from kyma_proxy.ops.reload import read_snapshot  # noqa: PLC0415

    snapshot = read_snapshot(config_path(words.config), os.environ)
    try:
        question = functools.partial(words.question, words)
        return asyncio.run(ask_accounts(snapshot, question, makes_database=words.makes_database))
    except KeyboardInterrupt:
        raise StartError("interrupted; look whether it was done before you try again") from None


def _error(error: ConfigError | StartError | Refused) -> Document:
    if isinstance(error, Refused):
        return {"message": error.message, "code": error.code}
    if isinstance(error, StartError):
        return {"message": str(error), "code": "failed"}
    problems = [one._asdict() for one in error.problems]
    return {"message": "The configuration is wrong.", "code": "invalid_configuration", "problems": problems}


# ---- the words


def _group(commands: Any, name: str, what: str) -> Any:
    group = commands.add_parser(name, help=what, description=f"{what.capitalize()}. {_WHERE}")
    return group.add_subparsers(title="commands", required=True, metavar="COMMAND")


def _command(
    group: Any, name: str, what: str, question: Callable[[_Words, AdminClient], Document], tell: Callable[[Document], str]
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = group.add_parser(name, help=what, description=f"{what.capitalize()}. {_WHERE}")
    add_config(command)
    command.add_argument("--json", action="store_true", help="print one JSON document, errors too, as the admin API says it")
    command.set_defaults(action=perform, question=question, tell=tell, makes_database=False)
    return command


def _add_account(command: argparse.ArgumentParser) -> None:
    command.add_argument("account", metavar="ACCOUNT", help=_WHO)


# ---- what each asks


def _create(words: _Words, api: AdminClient) -> Document:
    return api.ask("POST", "/admin/accounts", _given(email=words.email, grant=words.grant))


def _list(words: _Words, api: AdminClient) -> Document:
    if words.email is not None:
        return api.ask("GET", f"/admin/accounts?email={_quoted(words.email)}")
    data: list[Document] = []
    while True:
        page = api.ask("GET", f"/admin/accounts?limit={PAGE_SIZE}&offset={len(data)}")
        data += page["data"]
        if not page["has_more"]:
            return {**page, "data": data}


def _show(words: _Words, api: AdminClient) -> Document:
    return api.ask("GET", _account(words, api))


def _block(words: _Words, api: AdminClient) -> Document:
    return api.ask("POST", f"{_account(words, api)}/block")


def _unblock(words: _Words, api: AdminClient) -> Document:
    return api.ask("POST", f"{_account(words, api)}/unblock")


def _create_key(words: _Words, api: AdminClient) -> Document:
    return api.ask("POST", f"{_account(words, api)}/keys", _given(name=words.name))


def _list_keys(words: _Words, api: AdminClient) -> Document:
    return api.ask("GET", f"{_account(words, api)}/keys")


def _revoke_key(words: _Words, api: AdminClient) -> Document:
    account = _account(words, api)
    unknown = Refused(404, "not_found", "The account has no such key; `kyma-proxy keys list` shows its keys and their ids.")
    return _known("DELETE", f"{account}/keys/{words.key}", words.key, api, unknown)


def _add_credits(words: _Words, api: AdminClient) -> Document:
    if words.kind == "purchase":
        if words.payment_id is None or words.reason is not None:
            raise Refused(400, "invalid_request", "A purchase takes --payment-id, so that it counts once, and no --reason.")
        return api.ask("POST", f"{_account(words, api)}/purchases", _given(amount=words.amount, payment_id=words.payment_id))
    if words.payment_id is not None:
        raise Refused(400, "invalid_request", "A grant takes no --payment-id; what was paid for is a --kind purchase.")
    return api.ask("POST", f"{_account(words, api)}/grants", _given(amount=words.amount, reason=words.reason))


def _list_credits(words: _Words, api: AdminClient) -> Document:
    return api.ask("GET", f"{_account(words, api)}/transactions?limit={_quoted(words.limit)}")


def _account(words: _Words, api: AdminClient) -> str:
    """The path of the account that is meant. Raises Refused where there is none."""
    unknown = Refused(404, "not_found", "There is no such account; `kyma-proxy accounts list` shows them.")
    ident: str = words.account
    if "@" in ident:
        found = api.ask("GET", f"/admin/accounts?email={_quoted(ident)}")["data"]
        if not found:
            raise unknown
        return f"/admin/accounts/{found[0]['id']}"
    _known("GET", f"/admin/accounts/{ident}", ident, api, unknown)
    return f"/admin/accounts/{ident}"


def _known(method: str, path: str, ident: str, api: AdminClient, unknown: Refused) -> Document:
    """The answer about what has this id; raises `unknown` where nothing has it. What can be no id is not sent."""
    if not _ID.fullmatch(ident):
        raise unknown
    try:
        return api.ask(method, path)
    except Refused as refusal:
        raise (unknown if refusal.status == unknown.status else refusal) from None


def _given(**members: str | None) -> Document:
    return {name: text for name, text in members.items() if text is not None}


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")
