"""Finds the keys of a provider: in the configuration, in a file, or in what a command prints. (Contract §12.)

A key that can't be had switches its provider off, and the reason says where it was looked for. No reason quotes a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from kyma_proxy.loading import document as doc
from kyma_proxy.loading.outside_values import Command, OutsideValues, Unavailable

FIELD_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_WAYS: Final = ("api_key", "api_keys", "api_key_file", "api_key_command")
_MIN_TERM_S: Final = 1.0
Report = Callable[[str, str], None]


class Keys(NamedTuple):
    """The keys of a provider; `off` is the reason if it should have one and there is none. Without either it needs none."""

    texts: tuple[str, ...] = ()
    off: str | None = None
    warnings: tuple[str, ...] = ()


def command_of(entry: doc.Provider) -> Command | None:
    """The command that prints a provider's key, if it has one."""
    if entry.api_key_command is None or not entry.api_key_timeout:
        return None
    if not all(isinstance(argument, str) for argument in entry.api_key_command):  # one has a problem of its own
        return None
    return Command(entry.api_key_command, entry.api_key_timeout, entry.api_key_refresh)


def find_keys(entry: doc.Provider, path: str, outside: OutsideValues, report: Report) -> Keys:
    """The keys of a provider. What is wrong with how they are written is reported."""
    given = [way for way in _WAYS if getattr(entry, way) is not None]
    if len(given) > 1:
        report(f"{path}.{given[1]}", f"the key is also given by {given[0]}; leave one of the two out")
    if entry.api_key_command is not None and entry.api_key_refresh < _MIN_TERM_S:
        report(f"{path}.api_key_refresh", "must be 1s or more")
    if entry.api_key_command is not None and not entry.api_key_timeout:
        report(f"{path}.api_key_timeout", "must be more than 0, as the command must end")
    if entry.api_key_file is not None:
        return _from_outside(lambda: outside.text_of(entry.api_key_file or ""), f"the file {entry.api_key_file}")
    if entry.api_key_command is not None:
        command = command_of(entry)
        return Keys() if command is None else _from_outside(lambda: outside.output_of(command), "its api_key_command")
    if entry.api_keys is not None:
        return _several(entry, path, report)
    if entry.api_key is None:
        return Keys()
    if entry.api_key.missing:
        return Keys(off=f"the environment variable {entry.api_key.missing} is not set")
    _check(entry.api_key.reveal(), f"{path}.api_key", report)
    return Keys((entry.api_key.reveal(),))


def _several(entry: doc.Provider, path: str, report: Report) -> Keys:
    """The keys of `api_keys`; one whose variable is not set is left out."""
    texts: list[str] = []
    missing: list[str] = []
    for at, key in enumerate(entry.api_keys or ()):
        if key.missing:
            missing.append(key.missing)
            continue
        _check(key.reveal(), f"{path}.api_keys[{at}]", report)
        if key.reveal() in texts:
            report(f"{path}.api_keys[{at}]", "is the same key as one before it")
        texts.append(key.reveal())
    if missing and not texts:
        return Keys(off=f"the environment variables {', '.join(missing)} are not set")
    return Keys(tuple(texts), None, tuple(f"is without one of its keys: {name} is not set" for name in missing))


def _check(key: str, path: str, report: Report) -> None:
    if not key:
        report(path, "is empty; leave the line out if no key is needed, or write ${NAME}")
    elif not FIELD_VALUE.fullmatch(key):
        report(path, "has characters that no header can carry; is there a line break in it?")


def _from_outside(read: Callable[[], str], whose: str) -> Keys:
    try:
        key = read().strip()
    except Unavailable as error:
        return Keys(off=f"{whose} {error}")
    if not key:
        return Keys(off=f"{whose} has no key: it is empty" if whose.startswith("the file") else f"{whose} printed nothing")
    if not FIELD_VALUE.fullmatch(key):
        return Keys(off=f"{whose} gives no key: one line of printable ASCII is expected")
    return Keys((key,))
