"""Defines the commands about accounts: their arguments, and the requests that each sends to the admin API. (Contract §8, §13.)

With `--json` a command prints the document of the admin API, otherwise a few lines for people. Amounts, e-mails and names are
checked by the API, not here.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.errors import StartError
from kyma_proxy.ops.accounts import formatting
from kyma_proxy.ops.admin_client import AdminApiError, AdminClient, Document
from kyma_proxy.ops.options import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_OK, add_config, config_path, print_json
from kyma_proxy.telemetry.visible_text import visible

_Arguments = argparse.Namespace
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
PAGE_SIZE: Final = 200
"""Accounts in one answer: few enough not to delay a gateway's streams."""
_ACCOUNT_HELP: Final = "the account's id or e-mail"
_ACCESS_HELP: Final = "It uses the admin listener of the running gateway, and opens the database itself if none runs."


def add_account_commands(commands: Any) -> None:
    """Add `accounts`, `keys` and `credits` to the commands, which are argparse's sub-parsers."""
    accounts = _group(commands, "accounts", "create, list, show, block and unblock accounts")
    one = _command(accounts, "create", "create an account, and print it with its first key", _create, formatting.created)
    one.add_argument("email", metavar="EMAIL", help="the e-mail; no other account may have it")
    one.add_argument("--grant", metavar="USD", help="initial credits; they are no purchase")
    one.set_defaults(creates_database=True)
    one = _command(accounts, "list", "list the accounts, the oldest first", _list, formatting.accounts)
    one.add_argument("--email", metavar="EMAIL", help="only the account with this e-mail")
    one = _command(accounts, "show", "show an account and its keys", _show, formatting.account_and_keys)
    _add_account(one)
    one = _command(accounts, "block", "refuse an account's requests, from the next one on", _block, formatting.account)
    _add_account(one)
    one = _command(accounts, "unblock", "accept the requests of a blocked account again", _unblock, formatting.account)
    _add_account(one)

    keys = _group(commands, "keys", "create, list and revoke an account's keys")
    one = _command(keys, "create", "create a further key, and print it", _create_key, formatting.key_created)
    _add_account(one)
    one.add_argument("--name", metavar="NAME", help="the name of the key in lists (default: key)")
    one = _command(keys, "list", "list an account's valid keys", _list_keys, formatting.keys)
    _add_account(one)
    one = _command(keys, "revoke", "revoke a key, for good", _revoke_key, formatting.key_revoked)
    _add_account(one)
    one.add_argument("key", metavar="KEY_ID", help="the key's id, as `keys list` shows it")

    credit = _group(commands, "credits", "record payments, grant credits, and read an account's ledger")
    one = _command(credit, "add", "record a payment, once, or grant credits", _add_credits, formatting.credits_added)
    _add_account(one)
    one.add_argument("amount", metavar="USD", help="US dollars, such as 10 or 10.50; a purchase is 5 or more")
    one.add_argument(
        "--kind", choices=("purchase", "grant"), required=True, help="a purchase counts for the tier, a grant does not"
    )
    one.add_argument(
        "--payment-id", metavar="ID", help="the payment's own id, for a purchase; the same id again changes nothing"
    )
    one.add_argument("--reason", metavar="TEXT", help="the reason of a grant, for the ledger")
    one = _command(credit, "list", "list an account's ledger, the newest first", _list_credits, formatting.ledger)
    _add_account(one)
    one.add_argument("--limit", metavar="N", default="20", help="the maximum number of entries, up to 1000 (default: 20)")


def run_command(args: _Arguments) -> int:
    """Run a command and print its result; returns the exit code. Without `--json` it raises ConfigError and StartError."""
    try:
        document = _result(args)
    except (ConfigError, StartError, AdminApiError) as error:
        if args.json:
            print_json({"error": _error(error)})
        elif isinstance(error, AdminApiError):
            print(f"kyma-proxy: {visible(error.message)}", file=sys.stderr)
        else:
            raise
        return EXIT_BAD_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
    if args.json:
        print_json(document)
    else:
        print(args.format(document))
    return EXIT_OK


def _result(args: _Arguments) -> Document:
    from kyma_proxy.ops.accounts.access import call_admin_api  # noqa: PLC0415  (other commands need no database)
    from kyma_proxy.ops.reload import read_snapshot  # noqa: PLC0415

    snapshot = read_snapshot(config_path(args.config), os.environ)
    try:
        call = functools.partial(args.call, args)
        return asyncio.run(call_admin_api(snapshot, call, creates_database=args.creates_database))
    except StartError as error:  # it may name a database that came from the environment
        raise StartError(snapshot.substitutions.shown(str(error))) from None
    except KeyboardInterrupt:
        raise StartError("interrupted; look whether it was done before you try again") from None


