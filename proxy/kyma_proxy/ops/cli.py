"""Runs the command line: parses the arguments, runs the command, and turns errors into one clear line each."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any, NoReturn

from kyma_proxy import __version__
from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.errors import StartError
from kyma_proxy.ops.accounts.commands import add_account_commands
from kyma_proxy.ops.bench.command import add_bench_command
from kyma_proxy.ops.check_command import add_check_command, is_json_wanted, print_problems, print_refusal
from kyma_proxy.ops.examples import add_examples, show_help_without_command
from kyma_proxy.ops.health import add_health_command
from kyma_proxy.ops.init_command import add_init_command
from kyma_proxy.ops.options import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_OK, add_file
from kyma_proxy.ops.start_options import EXAMPLES as SERVE_EXAMPLES
from kyma_proxy.ops.start_options import add_address_options, add_start_options
from kyma_proxy.telemetry.process_log import begin_process_log
from kyma_proxy.telemetry.visible_text import visible


class _UsageError(Exception):
    """Arguments that the command line does not have."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self._parser = parser

    def exit(self) -> NoReturn:
        """Print the usage and the message, and exit, as argparse does."""
        argparse.ArgumentParser.error(self._parser, str(self))


class _Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong with its arguments, so that it can also be told as JSON."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(self, message)


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments (the process's own by default); returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        args = command_line().parse_args(arguments)
    except _UsageError as error:
        if not is_json_wanted(arguments):
            error.exit()
        print_refusal(str(error))
        return EXIT_BAD_CONFIG
    begin_process_log()
    try:
        return int(args.action(args))
    except ConfigError as error:
        named = getattr(args, "file", None) or getattr(args, "config", None) or os.environ.get("KYMA_CONFIG")
        print_problems(named, error)
        return EXIT_BAD_CONFIG
    except StartError as error:
        print(f"kyma-proxy: {visible(str(error))}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_OK
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def command_line() -> argparse.ArgumentParser:
    """The parser of the command line; the manual page and the shells' completions are made from it."""
    parser = _Parser(
        prog="kyma-proxy",
        description="A thin, low-latency gateway for large language models: one address for many providers.",
        epilog="KYMA_CONFIG stands for --config. Exit codes: 0 success, 1 failure, 2 the configuration is wrong.",
    )
    parser.add_argument("--version", action="version", version=f"kyma-proxy {__version__} ({_build()})")
    commands: argparse._SubParsersAction[Any] = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="run the gateway",
        description="Run the gateway until SIGTERM or Ctrl-C: with a configuration, or without a file, for all models of the "
        "providers whose keys are in the environment.",
        epilog=SERVE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_file(serve)
    add_start_options(serve)
    serve.add_argument(
        "--check-accounts",
        action="store_true",
        help="check the whole database of accounts first; do not start if anything is wrong",
    )
    serve.add_argument(
        "--replace",
        action="store_true",
        help="take the place of the process that serves the same address, without refusing a connection; "
        "if this one can't start, that one goes on",
    )
    serve.set_defaults(action=_serve)

    add_check_command(commands)

    demo = commands.add_parser(
        "demo",
        help="try it: the gateway in front of a simulated provider",
        description="Run a simulated provider and the gateway in front of it. Real providers whose keys are in the "
        "environment are served too. If its ports are in use, it takes others and says so.",
        epilog="examples:\n  kyma-proxy demo\n  kyma-proxy demo --listen 127.0.0.1:8081 --no-admin --pace 10ms",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--config", metavar="FILE", type=Path, help="another configuration than the demo's own")
    add_address_options(demo)
    demo.add_argument("--pace", default="50ms", metavar="TIME", help="between two words of an answer (default: 50ms)")
    demo.set_defaults(action=_demo)
    add_init_command(commands)
    add_bench_command(commands)
    add_health_command(commands)
    add_account_commands(commands)
    add_examples(parser)
    show_help_without_command(parser)
    return parser


def _build() -> str:
    """Says if the path of a request is compiled, and which Python runs it."""
    gateway = importlib.util.find_spec("kyma_proxy.gateway")  # it is not imported: most commands do not need it
    is_compiled = gateway is not None and str(gateway.origin).endswith(".so")
    return f"{'compiled' if is_compiled else 'not compiled'}, Python {platform.python_version()}"


def _serve(args: argparse.Namespace) -> int:
    from kyma_proxy.ops.serve import log_start, run  # noqa: PLC0415  (the other commands need no event loop)
    from kyma_proxy.ops.starting import choose_configuration, describe  # noqa: PLC0415

    chosen = choose_configuration(args, os.environ)

    def ready(snapshot: Snapshot) -> None:
        log_start(snapshot, chosen.file)
        if chosen.providers:
            for line in describe(snapshot, chosen.providers):
                print(visible(line), file=sys.stderr, flush=True)

    run(
        chosen.file, os.environ, ready, adjust=chosen.adjust, check_integrity=args.check_accounts, replaces=args.replace
    )  # fmt: skip
    return EXIT_OK


def _demo(args: argparse.Namespace) -> int:
    from kyma_proxy.ops.config_file import DEMO, shipped_file  # noqa: PLC0415
    from kyma_proxy.ops.demo import run_demo  # noqa: PLC0415
    from kyma_proxy.ops.starting import adjustment  # noqa: PLC0415

    options = adjustment(listen=args.listen, admin=args.admin, no_admin=args.no_admin)
    return run_demo(args.config or shipped_file(DEMO), args.pace, os.environ, options)
