"""Reads YAML text into a `Document`, and finds every mistake of shape in one pass.

It walks the YAML as nodes, because only nodes know their lines. `${NAME}` is replaced inside scalars only, so that a value
can't become syntax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.config import units
from kyma_proxy.config.problems import Problem
from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.loading import nodes
from kyma_proxy.loading.document import Document
from kyma_proxy.loading.scalars import OddNumber, explain_comma, is_boolean, is_null, plain_value
from kyma_proxy.loading.shapes import Anything, Leaf, Listed, Members, Shape, members_of
from kyma_proxy.loading.unknown_keys import explain_key, intended_key
from kyma_proxy.loading.variables import (
    find_foreign,
    find_key_trouble,
    has_variable,
    is_placeholder,
    shielded,
    substitute,
    unshielded,
)

_NO_TEXT: Final = "this is no text: it has a NUL, half of a surrogate pair, or bytes that are not UTF-8"
_EMPTY: Final = "the file is empty; config/sidecar.yaml is a good start"
_PURE: Final = "PyYAML is without libyaml here, so that a configuration takes ten times as long to read"
_TAGS: Final = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_TEXT_TAGS: Final = ("tag:yaml.org,2002:str", "!")
_TYPOGRAPHIC: Final = "“”„‘’«»"
_COMMAND: Final = ".api_key_command["
_PATHS: Final = frozenset(
    {"access_log", "api_key_file", "base_url", "ca_file", "certificate", "database", "key", "listen", "top_up"}
)

Lines = dict[str, int]
"""The line of every path of the document, such as `models[2].pool[0].provider`."""


class Read(NamedTuple):
    """A document that was read: the line of each path, all problems and warnings, and the names of unusable entries.

    A value with a problem is left out of the document, so that the rest can still be checked. In a list UNSET takes its place,
    so that the others keep their index. If the root is not usable, the document is None.
    """

    document: Document | None
    lines: Lines
    problems: list[Problem]
    warnings: list[Problem]
    unusable: frozenset[str]
    """The names and ids of entries that are not in the document for a problem of their own: they exist nevertheless."""


def read_document(text: str, environment: Mapping[str, str], substitutions: Substitutions | None = None) -> Read:
    """Read a document. Adds each variable to the substitutions."""
    try:
        root = nodes.parse(shielded(text))
    except nodes.Unparsable as error:
        return Read(None, {}, [error.problem], [], frozenset())
    if root is None or (isinstance(root, nodes.Scalar) and root.is_plain and is_null(root.text)):
        return Read(None, {}, [Problem("", 0, _EMPTY)], [], frozenset())
    reader = _Reader(environment, Substitutions({}, {}) if substitutions is None else substitutions)
    document = reader.read(root, Members(Document), "")
    return Read(
        document if isinstance(document, Document) else None, reader.lines, reader.problems, reader.warnings,
        frozenset(reader.unusable),
    )  # fmt: skip


class _Reader:
    """Walks over one document, and collects lines, problems and warnings."""

    def __init__(self, environment: Mapping[str, str], substitutions: Substitutions) -> None:
        self.environment = environment
        self.substitutions = substitutions
        self.lines: Lines = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = [] if nodes.HAS_LIBYAML else [Problem("", 0, _PURE)]
        self.unusable: set[str] = set()

    def read(self, node: nodes.Node, shape: Shape, path: str) -> Any:
        """The value of a node; or UNSET, after it has added a problem to the list."""
        self.lines[path] = node.line
        if node.tag is not None and node.tag not in _TAGS and node.tag != "!":
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            return self._problem(path, f"the tag {tag} is not known here; leave it out, and write ${{NAME}} for a variable")
        if isinstance(shape, Leaf):
            return self._leaf(node, shape, path)
        if isinstance(shape, Anything):
            return self._json(node, path)
        if isinstance(node, nodes.Scalar) and _is_null(node):
            if shape.is_nullable and node.text:
                return None
            name = path.rpartition(".")[2] or "it"
            off = ", or null to turn it off" if shape.is_nullable and isinstance(shape, Members) else ""
            return self._problem(path, f"{name} is empty; leave the line out, or write its members below it, indented{off}")
        if isinstance(shape, Members):
            return self._members(node, shape.kind, path)
        if isinstance(shape, Listed):
            return self._list(node, shape, path)
        return self._named(node, shape.value, path)

    # ---- mappings and lists

    def _members(self, node: nodes.Node, kind: type[msgspec.Struct], path: str) -> Any:
        fields = members_of(kind)
        if not isinstance(node, nodes.Mapping):
            message = f"{_no_mapping(node)}; known here: {', '.join(fields.shapes)}"
            return self._problem(path, message)
        values: dict[str, Any] = {}
        named: set[str] = set()
        for key, child in self._pairs(node, path):
            shape = fields.shapes.get(key)
            if shape is not None:
                value = self.read(child, shape, _member(path, key))
                named.add(key)
                if value is not msgspec.UNSET:
                    values[key] = value
                continue
            self.lines[_member(path, key)] = child.line
            intended = intended_key(key, fields.shapes)
            if intended is not None:
                named.add(intended)  # a misspelt key is one problem, and not also a missing key
            self._problem(_member(path, key), explain_key(key, kind, intended))
        for name in fields.required:
            if name not in named:
                self._problem(path, f"{name} is missing")
        if all(name in values for name in fields.required):
            return kind(**values)
        self._remember_name(node)
        return msgspec.UNSET

    def _remember_name(self, node: nodes.Mapping) -> None:
        for key, child in node.members:
            if isinstance(key, nodes.Scalar) and key.text in ("name", "id") and isinstance(child, nodes.Scalar):
                self.unusable.add(substitute(child.text, self.environment).text)

    def _list(self, node: nodes.Node, shape: Listed, path: str) -> Any:
        if not isinstance(node, nodes.Sequence):
            return self._problem(path, _no_list(node, shape.item))
        if shape.is_required and not node.items:
            return self._problem(path, "the list must not be empty")
        return tuple([self.read(child, shape.item, f"{path}[{index}]") for index, child in enumerate(node.items)])

    def _named(self, node: nodes.Node, value: Shape, path: str) -> Any:
        if not isinstance(node, nodes.Mapping):
            return self._problem(path, _no_mapping(node))
        members = {key: self.read(child, value, _member(path, key)) for key, child in self._pairs(node, path)}
        return {key: member for key, member in members.items() if member is not msgspec.UNSET}

    def _pairs(self, node: nodes.Mapping, path: str) -> Iterable[tuple[str, nodes.Node]]:
        seen: dict[str, int] = {}
        for key_node, child in node.members:
            key = key_node.text if isinstance(key_node, nodes.Scalar) else None
            if key is None or has_variable(key):
                self._problem(path, _odd_key(key_node), line=key_node.line)
            elif not _is_text(key):
                self._problem(path, f"in a key: {_NO_TEXT}", line=key_node.line)
            elif key == "<<" and isinstance(key_node, nodes.Scalar) and key_node.is_plain:
                self._problem(path, "merge keys (<<) are not read here; write the members out", line=key_node.line)
            elif key in seen:
                self._problem(_member(path, key), f"is there twice; the first is in line {seen[key]}", line=key_node.line)
            else:
                seen[key] = key_node.line
                if is_boolean(key) and isinstance(key_node, nodes.Scalar) and key_node.is_plain:
                    self.lines[_member(path, key)] = key_node.line
                    self._warn(_member(path, key), f'{key} is a boolean to other readers of YAML; put it in quotes: "{key}"')
                yield key, child

    # ---- values

    def _leaf(self, node: nodes.Node, shape: Leaf, path: str) -> Any:
        if not isinstance(node, nodes.Scalar):
            braced = _braced(node)
            foreign = None if braced is None else find_foreign(braced)
            return self._problem(path, foreign or f"{_leaf_words(shape)} is expected here, not {_collection(node)}")
        text, missing = self._substitute(node.text, path)
        is_written = text == node.text
        if shape.is_nullable and _is_null(node):
            if not node.text:
                self._warn(path, _nothing_written(shape, path))
            return None
        foreign = find_foreign(node.text, as_a_whole=_COMMAND in path)
        if foreign is not None:
            return self._problem(path, foreign)
        if shape.kind is units.Secret:
            return self._secret(node, text, missing, path, is_written=is_written)
        if missing is not None:
            return self._problem(path, f"the environment variable {missing} is not set")
        if not _is_text(text):
            return self._problem(path, _NO_TEXT)
        if shape.kind is str and is_written and self._is_trap(node, shape, path):
            return msgspec.UNSET
        try:
            return shape.convert(text if shape.kind is str and not _is_null(node) else _value(node, text))
        except ValueError as error:
            # A value from the environment may be a secret in the wrong place, so it is not repeated.
            if not is_written:
                return self._problem(path, "the value of the variable does not fit here")
            if not text and node.is_plain:
                return self._problem(path, f"{_leaf_words(shape)} is expected here, and nothing is written after the colon")
            return self._problem(path, explain_comma(text) or str(error))

    def _secret(self, node: nodes.Scalar, text: str, missing: str | None, path: str, *, is_written: bool) -> Any:
        if is_written and _is_null(node):
            return self._problem(path, "a text is expected here, such as ${NAME}, and there is nothing; or leave the line out")
        if is_written and node.is_plain and is_boolean(text):
            return self._problem(path, f"{text} is a boolean in YAML, and would be sent as it stands; leave the line out")
        if is_written:
            trouble = find_key_trouble(text) or _typographic(text)
            if trouble is not None:
                return self._problem(path, trouble)
            if is_placeholder(text):
                self._warn(path, "this looks like the word that an example has in the place of a key; write ${NAME}")
        return units.Secret(text, missing)

    def _is_trap(self, node: nodes.Scalar, shape: Leaf, path: str) -> bool:
        """True after a text was refused that is another value to other readers of YAML, or has quotes that are none."""
        text = node.text
        quotes = _typographic(text)
        if quotes is not None:
            self._problem(path, quotes)
            return True
        if node.is_plain and is_boolean(text) and not shape.known():
            name = path.rpartition(".")[2]
            if shape.pattern is None and name in _PATHS:
                hint = "; null turns the log off" if name == "access_log" else ""
                self._problem(path, f'{text} is a boolean in YAML, and no path or address{hint}; a name needs quotes: "{text}"')
                return True
            self._warn(path, f'{text} is a boolean to other readers of YAML; put it in quotes: "{text}"')
        return False

    def _json(self, node: nodes.Node, path: str) -> Any:
        """A value of any shape, for a member whose meaning only a provider knows."""
        if isinstance(node, nodes.Mapping):
            return self._named(node, Anything(), path)
        if isinstance(node, nodes.Sequence):
            values = self._list(node, Listed(Anything()), path)
            return [value for value in values if value is not msgspec.UNSET]
        text, missing = self._substitute(node.text, path)
        if missing is not None:
            return self._problem(path, f"the environment variable {missing} is not set")
        if not _is_text(text):
            return self._problem(path, _NO_TEXT)
        foreign = find_foreign(node.text, as_a_whole=True)
        if foreign is not None:
            return self._problem(path, foreign)
        try:
            return _value(node, text)
        except OddNumber as error:
            return self._problem(path, str(error) if text == node.text else "the value of the variable does not fit here")

    def _substitute(self, text: str, path: str) -> tuple[str, str | None]:
        """The scalar with its variables replaced, and the name of the first variable that is not set or is empty."""
        if not has_variable(text):
            return text, None
        substituted = substitute(text, self.environment)
        self.substitutions.values.update(substituted.values)
        self.substitutions.written[path] = unshielded(text)
        return substituted.text, substituted.missing

    def _problem(self, path: str, message: str, *, line: int | None = None) -> msgspec.UnsetType:
        self.problems.append(Problem(path, self.lines.get(path, 0) if line is None else line, message))
        return msgspec.UNSET

    def _warn(self, path: str, message: str) -> None:
        self.warnings.append(Problem(path, self.lines.get(path, 0), message))


def _value(node: nodes.Scalar, text: str) -> object:
    """The value of a scalar. Raises OddNumber."""
    if not node.is_plain or node.tag in _TEXT_TAGS:
        return text
    return plain_value(text)


def _is_null(node: nodes.Scalar) -> bool:
    return node.is_plain and is_null(node.text) and node.tag not in _TEXT_TAGS


def _nothing_written(shape: Leaf, path: str) -> str:
    if shape.kind is units.Secret:
        return "nothing is written after the colon, so nothing is sent; write ${NAME}, or leave the line out"
    what = ", which turns the log off" if path == "access_log" else ""
    return f"nothing is written after the colon, which is null{what}; write null if that is meant, or leave the line out"


def _is_text(text: str) -> bool:
    """True if every file, header and JSON document could hold this."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _typographic(text: str) -> str | None:
    if len(text) > 1 and text[0] in _TYPOGRAPHIC and text[-1] in _TYPOGRAPHIC:
        return f'{text[0]} and {text[-1]} are no quotes in YAML, but a part of the text; write " or leave them out'
    return None


