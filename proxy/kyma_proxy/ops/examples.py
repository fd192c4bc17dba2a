"""Adds examples to the help of every command, and shows it to whoever gives no command. (Contract §13.)"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

EXIT_BAD_USAGE: Final = 2
"""As argparse exits."""
_BEGINNING: Final = "examples:"
EXAMPLES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "": [
        ("OPENAI_API_KEY=sk-... kyma-proxy serve", "all models of the providers whose keys are in the environment"),
        ("kyma-proxy demo", "a simulated provider: no key is needed, nothing is paid"),
        ("kyma-proxy init", "writes kyma.yaml, to begin with"),
    ],
    "check": [
        ("kyma-proxy check kyma.yaml", "every mistake with its line; exit code 2 if there is one"),
        ("kyma-proxy check --json kyma.yaml", "the same for scripts"),
        ("kyma-proxy check --diff kyma.yaml", "what it would change in the gateway that runs"),
    ],
    "schema": [("kyma-proxy schema", "JSON Schema, for an editor that completes and checks the file")],
    "health": [
        ("kyma-proxy health", "asks the admin listener at 127.0.0.1:9090"),
        ("kyma-proxy health --admin 127.0.0.1:9090 --quiet", "a probe of a container: only the exit code"),
        ("kyma-proxy health --listen 127.0.0.1:8080", "asks the public listener, where there is no admin listener"),
    ],
    "bench": [
        (
            "kyma-proxy bench --url http://127.0.0.1:11434/v1 --model llama3.2 --requests 100",
            "a server of yours; no key is sent",
        ),
        (
            "kyma-proxy bench --url https://api.openai.com/v1 --model gpt-5.4-mini --key-env OPENAI_API_KEY --max-usd 0.20 "
            "--price 0.75/4.50",
            "a provider, for 20 cents at the most",
        ),
    ],
    "accounts": [
        ("kyma-proxy accounts create ann@example.com --grant 1", "an account with a dollar; its key is shown once"),
        ("kyma-proxy accounts list", "all accounts"),
    ],
    "accounts create": [
        ("kyma-proxy accounts create ann@example.com", "an account, and its first key, which is shown once"),
        ("kyma-proxy accounts create bob@example.com --grant 2.50", "with credits to begin with"),
    ],
    "accounts list": [
        ("kyma-proxy accounts list", "all accounts, the oldest first"),
        ("kyma-proxy accounts list --email ann@example.com --json", "one of them, for scripts"),
    ],
    "accounts show": [("kyma-proxy accounts show ann@example.com", "its tier, its balance and its keys")],
    "accounts block": [("kyma-proxy accounts block ann@example.com", "its next request is refused")],
    "accounts unblock": [("kyma-proxy accounts unblock ann@example.com", "its next request is accepted")],
    "keys": [
        ("kyma-proxy keys create ann@example.com --name laptop", "a further key; it is shown once"),
        ("kyma-proxy keys list ann@example.com", "the ids and the names of the valid ones"),
    ],
    "keys create": [("kyma-proxy keys create ann@example.com --name laptop", "a further key; it is shown once")],
    "keys list": [("kyma-proxy keys list ann@example.com", "the ids and the names, never the keys")],
    "keys revoke": [("kyma-proxy keys revoke ann@example.com key_2Xb9", "the key with this id, from the next request on")],
    "credits": [
        ("kyma-proxy credits add ann@example.com 10 --kind purchase --payment-id inv-17", "a payment; it counts once"),
        ("kyma-proxy credits list ann@example.com", "the ledger, the newest entry first"),
    ],
    "credits add": [
        ("kyma-proxy credits add ann@example.com 10 --kind purchase --payment-id inv-17", "a payment; it counts once"),
        ('kyma-proxy credits add ann@example.com 0.50 --kind grant --reason "an outage"', "a gift; no payment"),
    ],
    "credits list": [("kyma-proxy credits list ann@example.com --limit 100", "the newest hundred entries")],
}
"""The lines, each with what it does, by the words of the command. A command with an epilog of its own keeps that."""


def add_examples(parser: argparse.ArgumentParser) -> None:
    """Put the examples into the help of the parser and of all its commands."""
    for words, command in each_command(parser):
        command.formatter_class = HelpFormatter
        lines = EXAMPLES.get(" ".join(words), ())
        if lines and not (command.epilog or "").startswith(_BEGINNING):
            text = "\n".join(f"  {line}\n      {what}" for line, what in lines)
            command.epilog = f"{_BEGINNING}\n{text}" + (f"\n\n{command.epilog}" if command.epilog else "")


def show_help_without_command(parser: argparse.ArgumentParser) -> None:
    """Have the parser, and each group of commands in it, show its help to whoever gives no command."""
    for _, command in each_command(parser):
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                action.required = False
                command.set_defaults(action=_help_of(command))


def _help_of(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    def show(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return EXIT_BAD_USAGE

    return show


def each_command(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """The parser and those of all its commands, each with the words that lead to it."""
    yield words, parser
    for action in parser._actions:  # argparse has no other way to them
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from each_command(command, (*words, name))


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Breaks the lines of descriptions, and leaves those of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        examples, blank, rest = text.partition("\n\n") if text.startswith(_BEGINNING) else ("", "", text)
        wrapped = argparse.HelpFormatter._fill_text(self, rest, width, indent) if rest else ""
        return f"{super()._fill_text(examples, width, indent)}{blank}{wrapped}"
