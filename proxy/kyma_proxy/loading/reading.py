"""Parses YAML text into a `Document`, and finds every mistake of shape in one pass.

It walks the YAML as nodes, because only nodes know their lines. msgspec checks each scalar against its annotation. `${NAME}` is
replaced inside scalars only, so that a value can't become syntax.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
import yaml

from kyma_proxy.config import units
from kyma_proxy.config.problems import Problem
from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.dialect.registry import parse_dialect
from kyma_proxy.loading.document import Document

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# In a flow mapping YAML would read the brace of `${NAME}` as syntax. So three private-use characters replace `$`, `{` and `}`
# while it is parsed. The length stays the same, and with it lines and columns.
_SHIELDED: Final = re.compile("\ue000\ue001([A-Za-z_][A-Za-z0-9_]*)\ue002")
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{0,99})?(?:[eE][+-]?[0-9]{1,3})?|-?\.[0-9]{1,99}")
_OTHER_NUMBER: Final = re.compile(r"[+-]?0[oO][0-7_]+|[+-](?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NO_TEXT: Final = "this is no text: it has a NUL, half of a surrogate pair, or bytes that are not UTF-8"
_WRITE_DECIMAL: Final = "write a number in decimal digits, such as 10 or 0.5, without signs or separators"
_MAX_CHARACTERS: Final = 8 * 2**20
_MAX_NODES: Final = 500_000  # aliases let a short file have very many
_PARSERS: Final = {
    "delay": units.parse_delay, "dialect": parse_dialect,
    "duration": units.parse_duration, "size": units.parse_size, "usd": units.parse_usd,
}  # fmt: skip

Lines = dict[str, int]
"""The line of every path of the document, such as `models[2].pool[0].provider`."""


def read_document(
    text: str, environment: Mapping[str, str], substitutions: Substitutions | None = None
) -> tuple[Document | None, Lines, list[Problem]]:
    """The document in `text`, the line of each path, and every problem of shape. Adds each variable to the substitutions.

    A value with a problem is left out of the document, so that the rest can still be checked. In a list UNSET takes its place,
    so that the others keep their index. If the root is not usable, the document is None.
    """
    if len(text) > _MAX_CHARACTERS:
        return None, {}, [Problem("", 0, f"the file is larger than {_MAX_CHARACTERS // 2**20} MiB")]
    try:
        root = yaml.compose(_VARIABLE.sub("\ue000\ue001\\1\ue002", text), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return None, {}, [Problem("", mark.line + 1 if mark else 0, f"this is not YAML: {error.problem}")]
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # a ValueError for the escape of a character beyond Unicode
        return None, {}, [Problem("", 0, f"this is not YAML: {str(error).partition(chr(10))[0]}")]
    if root is None:
        return None, {}, [Problem("", 0, "the file is empty; config/sidecar.yaml is a good start")]
    reader = _Reader(environment, Substitutions({}, {}) if substitutions is None else substitutions)
    try:
        document = reader.read(root, Document, "")
    except _TooLarge:
        return None, {}, [Problem("", 0, f"the file has more than {_MAX_NODES} values once its aliases are followed")]
    return (document if isinstance(document, Document) else None), reader.lines, reader.problems


class _TooLarge(Exception):
    """The document has more nodes than any configuration needs."""


class _Reader:
    """Walks over one document, and collects lines and problems."""

    def __init__(self, environment: Mapping[str, str], substitutions: Substitutions) -> None:
        self.environment = environment
        self.substitutions = substitutions
        self.lines: Lines = {}
        self.problems: list[Problem] = []
        self._nodes = 0
        self._constructor = yaml.SafeLoader("")

    def read(self, node: yaml.Node, annotation: Any, path: str) -> Any:
        """The value of `node` as `annotation`; or UNSET, after it has added a problem to the list."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _TooLarge
        self.lines[path] = node.start_mark.line + 1
        kind, meta = _without_meta(annotation)
        if kind is Any:
            return self._json(node, path)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(node, kind, path)
        if typing.get_origin(kind) is tuple:
            return self._sequence(node, typing.get_args(kind)[0], meta, path)
        if typing.get_origin(kind) is dict:
            return self._mapping(node, typing.get_args(kind)[1], path)
        if typing.get_origin(kind) in (types.UnionType, typing.Union):
            members = [member for member in typing.get_args(kind) if member is not msgspec.UnsetType]
            if type(None) in members and _is_null(node):
                return None
            (inner,) = (member for member in members if member is not type(None))
            return self.read(node, inner, path)
        return self._leaf(node, annotation, kind, meta, path)

    def _struct(self, node: yaml.Node, kind: type[msgspec.Struct], path: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self._problem(path, f"a mapping is expected here, with {_listed(kind.__struct_fields__)}")
        hints = _hints(kind)
        values: dict[str, Any] = {}
        named: set[str] = set()
        for key, child in self._members(node, path):
            if key in hints:
                value = self.read(child, hints[key], _member(path, key))
                named.add(key)
                if value is not msgspec.UNSET:
                    values[key] = value
                continue
            self.lines[_member(path, key)] = child.start_mark.line + 1
            close = difflib.get_close_matches(key, hints, n=1)
            named.update(close)  # a misspelt key is one problem, and not also a missing key
            hint = f"did you mean {close[0]}?" if close else f"known here: {_listed(hints)}"
            self._problem(_member(path, key), f"unknown key; {hint}")
        required = [field.name for field in msgspec.structs.fields(kind) if field.required]
        for name in required:
            if name not in named:
                self._problem(path, f"{name} is missing")
        return kind(**values) if all(name in values for name in required) else msgspec.UNSET

    def _sequence(self, node: yaml.Node, item: Any, meta: msgspec.Meta | None, path: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self._problem(path, "a list is expected here")
        if meta is not None and meta.min_length and len(node.value) < meta.min_length:
            return self._problem(path, "the list must not be empty")
        return tuple(self.read(child, item, f"{path}[{index}]") for index, child in enumerate(node.value))

    def _mapping(self, node: yaml.Node, value: Any, path: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self._problem(path, "a mapping is expected here")
        members = {key: self.read(child, value, _member(path, key)) for key, child in self._members(node, path)}
        return {key: member for key, member in members.items() if member is not msgspec.UNSET}

    def _members(self, node: yaml.MappingNode, path: str) -> Iterable[tuple[str, yaml.Node]]:
        seen: set[str] = set()
        for key_node, child in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or _SHIELDED.search(key):
                self._problem(path, "a key must be a plain word, without variables", line=key_node.start_mark.line + 1)
            elif not _is_text(key):
                self._problem(path, f"in a key: {_NO_TEXT}", line=key_node.start_mark.line + 1)
            elif key in seen:
                self._problem(_member(path, key), "is there twice", line=key_node.start_mark.line + 1)
            else:
                seen.add(key)
                yield key, child

    def _leaf(self, node: yaml.Node, annotation: Any, kind: Any, meta: msgspec.Meta | None, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self._problem(path, f"{_described(kind)} is expected here, not a {_shape(node)}")
        text, missing = self._substitute(node.value, path)
        if kind is units.Secret:
            return units.Secret(text, missing)
        if missing is not None:
            return self._problem(path, f"the environment variable {missing} is not set")
        if not _is_text(text):
            return self._problem(path, _NO_TEXT)
        unit = (meta.extra or {}).get("unit") if meta is not None else None
        try:
            value = text if kind is str and not _is_null(node) else self._scalar(node, text)
            return msgspec.convert(_PARSERS[unit](value) if unit else value, annotation)
        except (msgspec.ValidationError, ValueError) as error:
            if typing.get_origin(kind) is typing.Literal and text == node.value:
                return self._problem(path, f"{text!r} is not known here; use one of {_listed(map(str, typing.get_args(kind)))}")
            # A value from the environment may be a secret in the wrong place, so it is not repeated.
            return self._problem(path, str(error) if text == node.value else "the value of the variable does not fit here")

    def _json(self, node: yaml.Node, path: str) -> Any:
        """A value of any shape, for a member whose meaning only a provider knows."""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, Any, path)
        if isinstance(node, yaml.SequenceNode):
            values = self._sequence(node, Any, None, path)
            return [value for value in values if value is not msgspec.UNSET]
        assert isinstance(node, yaml.ScalarNode)  # noqa: S101  (there is no fourth kind)
        text, missing = self._substitute(node.value, path)
        if missing is not None:
            return self._problem(path, f"the environment variable {missing} is not set")
        if not _is_text(text):
            return self._problem(path, _NO_TEXT)
        try:
            return self._scalar(node, text)
        except ValueError as error:
            return self._problem(path, str(error))

    def _substitute(self, text: str, path: str) -> tuple[str, str | None]:
        """The scalar with its variables replaced, and the name of the first variable that is not set or is empty."""
        found = _SHIELDED.findall(text)
        if not found:
            return text, None
        names = [name for name in found if not self.environment.get(name)]
        self.substitutions.values.update({name: self.environment[name] for name in found if name not in names})
        self.substitutions.written[path] = _SHIELDED.sub(r"${\1}", text)
        return _SHIELDED.sub(lambda match: self.environment.get(match[1], ""), text), next(iter(names), None)

    def _scalar(self, node: yaml.ScalarNode, text: str) -> Any:
        """The value of a plain scalar in YAML: a number, a boolean, null or text. Dates and the like stay text.

        Numbers are decimal. Raises ValueError for what is a number to YAML and another, or none, to most readers: `1_0`,
        `0o17`, `017`, `1:30`, `+1`, `.inf`.
        """
        if node.style is not None:
            return text
        if _DECIMAL.fullmatch(text):
            return int(text) if text.lstrip("-").isdigit() else float(text)
        if _OTHER_NUMBER.fullmatch(text):
            raise ValueError(_WRITE_DECIMAL)
        tag = self._constructor.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        try:
            value = self._constructor.construct_object(yaml.ScalarNode(tag, text))
        except (yaml.YAMLError, ValueError, IndexError):
            return text
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError(_WRITE_DECIMAL)
        return value if value is None or isinstance(value, bool) else text

    def _problem(self, path: str, message: str, *, line: int | None = None) -> msgspec.UnsetType:
        self.problems.append(Problem(path, self.lines.get(path, 0) if line is None else line, message))
        return msgspec.UNSET


@functools.cache
def _hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _without_meta(annotation: Any) -> tuple[Any, msgspec.Meta | None]:
    if typing.get_origin(annotation) is not Annotated:
        return annotation, None
    kind, *metas = typing.get_args(annotation)
    return kind, next((meta for meta in metas if isinstance(meta, msgspec.Meta)), None)


def _is_text(text: str) -> bool:
    """True if every file, header and JSON document could hold this."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.tag == "tag:yaml.org,2002:null"


def _shape(node: yaml.Node) -> str:
    return "list" if isinstance(node, yaml.SequenceNode) else "mapping"


def _member(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _described(kind: Any) -> str:
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a value")
