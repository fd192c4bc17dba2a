"""Writes a configuration to begin with, also from one of LiteLLM, and the schema that editors need. (Contract §13.)

It never writes over a file.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from kyma_proxy.errors import StartError
from kyma_proxy.ops.config_file import CATALOGUE, SCHEMA_FILE, SCHEMA_LINE, shipped_text
from kyma_proxy.ops.options import EXIT_OK
from kyma_proxy.telemetry.visible_text import visible

_DEFAULT: Final = Path("kyma.yaml")
_EXAMPLES: Final = """\
examples:
  kyma-proxy init
      writes kyma.yaml, for the providers whose keys are in the environment
  kyma-proxy init gateway.yaml --from-litellm config.yaml
      what can't be carried over is said in a comment, and on standard error
"""


def add_init_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    init = commands.add_parser(
        "init",
        help="write a configuration to begin with",
        description="Write a commented configuration. A file that exists is left as it is.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    init.add_argument("file", metavar="FILE", type=Path, nargs="?", default=_DEFAULT, help=f"where to (default: {_DEFAULT})")
    init.add_argument("--from-litellm", metavar="CONFIG", type=Path, help="convert this configuration of a LiteLLM proxy")
    init.set_defaults(action=_init)
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of the configuration",
        description="Print the JSON Schema of the configuration, with which editors complete, explain and check it. `init` "
        "writes it beside the configuration.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    schema.set_defaults(action=_schema)


def _schema(args: argparse.Namespace) -> int:
    sys.stdout.flush()
    sys.stdout.buffer.write(shipped_text(SCHEMA_FILE).encode())
    return EXIT_OK


def _init(args: argparse.Namespace) -> int:
    from kyma_proxy.loading.known_providers import read_known_providers  # noqa: PLC0415  (the other commands need none of it)
    from kyma_proxy.loading.starting import starting_file, with_keys  # noqa: PLC0415

    known = read_known_providers(shipped_text(CATALOGUE))
    notes: tuple[str, ...] = ()
    if args.from_litellm is None:
        text = starting_file(with_keys(known, os.environ), known)
    else:
        from kyma_proxy.loading.litellm import NotLiteLLM, convert  # noqa: PLC0415

        try:
            text, notes = convert(args.from_litellm.read_text(encoding="utf-8"), known)
        except UnicodeDecodeError:
            raise StartError(f"{args.from_litellm}: is not UTF-8 text") from None
        except (OSError, NotLiteLLM) as error:
            raise StartError(f"{args.from_litellm}: {_reason(error)}") from None
    try:
        with args.file.open("x", encoding="utf-8") as file:
            file.write(SCHEMA_LINE + text)
    except FileExistsError:
        raise StartError(f"{args.file} is there already, and is left as it is; name another file") from None
    except OSError as error:
        raise StartError(f"{args.file}: {_reason(error)}") from None
    _write_schema(args.file.parent / SCHEMA_FILE)
    for note in notes:
        print(visible(f"note: {note}"), file=sys.stderr)
    print(visible(f"{args.file} is written. Next: kyma-proxy check {args.file}; kyma-proxy serve --config {args.file}"))
    return EXIT_OK


def _write_schema(path: Path) -> None:
    """Write the schema, unless it is there. The configuration is as good without it, so a failure is only told."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(shipped_text(SCHEMA_FILE))
    except FileExistsError:
        return
    except OSError as error:
        print(visible(f"note: {path}: {_reason(error)}; editors check the configuration without it less well"), file=sys.stderr)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