def _error(error: ConfigError | StartError | AdminApiError) -> Document:
    if isinstance(error, AdminApiError):
        return {"message": error.message, "code": error.code}
    if isinstance(error, StartError):
        return {"message": str(error), "code": "failed"}
    problems = [one._asdict() for one in error.problems]
    return {"message": "The configuration is wrong.", "code": "invalid_configuration", "problems": problems}


# ---- arguments


def _group(commands: Any, name: str, purpose: str) -> Any:
    group = commands.add_parser(name, help=purpose, description=f"{purpose.capitalize()}. {_ACCESS_HELP}")
    return group.add_subparsers(title="commands", required=True, metavar="COMMAND")


def _command(
    group: Any,
    name: str,
    purpose: str,
    call: Callable[[_Arguments, AdminClient], Document],
    format: Callable[[Document], str],  # noqa: A002
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = group.add_parser(
        name, help=purpose, description=f"{purpose.capitalize()}. {_ACCESS_HELP}"
    )
    add_config(command)
    command.add_argument(
        "--json", action="store_true", help="print one JSON document, also for an error, as the admin API does"
    )
    command.set_defaults(action=run_command, call=call, format=format, creates_database=False)
    return command


def _add_account(command: argparse.ArgumentParser) -> None:
    command.add_argument("account", metavar="ACCOUNT", help=_ACCOUNT_HELP)


# ---- requests


def _create(args: _Arguments, api: AdminClient) -> Document:
    return api.request("POST", "/admin/accounts", _members(email=args.email, grant=args.grant))


def _list(args: _Arguments, api: AdminClient) -> Document:
    if args.email is not None:
        return api.request("GET", f"/admin/accounts?email={_quoted(args.email)}")
    data: list[Document] = []
    while True:
        page = api.request("GET", f"/admin/accounts?limit={PAGE_SIZE}&offset={len(data)}")
        data += page["data"]
        if not page["has_more"]:
            return {**page, "data": data}


def _show(args: _Arguments, api: AdminClient) -> Document:
    return api.request("GET", _account(args, api))


def _block(args: _Arguments, api: AdminClient) -> Document:
    return api.request("POST", f"{_account(args, api)}/block")


def _unblock(args: _Arguments, api: AdminClient) -> Document:
    return api.request("POST", f"{_account(args, api)}/unblock")


def _create_key(args: _Arguments, api: AdminClient) -> Document:
    return api.request("POST", f"{_account(args, api)}/keys", _members(name=args.name))


def _list_keys(args: _Arguments, api: AdminClient) -> Document:
    return api.request("GET", f"{_account(args, api)}/keys")


def _revoke_key(args: _Arguments, api: AdminClient) -> Document:
    account = _account(args, api)
    unknown = AdminApiError(
        404, "not_found", "The account has no such key; `kyma-proxy keys list` lists its keys with their ids."
    )
    return _require("DELETE", f"{account}/keys/{args.key}", args.key, api, unknown)


def _add_credits(args: _Arguments, api: AdminClient) -> Document:
    if args.kind == "purchase":
        if args.payment_id is None or args.reason is not None:
            raise AdminApiError(
                400, "invalid_request", "A purchase takes --payment-id, so that it counts once, but no --reason."
            )
        return api.request("POST", f"{_account(args, api)}/purchases", _members(amount=args.amount, payment_id=args.payment_id))
    if args.payment_id is not None:
        raise AdminApiError(400, "invalid_request", "A grant takes no --payment-id; use --kind purchase for a payment.")
    return api.request("POST", f"{_account(args, api)}/grants", _members(amount=args.amount, reason=args.reason))


def _list_credits(args: _Arguments, api: AdminClient) -> Document:
    return api.request("GET", f"{_account(args, api)}/transactions?limit={_quoted(args.limit)}")


def _account(args: _Arguments, api: AdminClient) -> str:
    """The path of the account that was named. Raises AdminApiError if there is none."""
    unknown = AdminApiError(404, "not_found", "There is no such account; `kyma-proxy accounts list` lists them.")
    ident: str = args.account
    if "@" in ident:
        found = api.request("GET", f"/admin/accounts?email={_quoted(ident)}")["data"]
        if not found:
            raise unknown
        return f"/admin/accounts/{found[0]['id']}"
    _require("GET", f"/admin/accounts/{ident}", ident, api, unknown)
    return f"/admin/accounts/{ident}"


def _require(method: str, path: str, ident: str, api: AdminClient, unknown: AdminApiError) -> Document:
    """The answer about the object with this id. Raises `unknown` if there is none; what can't be an id is not sent."""
    if not _ID.fullmatch(ident):
        raise unknown
    try:
        return api.request(method, path)
    except AdminApiError as refusal:
        raise (unknown if refusal.status == unknown.status else refusal) from None


def _members(**members: str | None) -> Document:
    return {name: value for name, value in members.items() if value is not None}


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")
