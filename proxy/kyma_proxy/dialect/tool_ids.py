"""This file gives tool calls ids that Anthropic takes, and from which the sources' own can be had again. (Contract §3.4.)

Anthropic takes letters, digits, `_` and `-` in an id, and refuses a conversation with any other; some sources that speak OpenAI
make ids such as `functions.Bash:0`, and want to see them again. So an id that is unfit goes to the caller as its bytes in hex,
behind a prefix, and comes back as what it was.
"""

from __future__ import annotations

import re
from typing import Final

_FIT: Final = re.compile(r"[a-zA-Z0-9_-]+")
_PREFIX: Final = "kyma-id-"


def fit_id(own: str) -> str:
    """A source's id as a caller who speaks Anthropic sees it. One that looks made already is made, too: it must come back."""
    if _FIT.fullmatch(own) and not own.startswith(_PREFIX):
        return own
    return _PREFIX + own.encode(errors="replace").hex()


def own_id(fit: str) -> str:
    """The source's id again; any other id as it is."""
    if not fit.startswith(_PREFIX):
        return fit
    try:
        own = bytes.fromhex(fit.removeprefix(_PREFIX)).decode()
    except ValueError:
        return fit
    return own if fit_id(own) == fit else fit
