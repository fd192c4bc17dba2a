"""This file is the command: it reads the words, calls what they ask for, and turns mistakes into one clear line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from pathlib import Path

from kyma_proxy import __version__, gateway
from kyma_proxy.config.problems import ConfigError
from kyma_proxy.errors import StartError
from kyma_proxy.ops.accounts.commands import add_account_commands
from kyma_proxy.ops.options import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_OK, add_config, config_path


def main(argv: list[str] | None = None) -> int:
    """Run the command with these words (the process's own by default); returns the exit code."""
    words = _parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        return int(words.action(words))
    except ConfigError as error:
        _tell_problems(words, error)
        return EXIT_BAD_CONFIG
    except StartError as error:
        print(f"kyma-proxy: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_OK
    except BrokenPipeError:  # whoever reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kyma-proxy",
        description="A thin, low-latency gateway for large language models: one address for many providers.",
        epilog="KYMA_CONFIG stands for --config. Exit codes: 0 fine, 1 it could not be done, 2 the configuration is wrong.",
    )
    parser.add_argument("--version", action="version", version=f"kyma-proxy {__version__} ({_build()})")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the gateway", description="Run the gateway until SIGTERM or Ctrl-C.")
    add_config(serve)
    serve.add_argument(
        "--check-accounts", action="store_true", help="read the whole database of accounts first, and refuse to start if wrong"
    )
    serve.set_defaults(action=_serve)

    check = commands.add_parser(
        "check", help="check a configuration", description="Check a configuration and print every problem, each with its line."
    )
    check.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the configuration (default: $KYMA_CONFIG)")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.set_defaults(action=_check)

    demo = commands.add_parser(
        "demo",
        help="try it: the gateway in front of a simulated provider",
        description="Run a simulated provider and the gateway in front of it. Real providers whose keys are in the "
        "environment are served too.",
    )
    demo.add_argument("--config", metavar="FILE", type=Path, required=True, help="the demo's configuration")
    demo.add_argument("--pace", default="50ms", metavar="TIME", help="between two words of an answer (default: 50ms)")
    demo.set_defaults(action=_demo)
    add_account_commands(commands)
    return parser


def _build() -> str:
    """Whether the path of a request is compiled, and which Python runs it."""
    compiled = "compiled" if gateway.__file__.endswith(".so") else "not compiled"
    return f"{compiled}, Python {platform.python_version()}"


def _serve(words: argparse.Namespace) -> int:
    from kyma_proxy.ops.serve import run, tell  # noqa: PLC0415  (the other commands need no event loop)

    path = config_path(words.config)
    run(path, os.environ, lambda snapshot: tell(snapshot, path), check_integrity=words.check_accounts)
    return EXIT_OK


def _check(words: argparse.Namespace) -> int:
    from kyma_proxy.ops.reload import read_snapshot  # noqa: PLC0415

    path = config_path(words.file)
    snapshot = read_snapshot(path, os.environ)
    if words.json:
        print(json.dumps({"ok": True, "version": snapshot.version, "problems": [], "warnings": snapshot.warnings}))
        return EXIT_OK
    for warning in snapshot.warnings:
        print(f"warning: {warning}")
    on = sum(provider.off is None for provider in snapshot.providers.values())
    print(f"{path}: fine; {len(snapshot.models)} models, {on} of {len(snapshot.providers)} providers on")
    return EXIT_OK


def _demo(words: argparse.Namespace) -> int:
    from kyma_proxy.ops.demo import run_demo  # noqa: PLC0415

    return run_demo(words.config, words.pace, os.environ)


def _tell_problems(words: argparse.Namespace, error: ConfigError) -> None:
    if getattr(words, "json", False):
        problems = [{"path": one.path, "line": one.line, "message": one.message} for one in error.problems]
        print(json.dumps({"ok": False, "problems": problems, "warnings": []}))
        return
    path = getattr(words, "file", None) or getattr(words, "config", None) or os.environ.get("KYMA_CONFIG")
    for problem in error.problems:
        print(f"{path}: {problem}", file=sys.stderr)
    count = len(error.problems)
    print(f"{path}: {count} problem{'s' if count > 1 else ''}; nothing was started", file=sys.stderr)
