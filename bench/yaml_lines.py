"""Reads YAML strictly into typed values, and names the line of each mistake."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, get_args

import msgspec
import yaml

_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_AT: Final = re.compile(r" - at `\$(?P<path>.*?)`$")
_STEP: Final = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>.*?)`")
_TYPE: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_TYPES: Final = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "array": "a list",
    "object": "a mapping", "null": "nothing",
}  # fmt: skip
_T = TypeVar("_T")
Step = str | int


class Problem(NamedTuple):
    """A mistake, and the line of the file on which it is."""

    line: int
    text: str


class FileError(ValueError):
    """A file that can't be used, with all mistakes that were found: one line each, which begins with the file and the line."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{path}:{problem.line}: {problem.text}" for problem in sorted(problems)))


class YamlFile:
    """The content of a file, and the problems that were found in it."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises FileError if it is no YAML or has a key twice, and OSError."""
        self.path = path
        self.problems: list[Problem] = []
        try:
            text = path.read_text(encoding="utf-8")
            self._root = yaml.compose(text, Loader=_Loader)
            self.data = yaml.load(text, Loader=_Loader)
        except UnicodeDecodeError:
            raise FileError(path, [Problem(1, "this is not UTF-8 text")]) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            what = getattr(error, "problem", None) or "it can't be read"
            line = min(mark.line + 1, len(text.splitlines())) if mark else 1  # the end of a file is after its last line
            raise FileError(path, [Problem(line, f"this is not YAML: {what}")]) from None
        self.problems += _doubles(self._root)

    def add(self, text: str, *path: Step) -> None:
        """Add a problem at the place that these keys and indices lead to."""
        self.problems.append(Problem(self._line(path), text))

    def convert(self, value: Any, kind: type[_T], *path: Step) -> _T | None:
        """The value, which stands at the path, as this type; None, and a problem, if it is none."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            found = _AT.search(str(error))
            inner = [_step(match) for match in _STEP.finditer(found["path"])] if found else []
            text = str(error)[: found.start()] if found else str(error)
            unknown = _UNKNOWN.search(text)
            if unknown is not None:
                inner.append(unknown["key"])
                text = _unknown_key(unknown["key"], _type_at(kind, inner[:-1]))
            elif text.startswith("Invalid enum value"):
                value = text.rpartition("value ")[2].strip("'`")
                text = f"`{value}` is none of its values{did_you_mean(value, map(str, get_args(_type_at(kind, inner))))}"
            self.add(_in_words(text), *path, *inner)
            return None

    def check(self) -> None:
        """Raises FileError if there are problems."""
        if self.problems:
            raise FileError(self.path, list(dict.fromkeys(self.problems)))

    def _line(self, path: Sequence[Step]) -> int:
        """The line of the last step that is in the file."""
        node, line = self._root, 1
        for step in path:
            if isinstance(node, yaml.MappingNode):
                entry = next(((key, value) for key, value in node.value if key.value == str(step)), None)
                if entry is None:
                    break
                line, node = entry[0].start_mark.line + 1, entry[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line


def _step(match: re.Match[str]) -> Step:
    return int(match["index"]) if match["index"] else match["key"] or "..."


def _type_at(kind: Any, path: Sequence[Step]) -> Any:
    """The type of what the path leads to, or None if that can't be told."""
    for step in path:
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return None
        kind = next((field.type for field in msgspec.structs.fields(kind) if field.encode_name == step), None)
    return kind


def _unknown_key(key: str, kind: Any) -> str:
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    known = [field.encode_name for field in msgspec.structs.fields(kind)] if is_struct else []
    return f"there is no key `{key}` here{did_you_mean(key, known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or else all of them."""
    names = list(known)
    near = difflib.get_close_matches(word, names, 1)
    return f"; did you mean `{near[0]}`?" if near else f"; there are: {', '.join(names)}" if names else ""


def _in_words(text: str) -> str:
    """The words of msgspec, without the names of Python's types."""
    text = _TYPE.sub(lambda match: _type_in_words(match[1]) or match[0], text)
    return f"{text[:1].lower()}{text[1:]}"


def _type_in_words(names: str) -> str | None:
    """The words for a type, such as `float | null`; None if it is none."""
    words = [_TYPES.get(name) for name in names.split(" | ")]
    return None if None in words else " or ".join(word for word in words if word is not None)


def _doubles(node: Any) -> Iterator[Problem]:
    """The keys that a mapping has twice, of which YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            if key.value in seen:
                yield Problem(key.start_mark.line + 1, f"the key `{key.value}` is here twice")
            seen.add(key.value)
            yield from _doubles(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _doubles(value)
