"""This file holds what the commands have in common: their exit codes, and where their configuration is. (Contract §13.)"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from kyma_proxy.errors import StartError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_CONFIG: Final = 2


def add_config(parser: argparse.ArgumentParser) -> None:
    """Let the command be told its configuration."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration, YAML (default: $KYMA_CONFIG)")


def config_path(given: Path | None) -> Path:
    """The configuration that was named, by a word or by KYMA_CONFIG. Raises StartError where none was."""
    if given is not None:
        return given
    named = os.environ.get("KYMA_CONFIG")
    if not named:
        raise StartError("no configuration: give --config FILE or set KYMA_CONFIG; config/sidecar.yaml is a good start")
    return Path(named)
