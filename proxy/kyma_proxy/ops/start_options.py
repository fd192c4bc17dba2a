"""Defines the options of `serve` that stand in the place of a configuration, or of a part of it. (Contract §13.)"""

from __future__ import annotations

import argparse
from typing import Final

from kyma_proxy.config.addresses import parse_address
from kyma_proxy.config.snapshot import Address

EXAMPLES: Final = """\
examples:
  OPENAI_API_KEY=sk-... kyma-proxy serve
      all models of the providers whose keys are in the environment
  kyma-proxy serve --provider http://localhost:11434/v1
      all models of a server that is compatible with OpenAI's API: Ollama, vLLM, llama.cpp, ...
  kyma-proxy serve --config kyma.yaml --listen 127.0.0.1:8081 --no-admin
      a configuration (`kyma-proxy init` writes one), at another address
"""


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` that stand in the place of a configuration, or of a part of it."""
    parser.add_argument("--provider", metavar="URL", help="serve all models of this provider, given by its base URL")
    parser.add_argument("--api-key-env", metavar="NAME", help="the environment variable with its key (default: no key is sent)")
    add_address_options(parser)
    parser.add_argument("--log", metavar="FILE", help="the access log: a file, - for standard output, pretty, or off")


def add_address_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the addresses of the two listeners."""
    parser.add_argument("--listen", metavar="ADDRESS", type=address, help="the address to serve, such as 127.0.0.1:8081")
    admin = parser.add_mutually_exclusive_group()
    admin.add_argument("--admin", metavar="ADDRESS", type=address, help="the address of the admin listener")
    admin.add_argument("--no-admin", action="store_true", help="have no admin listener")


def address(text: str) -> Address:
    """The address of a listener, for an option. Raises ArgumentTypeError."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
