"""Parses YAML text into nodes with their lines, within bounds: a hostile or broken text is one problem, and never a crash.

The nodes are made of the parser's events, and not by PyYAML's composers: that of libyaml recurses without a limit, and deep
nesting ends the process. Events need no stack, and say before a node is made that there would be too many.
"""

from __future__ import annotations

from typing import Final

import msgspec
import yaml

from kyma_proxy.config.problems import Problem
from kyma_proxy.loading.syntax_errors import explain_character, explain_syntax

HAS_LIBYAML: Final = hasattr(yaml, "CSafeLoader")
LOADER: Final[type[yaml.SafeLoader | yaml.CSafeLoader]] = yaml.CSafeLoader if HAS_LIBYAML else yaml.SafeLoader
"""The pure parser takes ten times as long."""
_MAX_CHARACTERS: Final = 8 * 2**20
_MAX_NODES: Final = 500_000
_MAX_DEPTH: Final = 64
"""More than any configuration has, and less than Python's stack."""


class Scalar(msgspec.Struct, frozen=True):
    """A value without parts. `is_plain`: it has no quotes, so that YAML may read a number or a boolean."""

    line: int
    text: str
    is_plain: bool
    tag: str | None = None


class Sequence(msgspec.Struct, frozen=True):
    """A list of nodes."""

    line: int
    items: list[Node]
    tag: str | None = None


class Mapping(msgspec.Struct, frozen=True):
    """Pairs of nodes, in their order; a key may be any node, and may be there twice."""

    line: int
    members: list[tuple[Node, Node]]
    tag: str | None = None


Node = Scalar | Sequence | Mapping


class Unparsable(Exception):
    """A text that is no YAML, or larger than any configuration."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem("", line, message)


class _Open:
    """A list or mapping whose end has not come. `size` counts its nodes and `height` their levels, with aliases followed."""

    __slots__ = ("anchor", "height", "is_flow", "is_mapping", "line", "nodes", "size", "tag")

    def __init__(self, event: yaml.CollectionStartEvent) -> None:
        self.line = _line(event)
        self.is_mapping = isinstance(event, yaml.MappingStartEvent)
        self.is_flow = bool(event.flow_style)
        self.anchor: str | None = event.anchor
        self.tag: str | None = event.tag
        self.nodes: list[Node] = []
        self.size = 1
        self.height = 1

    def closed(self) -> Node:
        """The node that it has become."""
        if self.is_mapping:
            return Mapping(self.line, list(zip(self.nodes[::2], self.nodes[1::2], strict=True)), self.tag)
        return Sequence(self.line, self.nodes, self.tag)


def parse(text: str, loader: type[yaml.SafeLoader | yaml.CSafeLoader] = LOADER) -> Node | None:
    """The root node of a text, or None if it has none. Raises Unparsable."""
    if len(text) > _MAX_CHARACTERS:
        raise Unparsable(0, f"the file is larger than {_MAX_CHARACTERS // 2**20} MiB")
    text = text.removeprefix("\ufeff")
    composer = _Composer()
    try:
        for event in yaml.parse(text, Loader=loader):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        raise Unparsable(*explain_syntax(text, error, composer.open_bracket())) from None
    except (yaml.YAMLError, UnicodeEncodeError):
        raise Unparsable(*explain_character(text)) from None
    except ValueError:  # the pure parser, for the escape of a character beyond Unicode
        raise Unparsable(0, "this is not YAML: an escape such as \\U00110000 stands for no character") from None
    return composer.root


class _Composer:
    """Makes nodes of events, without recursion. `take` raises Unparsable where a bound is passed."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._total = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            # libyaml gives a plain scalar the style "", and the pure parser None.
            self._add(event, Scalar(_line(event), event.value, not event.style, event.tag), 1, 1, event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._stack.append(_Open(event))
            if len(self._stack) > _MAX_DEPTH:
                raise Unparsable(_line(event), f"more than {_MAX_DEPTH} levels are nested here")
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self._stack.pop()
            self._add(event, closed.closed(), closed.size, closed.height, closed.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._add(event, *self._followed(event), None)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                message = "a second document begins here; a configuration is one document, so leave `---` out"
                raise Unparsable(_line(event), message)

    def open_bracket(self) -> int | None:
        """The line of the innermost bracket that is open."""
        return next((one.line for one in reversed(self._stack) if one.is_flow), None)

    def _add(self, event: yaml.Event, node: Node, size: int, height: int, anchor: str | None) -> None:
        """Add a node to that which is open, or take it for the root. Its size and height are with aliases followed."""
        self._total = max(self._total + 1, size)
        if self._total > _MAX_NODES:
            raise Unparsable(_line(event), f"the file has more than {_MAX_NODES} values, if its aliases (*) are followed")
        if len(self._stack) + height > _MAX_DEPTH + 1:
            raise Unparsable(_line(event), f"more than {_MAX_DEPTH} levels are nested here, if aliases (*) are followed")
        if anchor is not None:
            self._anchors[anchor] = node, size, height
        if not self._stack:
            self.root = node
            return
        above = self._stack[-1]
        above.nodes.append(node)
        above.size += size
        above.height = max(above.height, height + 1)

    def _followed(self, event: yaml.AliasEvent) -> tuple[Node, int, int]:
        """The node that an alias stands for, its size and its height."""
        if any(one.anchor == event.anchor for one in self._stack):
            raise Unparsable(_line(event), f"*{event.anchor} stands for a part of the file that it is in itself")
        found = self._anchors.get(event.anchor or "")
        if found is None:
            what = f"there is no anchor &{event.anchor} before this alias; a text that begins with * needs quotes"
            raise Unparsable(_line(event), f"this is not YAML: {what}")
        return found


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None  # noqa: S101  (each event of a parser has one)
    return event.start_mark.line + 1
