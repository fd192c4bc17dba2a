"""Compares a configuration with that of a running gateway, for `check --diff`: it asks the gateway's admin listener.

The two are compared as they are written, variables by their names. The gateway compares; neither of the two sends a secret.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.config.units import Secret
from kyma_proxy.errors import StartError
from kyma_proxy.loading.reference.key import REPLACE, RESTART
from kyma_proxy.loading.written_form import sealed_with
from kyma_proxy.ops.admin_client import AdminApiError, AdminClient, Document, connect
from kyma_proxy.ops.config_file import ConfigFile
from kyma_proxy.ops.reload_changes import form_of
from kyma_proxy.ops.start_options import address

_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}
_LEFT_OUT: Final = "(left out)"
_WAITS: Final = {REPLACE: "waits for `serve --replace`, or a restart", RESTART: "waits for a restart"}


def add_diff_options(check: argparse.ArgumentParser) -> None:
    """Add the options to the command."""
    check.add_argument("--diff", action="store_true", help="say what would change in the running gateway; nothing does")
    check.add_argument(
        "--admin", metavar="ADDRESS", type=address, help="the running gateway's admin listener (default: the configuration's)"
    )


def find_difference(
    args: argparse.Namespace, file: ConfigFile, snapshot: Snapshot, environment: Mapping[str, str]
) -> Document | None:
    """The changes if the gateway had this valid configuration; None if they are not asked for. Raises StartError."""
    if not args.diff:
        return None
    try:
        return _ask(args, file, snapshot, environment)
    except StartError as error:  # it may name an address that came from the environment
        raise StartError(snapshot.substitutions.shown(str(error))) from None


def _ask(args: argparse.Namespace, file: ConfigFile, snapshot: Snapshot, environment: Mapping[str, str]) -> Document:
    admin = snapshot.admin
    listener = args.admin or (None if admin is None else admin.listen)
    if listener is None:
        raise StartError(f"{file} has no admin listener; give that of the running gateway with --admin ADDRESS")
    connected = connect(listener, "--admin" if args.admin is not None else "admin.listen")
    if connected is None:
        raise StartError(f"nothing listens at {listener}; is the gateway running? --admin ADDRESS names another admin listener")
    token = "" if admin is None or admin.token is None else admin.token.reveal()
    client = AdminClient(connected, token, f"the gateway at {listener}")
    with contextlib.closing(client):
        if not client.is_gateway():
            raise StartError(f"{client.server}: what listens there is no gateway")
        try:
            answer = client.request("POST", "/admin/config/compare", _form_of(file, environment, token))
            return {"gateway": str(listener), **answer}
        except AdminApiError as error:
            raise StartError(_advice(client.server, error, has_token=bool(token))) from None


def _form_of(file: ConfigFile, environment: Mapping[str, str], token: str) -> Document:
    form = form_of(file.read_text(encoding="utf-8"), environment, sealed_with(Secret(token)))
    if form is None:
        raise StartError(f"{file} has changed meanwhile; check it again")
    return form


def _advice(server: str, error: AdminApiError, *, has_token: bool) -> str:
    if error.status == 403:
        return f"{server} has no admin token, so it can't be asked; set admin.token in its configuration"
    if error.status == 401:
        return f"{server} has another admin token" if has_token else f"{server} asks for its admin token; set admin.token here"
    return f"{server}: {error.message}"


def difference_lines(file: ConfigFile, difference: Document) -> Iterable[str]:
    """The changes for people, one on each line, and their number."""
    for change in difference["changes"]:
        values = [change["before"], change["after"]]
        if change["kind"] == "changed" and values != [None, None]:
            text = f"{change['path']}: {' -> '.join(_LEFT_OUT if one is None else one for one in values)}"
        else:
            given = next((one for one in values if one is not None), None)
            text = change["path"] if given is None else f"{change['path']}: {given}"
        waits = f"  ({_WAITS[change['reload']]})" if change["reload"] in _WAITS else ""
        yield f"{_SIGNS[change['kind']]} {text}{waits}"
    yield f"{file}: {_summary(difference)} in the gateway at {difference['gateway']}"


def _summary(difference: Document) -> str:
    count, waiting = len(difference["changes"]), sum(change["reload"] in _WAITS for change in difference["changes"])
    if not count:
        return "nothing would change"
    changes = f"{count} change{'s' if count > 1 else ''}"
    return f"{changes}, of which {waiting} wait{'s' if waiting == 1 else ''}" if waiting else changes
