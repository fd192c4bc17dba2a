"""Reads variables of the environment in a configuration: `${NAME}` and `${NAME:-default}`. (Contract §12.)

Other programs spell them otherwise, and such a spelling would be sent to a provider as the key. Each is found, and explained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}\"'\\\r\n]*))?\}")
# In a flow mapping YAML would read the brace of `${NAME}` as syntax, and more of a default. So private-use characters take
# their place while it is parsed. The length stays the same, and with it lines and columns.
_SHIELD: Final = {code: 0xE000 + code for code in range(0x20, 0x7F) if not chr(code).isalnum() and chr(code) != "_"}
_UNSHIELD: Final = {shielded: code for code, shielded in _SHIELD.items()}
_OPEN, _CLOSE = ("".join(chr(_SHIELD[ord(one)]) for one in signs) for signs in ("${", "}"))
_DEFAULT: Final = "".join(chr(_SHIELD[ord(one)]) for one in ":-")
_SHIELDED: Final = re.compile(f"{_OPEN}([A-Za-z_][A-Za-z0-9_]*)(?:{_DEFAULT}([^{_CLOSE}]*))?{_CLOSE}")

_NAME: Final = r"([A-Za-z_]\w*)"
_QUOTED: Final = rf"""["']{_NAME}["']"""
_FOREIGN: Final = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"\$\{{\{{\s*(?:secrets\.|env\.|vars\.)?{_NAME}\s*\}}\}}",  # GitHub Actions
        rf"""\{{\{{-?\s*(?:(?:env|getenv|lookup)[ (]+["'])?(?:[.\w]*\.)?{_NAME}["']?\)?[^{{}}]*\}}\}}""",  # Jinja, Helm
        rf"\{{(?:env[.:]|\$){_NAME}(?::[^{{}}]*)?\}}",  # Caddy
        rf"\$\{{(?:env[.:]|\s*){_NAME}[^{{}}]*\}}",  # OpenTelemetry, a shell's other operators, spaces
        rf"\$\({_NAME}\)",  # Kubernetes
        rf"os\.environ/{_NAME}",  # LiteLLM
        rf"os\.environ\[{_QUOTED}\]|os\.getenv\({_QUOTED}\)|os\.environ\.get\({_QUOTED}\)",
        rf"process\.env\.{_NAME}",
        r"(?i:\$env:)([A-Za-z_]\w*)",  # PowerShell
        r"%([A-Za-z_]\w{2,})%",  # Windows
        r"(?<![\w$])\$([A-Z][A-Z0-9_]{2,})\b",  # a shell
    )
)
_FOREIGN_AS_A_WHOLE: Final = (
    *_FOREIGN, re.compile(rf"\$+{_NAME}|env[:.]{_NAME}|%{_NAME}%", re.ASCII)
)  # fmt: skip
_SUSPECT: Final = re.compile(r"[$%{]|os\.environ|process\.env|os\.getenv|^env[:.]")
_MAX_LOOKED_AT: Final = 2000
"""Characters; longer texts are no names of variables, and some patterns take a time that grows with its square."""
_BARE_NAME: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:KEY|TOKEN|SECRET)", re.ASCII)
_PLACEHOLDER: Final = re.compile(
    r"<[^<>]+>|\[[^\[\]]+\]|(?:Bearer )?(?:sk-|gsk_|ky-)?(?:\.{2,}|…|x{3,}|X{3,}|\*{3,})|(?i:(?:sk-)?your[-_ ].*|"
    r"change[-_ ]?me|replace[-_ ]?me|insert[-_ ].*|todo|.*(?:your|the)[-_ ]api[-_ ]?key.*|.*-here)"
)


class Substituted(NamedTuple):
    """A text with its variables replaced; the values of those that are set; and the first that is not, or None."""

    text: str
    values: dict[str, str]
    missing: str | None


def shielded(text: str) -> str:
    """The text of a file in which a parser of YAML takes no part of a variable for syntax. Lines and columns are the same."""
    return _VARIABLE.sub(lambda match: match[0].translate(_SHIELD), text) if "${" in text else text


def unshielded(text: str) -> str:
    """A part of such a text as it is written."""
    return _SHIELDED.sub(lambda match: match[0].translate(_UNSHIELD), text)


def has_variable(text: str) -> bool:
    """True if this part of a shielded text names a variable."""
    return _OPEN in text and _SHIELDED.search(text) is not None


def substitute(text: str, environment: Mapping[str, str]) -> Substituted:
    """Replace the variables of a shielded text. An empty one is as if it were not set."""
    values: dict[str, str] = {}
    missing: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if value := environment.get(name):
            values[name] = value
            return value
        if default is None:
            missing.append(name)
            return ""
        return default.translate(_UNSHIELD)

    replaced = _SHIELDED.sub(value_of, text)
    return Substituted(replaced, values, missing[0] if missing else None)


def find_foreign(text: str, *, as_a_whole: bool = False) -> str | None:
    """Explain a variable in another program's spelling; None if there is none. `as_a_whole`: a part of the text may look so."""
    text = text[:_MAX_LOOKED_AT]
    if not _SUSPECT.search(text):
        return None
    match = next((match for one in _FOREIGN_AS_A_WHOLE if (match := one.fullmatch(text))), None)
    if match is None and not as_a_whole:
        match = next((match for one in _FOREIGN if (match := one.search(text))), None)
    if match is not None:
        name = next(group for group in match.groups() if group)
        return f"{match[0]} is no variable here, but a text; write ${{{name}}}, or ${{{name}:-default}}"
    if "${" in text and not as_a_whole:
        return "`${` begins a variable: write ${NAME}, or ${NAME:-default}, whose default has no quotes, braces and backslashes"
    return None


def find_key_trouble(text: str) -> str | None:
    """Explain a text that stands where a credential belongs, and is none; None if it may be one."""
    if _BARE_NAME.fullmatch(text):
        return f"{text} would be sent as it stands, and is the name of a variable; write ${{{text}}}"
    return None


def is_placeholder(text: str) -> bool:
    """True if a credential looks like the word that an example has in its place."""
    return len(text) <= _MAX_LOOKED_AT and _PLACEHOLDER.fullmatch(text) is not None
