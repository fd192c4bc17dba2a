"""The command `check`: every problem of a configuration and every doubt about it, each with its line, for people or as JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kyma_proxy.config.problems import ConfigError, Problem
from kyma_proxy.errors import StartError
from kyma_proxy.ops.config_diff import add_diff_options, difference_lines, find_difference
from kyma_proxy.ops.options import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_OK, add_file, config_path, given_file, print_json
from kyma_proxy.telemetry.visible_text import visible


def add_check_command(commands: Any) -> None:
    """Add the command to a command line's `commands`."""
    check = commands.add_parser(
        "check",
        help="check a configuration",
        description="Check a configuration and print every problem, each with its line. Files that it names are looked at; "
        "commands that print keys are not run.",
        epilog="Exit codes: 0 it can be served; 1 it can't be read; 2 something is wrong.",
    )
    add_file(check)
    check.add_argument("--json", action="store_true", help="print the result as JSON, whatever it is")
    add_diff_options(check)
    check.set_defaults(action=_check)


def is_json_wanted(arguments: list[str]) -> bool:
    """True if these arguments, which may be wrong, ask for the result of a check as JSON."""
    return arguments[:1] == ["check"] and "--json" in arguments


def print_refusal(message: str) -> None:
    """Print as JSON why there was nothing to check."""
    print_json({"ok": False, "problems": [Problem("", 0, message)._asdict()], "warnings": []})


def print_problems(path: str | Path | None, error: ConfigError) -> None:
    """Print the problems of a configuration for people."""
    for problem in error.problems:
        print(visible(f"{path}: {problem}"), file=sys.stderr)
    count = len(error.problems)
    print(visible(f"{path}: {count} problem{'s' if count > 1 else ''}; nothing was started"), file=sys.stderr)


def _check(args: argparse.Namespace) -> int:
    from kyma_proxy.ops.reload import read_snapshot  # noqa: PLC0415  (the other commands need no event loop)
    from kyma_proxy.ops.serve import count_models  # noqa: PLC0415

    try:
        path = config_path(given_file(args))
        snapshot = read_snapshot(path, os.environ, to_serve=True)
        difference = find_difference(args, path, snapshot, os.environ)
    except ConfigError as error:
        if args.json:
            found, doubts = _documents(error.problems), _documents(error.warnings)
            print_json({"ok": False, "problems": found, "warnings": doubts})
        else:
            for warning in error.warnings:
                print(visible(f"warning: {warning}"))
            print_problems(path, error)
        return EXIT_BAD_CONFIG
    except StartError as error:
        if not args.json:
            raise
        print_refusal(str(error))
        return EXIT_FAILED
    if args.json:
        document = {"ok": True, "version": snapshot.version, "problems": [], "warnings": _documents(snapshot.warnings)}
        print_json(document if difference is None else {**document, "diff": difference})
        return EXIT_OK
    for warning in snapshot.warnings:
        print(visible(f"warning: {warning}"))
    if difference is not None:
        for line in difference_lines(path, difference):
            print(visible(line))
        return EXIT_OK
    on = sum(provider.off is None for provider in snapshot.providers.values())
    workers = f", {snapshot.workers} workers" if snapshot.workers > 1 else ""
    print(visible(f"{path}: fine; {count_models(snapshot)}, {on} of {len(snapshot.providers)} providers on{workers}"))
    return EXIT_OK


def _documents(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [one._asdict() for one in problems]
