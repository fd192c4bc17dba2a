"""Makes the manual page and the shells' completions from the parser of the command line.

    make dist

They go to share/, from where a package takes them; they are made anew for each release, so that no option can be missing.
"""

from __future__ import annotations

import sys
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
    """Write all of them below `share`; returns their paths."""
    from kyma_proxy import __version__
    from kyma_proxy.ops.cli import command_line

    parser = command_line()
    manual = Manpage(parser, {"project_name": "kyma-proxy", "version": __version__, "manual_title": "kyma-proxy"})
    texts = {share / "man/man1/kyma-proxy.1": str(manual)}
    texts |= {
        share / COMPLETIONS[shell]: shtab.complete(parser, shell) for shell in COMPLETIONS if shell in shtab.SUPPORTED_SHELLS
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [*texts]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "proxy"))
    for made in write(ROOT / "share"):
        print(made)