def _no_mapping(node: nodes.Node) -> str:
    if isinstance(node, nodes.Sequence):
        return "a mapping is expected here, and no list: leave the dashes or brackets out"
    if isinstance(node, nodes.Scalar) and "=" in node.text:
        return "a mapping is expected here, which is written with colons: `key: value`, and not with ="
    if isinstance(node, nodes.Scalar) and node.is_plain and is_boolean(node.text):
        return "a mapping is expected here; null turns off what can be turned off"
    return "a mapping is expected here: lines of `key: value`, with a space after each colon"


def _no_list(node: nodes.Node, item: Shape) -> str:
    if isinstance(node, nodes.Mapping):
        keys = [key.text for key, _ in node.members if isinstance(key, nodes.Scalar)]
        if keys and keys[0].startswith("-"):
            return "a list is expected here; a space is missing after the dash"
        hint = ""
        if isinstance(item, Members):
            known = members_of(item.kind).shapes
            hint = f": `- {keys[0] if keys and keys[0] in known else next(iter(known))}: …`"
        return f"a list is expected here, and no mapping; each entry begins with a dash and a space{hint}"
    if isinstance(node, nodes.Scalar) and isinstance(item, Leaf):
        return f"a list is expected here: write it in brackets, such as [{unshielded(node.text)[:40]}]"
    return "a list is expected here: each entry begins with a dash and a space"


def _odd_key(node: nodes.Node) -> str:
    if isinstance(node, nodes.Mapping):
        return "a key must be a plain word; if the braces are meant for a variable, write ${NAME}"
    return "a key must be a plain word, without variables"


def _leaf_words(shape: Leaf) -> str:
    if shape.unit in ("duration", "delay"):
        return "a duration such as 30s"
    if shape.unit == "size":
        return "a size such as 32MiB"
    return "a number" if shape.unit == "usd" else "text" if shape.kind is units.Secret else shape.described()


def _collection(node: nodes.Node) -> str:
    return "a list" if isinstance(node, nodes.Sequence) else "a mapping"


def _braced(node: nodes.Node) -> str | None:
    """The text of `{X}` and `{{X}}`, which are mappings in YAML; None for any other node."""
    if not isinstance(node, nodes.Mapping) or len(node.members) != 1:
        return None
    key, value = node.members[0]
    if not isinstance(value, nodes.Scalar) or value.text or not value.is_plain:
        return None
    inner = key.text if isinstance(key, nodes.Scalar) else _braced(key)
    return None if inner is None else f"{{{inner}}}"


def _member(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
