"""Decides what `serve` runs: a configuration file, or one made of keys in the environment, or of one provider. (Contract §13.)

A file that is given wins over keys in the environment. Addresses and the log can be given for each of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from kyma_proxy.config.snapshot import Address, Admin, Snapshot, TcpAddress
from kyma_proxy.errors import StartError
from kyma_proxy.loading.known_providers import KnownProvider, read_known_providers
from kyma_proxy.loading.starting import built_in_configuration, patterns_of, provider_at, with_keys
from kyma_proxy.ops.config_file import CATALOGUE, BuiltInFile, ConfigFile, shipped_text
from kyma_proxy.ops.options import given_file

_OFF: Final = "off"


class Started(NamedTuple):
    """A configuration to run: where it comes from, what options change in it, and the providers if no file names them."""

    file: ConfigFile
    adjust: Callable[[Snapshot], Snapshot]
    providers: tuple[KnownProvider, ...] = ()


def choose_configuration(args: argparse.Namespace, environment: Mapping[str, str]) -> Started:
    """The configuration that the options ask for. Raises StartError if nothing could be served."""
    adjust = adjustment(listen=args.listen, admin=args.admin, no_admin=args.no_admin, log=args.log)
    given = given_file(args)
    if args.provider is None:
        if args.api_key_env is not None:
            raise StartError("--api-key-env is the key of --provider; give that too")
        named = given or environment.get("KYMA_CONFIG")
        if named:
            return Started(Path(named), adjust)
    elif given is not None:
        raise StartError("--provider stands in the place of a configuration; leave it or the file out")
    known = read_known_providers(shipped_text(CATALOGUE))
    if args.provider is None:
        providers = with_keys(known, environment)
        if not providers:
            raise StartError(_nothing_to_serve(known))
        name = "its built-in configuration"
    else:
        providers = (_given_provider(args.provider, args.api_key_env, known, environment),)
        name = f"all models of {providers[0].base_url}"
    return Started(BuiltInFile(built_in_configuration(providers, environment), name), adjust, providers)


def adjustment(
    *, listen: Address | None = None, admin: Address | None = None, no_admin: bool = False, log: str | None = None
) -> Callable[[Snapshot], Snapshot]:
    """Put options in the place of what a configuration says, also when it is reloaded."""

    def adjust(snapshot: Snapshot) -> Snapshot:
        changed: dict[str, Any] = {}
        if listen is not None:
            changed["listen"] = listen
        if no_admin:
            changed["admin"] = None
        elif admin is not None:
            changed["admin"] = Admin(admin, None if snapshot.admin is None else snapshot.admin.token)
        if log is not None:
            changed["access_log"] = None if log == _OFF else log
        return replace(snapshot, **changed) if changed else snapshot

    return adjust


def describe(snapshot: Snapshot, providers: tuple[KnownProvider, ...]) -> list[str]:
    """The lines that say what a gateway without a file serves, and how to call it."""
    listen = snapshot.listen
    base = f"http://{listen}" if isinstance(listen, TcpAddress) else "http://localhost"
    curl = "curl" if isinstance(listen, TcpAddress) else f"curl --unix-socket {listen.path}"
    patterns = patterns_of(providers)
    width = max(len(one.name) for one in providers)
    rows = []
    for one in providers:
        names = ", ".join("any other name" if pattern == "*" else pattern for pattern, name in patterns if name == one.name)
        if len(providers) == 1:
            names = f"any name, or {one.name}/…"
        origin = f"the key is in {one.variable}" if one.variable else "no key is sent"
        rows.append(f"  {one.name:<{width}}  {names.replace('*', '…')}  ({one.base_url}; {origin})")
    model = providers[0].example
    lines = ["", "No file is read. All models of these providers are passed on, by these names:", "", *rows, ""]
    if model is None:
        lines += [f"See what there is:  {curl} {base}/v1/models"]
    body = {"model": model or "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}
    lines += [
        "Try it:",
        f"  {curl} {base}/v1/chat/completions -H 'content-type: application/json' -d '{orjson.dumps(body).decode()}'",
        "",
        f"In your app: OPENAI_BASE_URL={base}/v1, or ANTHROPIC_BASE_URL={base}, and any key.",
        "`kyma-proxy init` writes such a configuration as a file.",
        "",
    ]
    return lines


def _given_provider(
    url: str, variable: str | None, known: tuple[KnownProvider, ...], environment: Mapping[str, str]
) -> KnownProvider:
    if variable is not None and not environment.get(variable):
        raise StartError(f"--api-key-env {variable}: the environment has no such variable, or it is empty")
    try:
        return provider_at(url, variable, known)
    except ValueError as error:
        raise StartError(f"--provider: {error}") from None


def _nothing_to_serve(known: tuple[KnownProvider, ...]) -> str:
    names = ", ".join(one.variable for one in known)
    return (
        "no configuration: set the key of a provider in the environment, give --provider URL for a server without a key, or "
        f"give --config FILE (`kyma-proxy init` writes one). Keys that are known: {names}"
    )
