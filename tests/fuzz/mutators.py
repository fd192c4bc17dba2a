"""Mutates lines, JSON documents and event streams so that they stay what they are, but for one or a few places.

A JSON mutator learns its grammar from examples: each member's name, with the values that were seen under it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from random import Random
from typing import Any

from tests.fuzz.target import Mutator

_LINE_ENDS = re.compile(rb"(\r\n|\n|\r)")
_NUMBERS = (0, 1, -1, 2, 0.5, -0.0, 1e308, 2**31, 2**53, 2**63, 2**64, -(2**64), 10**400)
_TEXTS = (
    "", " ", "\x00", "\r\n", "\n\n", "é", "\U0001f600", "\ud83d", "\udc00", '"', "\\", "null", "{}", "[]", '{"a":1}', "data:",
    "data:image/png;base64,iVBORw0KGgo=", "text", "\u2028", "a" * 300,
)  # fmt: skip
_PLAIN: tuple[Any, ...] = (None, True, False, [], {}, "", 0)
_MAX_CHANGES = 4


def line_mutator(known: Iterable[bytes]) -> Mutator:
    """A mutator of text whose lines matter: repeats, drops, swaps and cuts them, and puts in one of those that are known."""
    lines_known = [*known]

    def mutated(data: bytes, chance: Random) -> bytes:
        lines = _LINE_ENDS.split(data)
        for _ in range(chance.randint(1, _MAX_CHANGES)):
            at = chance.randrange(len(lines))
            choice = chance.randrange(7)
            if choice == 0:
                lines[at:at] = [chance.choice(lines_known), chance.choice((b"\r\n", b"\r\n", b"\n", b"\r"))]
            elif choice == 1:
                lines[at:at] = lines[at : at + 2]
            elif choice == 2 and len(lines) > 1:
                del lines[at : at + 2]
            elif choice == 3:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            elif choice == 4:
                lines[at] = lines[at][: chance.randint(0, len(lines[at]))] + chance.choice(lines_known)
            elif choice == 5:
                lines[at] = re.sub(rb"\d+", lambda _: b"%d" % chance.choice((0, 1, 2, 5, 9, 13, 64, 255, 2**31)), lines[at])
            else:
                lines[at] = chance.choice(lines_known)
            if not lines:
                lines = [b""]
        return b"".join(lines)

    return mutated


class JsonGrammar:
    """The names of members and the values that examples have under them."""

    def __init__(self, examples: Iterable[Any]) -> None:
        self._values: dict[str, list[Any]] = {}
        for example in examples:
            self._learn(example)
        self._names = sorted(self._values)

    def _learn(self, value: Any) -> None:
        if isinstance(value, dict):
            for name, member in value.items():
                seen = self._values.setdefault(name, [])
                if member not in seen:
                    seen.append(member)
        for child in _children(value):
            self._learn(child)

    def change(self, document: Any, chance: Random) -> Any:
        """The document with a few changes."""
        for _ in range(chance.randint(1, _MAX_CHANGES)):
            document = self._changed(document, chance)
        return document

    def _changed(self, value: Any, chance: Random) -> Any:
        """The value with one place in it changed: itself, or one below."""
        if isinstance(value, dict) and value and chance.random() < 0.8:
            name = chance.choice([*value])
            return self._changed_object(value, name, chance) if chance.random() < 0.4 else value | {
                name: self._changed(value[name], chance)
            }  # fmt: skip
        if isinstance(value, list) and value and chance.random() < 0.8:
            at = chance.randrange(len(value))
            if chance.random() < 0.3:
                return self._changed_list(value, at, chance)
            return [*value[:at], self._changed(value[at], chance), *value[at + 1 :]]
        return self._any(value, chance)

    def _changed_object(self, value: dict[str, Any], name: str, chance: Random) -> dict[str, Any]:
        choice = chance.randrange(4)
        if choice == 0:
            return {key: member for key, member in value.items() if key != name}
        if choice == 1:
            return {chance.choice(self._names) if key == name else key: member for key, member in value.items()}
        if choice == 2:
            return value | {name: chance.choice(self._values.get(name, _PLAIN))}
        other = chance.choice(self._names)
        return value | {other: chance.choice(self._values[other])}

    def _changed_list(self, value: list[Any], at: int, chance: Random) -> list[Any]:
        choice = chance.randrange(4)
        if choice == 0:
            return value[:at] + value[at + 1 :]
        if choice == 1:
            return [*value[: at + 1], *value[at:]]
        if choice == 2:
            return [*value, self._any(value[at], chance)]
        return [*value[at:], *value[:at]]

    def _any(self, value: Any, chance: Random) -> Any:
        choice = chance.randrange(6)
        if choice == 0:
            return chance.choice(_NUMBERS)
        if choice == 1:
            return chance.choice(_TEXTS)
        if choice == 2:
            return chance.choice(_PLAIN)
        if choice == 3:
            return chance.choice(self._values[chance.choice(self._names)])
        if choice == 4 and isinstance(value, str):
            at = chance.randint(0, len(value))
            return value[:at] + chance.choice(_TEXTS) + value[at:]
        return [value] if chance.random() < 0.5 else {chance.choice(self._names): value}


def json_mutator(grammar: JsonGrammar) -> Mutator:
    """A mutator of one JSON document. What can't be read is given back as it is."""

    def mutated(data: bytes, chance: Random) -> bytes:
        try:
            return written(grammar.change(json.loads(data), chance), chance)
        except (ValueError, RecursionError):
            return data

    return mutated


def stream_mutator(grammar: JsonGrammar) -> Mutator:
    """A mutator of an event stream: of the order of its events, of their framing, and of the documents in them."""

    def mutated(data: bytes, chance: Random) -> bytes:
        events = [event for event in re.split(rb"(?<=\n)\n|(?<=\r\n)\r\n|(?<=\r)\r", data) if event] or [b"data: {}\n"]
        for _ in range(chance.randint(1, _MAX_CHANGES)):
            at = chance.randrange(len(events))
            choice = chance.randrange(8)
            if choice == 0 and len(events) > 1:
                del events[at]
            elif choice == 1:
                events.insert(at, events[chance.randrange(len(events))])
            elif choice == 2:
                events.append(events.pop(at))
            elif choice == 3:
                events[at] = chance.choice((b": comment\n", b"event: error\n" + events[at], b"data\n", b"id: 1\nretry: 2\n"))
            else:
                events[at] = _changed_event(events[at], grammar, chance)
        end = chance.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r"))
        stream = b"".join(event + b"\n" for event in events)
        return stream if end == b"\n" else stream.replace(b"\r\n", b"\n").replace(b"\n", end)

    return mutated


def _changed_event(event: bytes, grammar: JsonGrammar, chance: Random) -> bytes:
    lines = event.splitlines()
    for at, line in enumerate(lines):
        if line.startswith(b"data:"):
            try:
                document = grammar.change(json.loads(line[5:]), chance)
                lines[at] = b"data: " + written(document, chance).replace(b"\n", b"\ndata: ")
            except (ValueError, RecursionError):
                lines[at] = line[: chance.randint(0, len(line))]
    return b"".join(line + b"\n" for line in lines)


def written(document: Any, chance: Random) -> bytes:
    """The document as JSON, in one of the ways in which libraries write it."""
    choice = chance.randrange(4)
    if choice == 0:
        return json.dumps(document).encode()
    if choice == 1:
        return json.dumps(document, indent=1).encode()
    return json.dumps(document, ensure_ascii=choice == 2, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
