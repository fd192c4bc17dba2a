"""Reads the corpus of raw requests: bytes, the verdict that they must get, and the rule that says so.

`requests/*.yaml` has the entries. An entry with `each` stands for as many requests as it has values. In the bytes

- `{each}` is the value, `{path}` the path of an endpoint with a tag by which the provider's record is matched,
- `{post}` the first line and the Host of a usual request, `{json}` its body, of 13 bytes,
- `{smuggled}` a whole request that must never arrive, `{smuggled-text}` its first line,
- `{9*text}` the text so many times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

DIRECTORY = Path(__file__).parent / "requests"
RELAYED, CONTROL = "/v1/chat/completions", "/v1/models"
JSON = '{"model":"m"}'
DELIVERED = '{"model":"real-0"}'
SMUGGLED_LINE = f"POST {RELAYED}?smuggled HTTP/1.1"
_SMUGGLED = f"{SMUGGLED_LINE}\r\nHost: gateway\r\nContent-Length: {len(JSON)}\r\n\r\n{JSON}"
_POST = "POST {path} HTTP/1.1\r\nHost: gateway\r\n"
_REPEATED = re.compile(r"\{([0-9]+)\*(.*?)\}", re.DOTALL)
_POST_TO_THE_PATH = re.compile(r"POST (?=[^ ]*\{path\})")
_REFUSALS = {400, 408, 413, 414, 415, 417, 431}


class Entry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An entry of a file.

    - `answers`: the statuses of the answers, in order; none if the connection is closed silently. `control` and `pipelined` are
      those where the control plane is asked, and behind a good request, if they differ.
    - `closes`: True if the connection is closed then. Without it, it is closed after a refusal.
    - `received`: the bodies that the provider gets; without it, one of the usual ones for each 200.
    - `absent`: fields that the provider doesn't get.
    - `half_close`: the caller ends its sending half behind the bytes. `bodiless`: the answers have no bodies.
    """

    name: str
    rfc: str
    bytes: str
    answers: list[int]
    control: list[int] | None = None
    pipelined: list[int] | None = None
    closes: bool | None = None
    received: list[str] | None = None
    absent: frozenset[str] = frozenset()
    half_close: bool = False
    bodiless: bool = False
    each: dict[str, str] = {}


class Case(NamedTuple):
    """One request, or several on one connection."""

    name: str
    text: str
    entry: Entry

    def wire(self, tag: str, *, control: bool = False) -> bytes:
        """The bytes for a connection, to a relayed endpoint or to the control plane."""
        text = self.text
        if control:
            text = _POST_TO_THE_PATH.sub("GET ", text.replace("{post}", _POST))
        path = f"{CONTROL if control else RELAYED}?c={tag}"
        return _filled(text, path).encode("latin-1")

    def answers(self, *, control: bool = False, pipelined: bool = False) -> list[int]:
        """The statuses that it must get."""
        entry = self.entry
        if pipelined and entry.pipelined is not None:
            return entry.pipelined
        return entry.control if control and entry.control is not None else entry.answers

    def closes(self, answers: list[int]) -> bool:
        """True if the connection must be closed after these answers."""
        closes = self.entry.closes
        return (not answers or answers[-1] in _REFUSALS) if closes is None else closes

    def received(self, answers: list[int]) -> list[bytes]:
        """The bodies that the provider must get of a connection to a relayed endpoint with these answers."""
        given = self.entry.received
        bodies = [DELIVERED] * answers.count(200) if given is None or answers != self.entry.answers else given
        return [_filled(body, RELAYED).encode("latin-1") for body in bodies]


def good(tag: str) -> bytes:
    """A usual request to a relayed endpoint."""
    return _filled(f"{_POST}Content-Length: {len(JSON)}\r\n\r\n{JSON}", f"{RELAYED}?c={tag}").encode()


def _filled(text: str, path: str) -> str:
    text = text.replace("{post}", _POST).replace("{smuggled-text}", SMUGGLED_LINE).replace("{smuggled}", _SMUGGLED)
    return text.replace("{json}", JSON).replace("{path}", path)


def _cases() -> Iterator[Case]:
    for file in sorted(DIRECTORY.glob("*.yaml")):
        for entry in msgspec.convert(yaml.load(file.read_bytes(), yaml.CBaseLoader), list[Entry], strict=False):
            for name, value in (entry.each or {"": ""}).items():
                text = entry.bytes.replace("{each}", value)
                text = _REPEATED.sub(lambda match: match[2] * int(match[1]), text)
                yield Case(f"{entry.name}/{name}" if name else entry.name, text, entry)


CASES = [*_cases()]
