"""Each command says what it is for and shows examples that can be typed; the manual and the completions know all of them."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from kyma_proxy.ops.cli import command_line
from kyma_proxy.ops.examples import EXAMPLES, each_command
from tests.processes import command

COMMANDS = {" ".join(words): command for words, command in each_command(command_line())}
HAS_DIST_PACKAGES = all(importlib.util.find_spec(name) for name in ("shtab", "argparse_manpage"))


def examples(name: str) -> list[str]:
    """The lines that can be typed, in the help of a command."""
    shown = COMMANDS[name].format_help()
    return re.findall(r"^  ((?:[A-Z_]+=\S+ )*kyma-proxy .+)$", shown[shown.index("examples:") :], re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example_that_the_command_line_accepts(name: str) -> None:
    lines = examples(name)
    assert lines, name
    for line in lines:
        words = shlex.split(line)
        arguments = words[words.index("kyma-proxy") + 1 :]
        assert command_line().parse_args(arguments).action.__name__ != "show", line
        assert " ".join(arguments).startswith(name), line


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_of_a_help_is_too_long_but_that_of_an_example(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = COMMANDS[name].format_help().partition("examples:")[0]
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("words", [(), ("accounts",), ("keys",), ("credits",)])
def test_without_a_command_the_help_is_shown_and_nothing_is_done(words: tuple[str, ...]) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(" ".join(("usage: kyma-proxy", *words)))
    assert "examples:" in done.stderr


def test_no_example_is_of_a_command_that_does_not_exist() -> None:
    assert set(EXAMPLES) <= set(COMMANDS)


@pytest.mark.skipif(not HAS_DIST_PACKAGES, reason="the packages that make the manual are not installed: make dist")
def test_the_manual_and_the_completions_have_all_commands_and_examples(tmp_path: Path) -> None:
    made = importlib.import_module("deploy.manual").write(tmp_path)
    texts = {path.name: path.read_text() for path in made}
    assert len(texts) >= 3
    words = {word for name in COMMANDS for word in name.split()}
    for name, text in texts.items():
        assert [word for word in words if word not in text] == [], name
    manual = texts["kyma-proxy.1"].replace("\\-", "-")
    assert [line for name in COMMANDS for line in examples(name) if line not in manual] == []
