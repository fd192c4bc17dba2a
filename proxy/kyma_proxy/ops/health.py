"""Runs the command `health`: asks a running gateway if it takes requests, for the probes of containers and load balancers.

It asks the admin listener, or the public one where there is no admin listener, and sends no credential. A probe that gives an
address reads no file, so that a file which somebody has just broken ends no gateway that serves well.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from kyma_proxy.config.addresses import parse_address
from kyma_proxy.config.snapshot import Address, TcpAddress
from kyma_proxy.errors import StartError
from kyma_proxy.ops.admin_client import connect
from kyma_proxy.ops.options import EXIT_OK, add_config

_ANSWER_S: Final = 3.0


class _Target(NamedTuple):
    """A listener of a gateway."""

    address: Address
    is_admin: bool
    is_tls: bool = False


_DEFAULT: Final = _Target(TcpAddress("127.0.0.1", 9090), is_admin=True)


def add_health_command(commands: Any) -> None:
    """Add `health` to the commands, which are argparse's sub-parsers."""
    health = commands.add_parser(
        "health",
        help="ask a running gateway if it takes requests",
        description="Ask a running gateway if it takes requests: exit code 0 if it does, otherwise 1. Without an address and "
        "without a configuration, the admin listener at 127.0.0.1:9090 is asked.",
        epilog="Probes give an address, so that they need no configuration.",
    )
    add_config(health)
    where = health.add_mutually_exclusive_group()
    where.add_argument("--admin", metavar="ADDRESS", type=_address, help="ask this admin listener: HOST:PORT or unix:/PATH")
    where.add_argument("--listen", metavar="ADDRESS", type=_address, help="ask this public listener")
    health.add_argument("--tls", action="store_true", help="the listener of --listen has TLS; its certificate is not checked")
    health.add_argument("--live", action="store_true", help="ask only if it answers: a gateway that drains is healthy too")
    health.add_argument("--quiet", action="store_true", help="print nothing if it is healthy")
    health.set_defaults(action=_health)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _health(args: argparse.Namespace) -> int:
    target = _target(args, os.environ)
    admin_path = "/livez" if args.live else "/readyz"
    status, state = _ask(target, admin_path if target.is_admin else "/v1/health")
    if status != 200 and not (args.live and state == "draining"):
        raise StartError(f"{target.address}: {state}")
    if not args.quiet:
        print(f"{target.address}: {state}")
    return EXIT_OK


def _target(args: argparse.Namespace, environment: Mapping[str, str]) -> _Target:
    """The listener that the arguments name, or the configuration. Raises StartError."""
    if args.admin is not None:
        return _Target(args.admin, is_admin=True)
    if args.listen is not None:
        return _Target(args.listen, is_admin=False, is_tls=args.tls)
    path = args.config or environment.get("KYMA_CONFIG")
    return _configured(Path(path), environment) if path else _DEFAULT


def _configured(path: Path, environment: Mapping[str, str]) -> _Target:
    """The listener of a configuration; most mistakes elsewhere in the file do not matter here. Raises StartError."""
    from kyma_proxy.loading.reading import read_document  # noqa: PLC0415  (a probe by address runs often, and reads no file)

    try:
        document, _, problems, *_ = read_document(path.read_text(encoding="utf-8"), environment)
        if document is None:
            raise StartError(f"{path}: {problems[0]} (--admin and --listen need no configuration)")
        if document.admin is not None:
            return _Target(parse_address(document.admin.listen), is_admin=True)
        return _Target(parse_address(document.listen), is_admin=False, is_tls=document.tls is not None)
    except OSError as error:
        raise StartError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise StartError(f"{path}: {error}") from None


def _ask(target: _Target, path: str) -> tuple[int, str]:
    """The status of the answer, and the state that it names. Raises StartError if no gateway answers."""
    connected = connect(target.address, "admin.listen" if target.is_admin else "listen")
    if connected is None:
        raise StartError(f"{target.address}: nothing listens there")
    try:
        with contextlib.closing(connected):
            connected.settimeout(_ANSWER_S)
            with contextlib.closing(_encrypted(connected) if target.is_tls else connected) as wire:
                status, body = _exchange(wire, path)
            return status, str(orjson.loads(body)["status"])
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"{target.address}: no answer ({str(error).lower() or type(error).__name__})") from None
    except (ValueError, TypeError, KeyError):
        raise StartError(f"{target.address}: what listens there is no gateway") from None


def _encrypted(connected: socket.socket) -> ssl.SSLSocket:
    """The connection in TLS, to whoever is there: nothing secret is sent, and a certificate seldom names a loopback address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connected)


def _exchange(wire: socket.socket, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = wire
    connection.auto_open = 0  # never connect anew: that would be to another server
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()
