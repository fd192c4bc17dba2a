"""Compiles what a configuration says about headers: which of them are credentials, and `pass_headers`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from kyma_proxy.core.http.answer_fields import OWN_LIMITS, matches, pass_problem

_CREDENTIAL_NAME: Final = re.compile(r"auth|cookie|key|token|secret|password")
_SCHEME: Final = re.compile(r"(?:Bearer|Basic|Key|Token) +", re.IGNORECASE)
_MIN_SECRET_CHARACTERS: Final = 8
"""Shorter credentials (`none`, `EMPTY`, `ollama`) are for servers that ask for none, and are words that answers may have."""
NO_SECRET: Final = 2**30
"""More than the length of any header's value."""


def secrets_among(headers: Mapping[str, str]) -> tuple[bytes, ...]:
    """The credentials among the headers that a provider is sent, without the word that names their scheme."""
    values = (_SCHEME.sub("", value, count=1) for name, value in headers.items() if _CREDENTIAL_NAME.search(name))
    return tuple({value.encode("ascii", "replace"): None for value in values if len(value) >= _MIN_SECRET_CHARACTERS})


def long_secrets(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Those of these credentials that are no words which answers may have."""
    return tuple(text.encode("ascii", "replace") for text in texts if len(text) >= _MIN_SECRET_CHARACTERS)


def merge_pass_headers(names: Iterable[str]) -> tuple[bytes, ...]:
    """Names in lower case and in one order, so that sources with the same names share a rule."""
    return tuple(sorted({name.lower().encode("ascii", "replace") for name in names}))


def find_pass_problem(name: str, *, has_accounts: bool) -> str | None:
    """Return what is wrong with a name in `pass_headers`; None if nothing is."""
    problem = pass_problem(name)
    if problem is None and has_accounts and any(matches(name.lower().encode(), own) for own in OWN_LIMITS):
        return (
            f"would also pass a provider's {OWN_LIMITS[0].decode()} or its like, which the gateway sets itself "
            "where accounts.required is true"
        )
    return problem
