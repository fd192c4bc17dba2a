"""Makes the manual page and the shells' completions from the parser of the command line.

    make dist

They go to share/, from where a package takes them; they are made anew for each release, so that no option can be missing.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

import shtab
from argparse_manpage.manpage import Manpage

ROOT: Final = Path(__file__).resolve().parent.parent
COMPLETIONS: Final = {
    "bash": "bash-completion/completions/kyma-proxy",
    "zsh": "zsh/site-functions/_kyma-proxy",
    "fish": "fish/vendor_completions.d/kyma-proxy.fish",
}


def write(share: Path) -> list[Path]:
    """Write all of them below `share`; returns their paths. Raises ValueError if one lacks a command."""
    from kyma_proxy.ops.cli import command_line

    texts = {share / "man/man1/kyma-proxy.1": manual(command_line())}
    texts |= {
        share / COMPLETIONS[shell]: shtab.complete(command_line(), shell)
        for shell in COMPLETIONS
        if shell in shtab.SUPPORTED_SHELLS
    }
    for path, text in texts.items():
        missing = [name for name in commands_of(command_line()) if name not in text]
        if missing:
            raise ValueError(f"{path}: lacks the commands {', '.join(missing)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [*texts]


def manual(parser: ArgumentParser) -> str:
    """The manual page: what argparse knows, and then the examples of all commands."""
    from kyma_proxy import __version__
    from kyma_proxy.ops.examples import each_command

    examples = [command.epilog for _, command in each_command(parser) if (command.epilog or "").startswith("examples:")]
    parser.epilog = (parser.epilog or "").partition("\n\n")[2]  # its examples stand with the others
    page = Manpage(parser, {"project_name": "kyma-proxy", "version": __version__, "manual_title": "kyma-proxy"})
    shown: dict[str, list[str]] = {}
    typed = ""
    for text in examples:
        for line in (text or "").partition("\n\n")[0].splitlines()[1:]:
            if line.startswith("   "):
                shown[typed].append(line)  # what the line above it does
            else:
                typed = line
                shown.pop(typed, None)  # the command's own words for it, and not those of the one above it
                shown[typed] = []
    lines = "".join(f"{_roff(line)}\n" for typed, what in shown.items() for line in (typed, *what))
    return f"{page}\n.SH EXAMPLES\n.nf\n{lines}.fi\n"


def _roff(line: str) -> str:
    """A line as it is, in the language of manuals; what one types is bold."""
    escaped = line.strip().replace("\\", "\\\\").replace("-", "\\-")
    return f"\\fB{escaped}\\fR" if line.startswith("  ") and not line.startswith("   ") else f"    {escaped}"


def commands_of(parser: ArgumentParser) -> list[str]:
    """The names of all commands and of the commands below them, each as the last word of what one types."""
    from kyma_proxy.ops.examples import each_command

    return [words[-1] for words, _ in each_command(parser) if words]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "proxy"))
    for made in write(ROOT / "share"):
        print(made)
