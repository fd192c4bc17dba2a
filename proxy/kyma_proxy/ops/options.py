"""Defines what the commands share: exit codes, the option for the configuration, and JSON output. (Contract §13.)"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from kyma_proxy.errors import StartError
from kyma_proxy.telemetry.visible_text import visible_line

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_CONFIG: Final = 2


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option `--config` to a command."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration, YAML (default: $KYMA_CONFIG)")


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the configuration to a command, which takes it with and without `--config`."""
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the configuration, YAML (default: $KYMA_CONFIG)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the same")


def given_file(args: argparse.Namespace) -> Path | None:
    """The configuration that the arguments of `add_file` name. Raises StartError if they name two."""
    if args.file is not None and args.config is not None and args.file != args.config:
        raise StartError(f"two configurations are given, {args.file} and {args.config}; leave one out")
    found: Path | None = args.config or args.file
    return found


def config_path(option: Path | None) -> Path:
    """The configuration that the option or KYMA_CONFIG names. Raises StartError if neither does."""
    if option is not None:
        return option
    variable = os.environ.get("KYMA_CONFIG")
    if not variable:
        raise StartError("no configuration: give --config FILE or set KYMA_CONFIG; `kyma-proxy init` writes one")
    return Path(variable)


def print_json(document: dict[str, Any]) -> None:
    """Print a document on one line of standard output, in UTF-8 whatever the locale is."""
    try:
        text = orjson.dumps(document)
    except orjson.JSONEncodeError:  # a file name that is not UTF-8, in a message
        text = json.dumps(document).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(visible_line(text) + b"\n")
