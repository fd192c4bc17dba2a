"""YAML is parsed into nodes by libyaml or without it, and no text takes much time, memory or stack."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from kyma_proxy.loading.nodes import HAS_LIBYAML, LOADER, Mapping, Node, Scalar, Sequence, Unparsable, parse
from kyma_proxy.loading.reading import read_document
from kyma_proxy.loading.variables import shielded
from tests.config.test_mistakes import MISTAKES
from tests.config.test_mistakes import written as mistaken
from tests.processes import ROOT

PARSERS = [pytest.param(yaml.SafeLoader, id="pure"), pytest.param(LOADER, id="libyaml")]
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]\n" for above, name in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP_BY_ALIASES = "a: &a [1]\n" + "".join(f"b{at}: &b{at} [*{'a' if not at else f'b{at - 1}'}]\n" for at in range(100))


def test_libyaml_is_used_where_it_is() -> None:
    assert HAS_LIBYAML is hasattr(yaml, "CSafeLoader")
    assert (LOADER is yaml.SafeLoader) is not HAS_LIBYAML


@pytest.mark.parametrize("loader", PARSERS)
@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[" * 100_000, 1, "levels are nested"), ("{a: " * 100_000, 1, "levels are nested"),
        ("- " * 100_000, 1, "levels are nested"),
        ("".join("  " * at + "a:\n" for at in range(200)), 65, "levels are nested"), (DEEP_BY_ALIASES, 64, "levels are nested"),
        (BOMB, 6, "500000 values"), ("a: &a [*a]", 1, "in itself"), ("a: &a {b: {c: *a}}", 1, "in itself"),
        ("a: *b", 1, "no anchor &b"),
        ("#" * (8 * 2**20 + 1), 0, "larger than 8 MiB"), ("a: 1\n--- \nb: 2\n", 2, "second document"),
        ("a: \ud800", 1, "U+D800"), ("a: \0", 1, "NUL"), ("a: \x1b", 1, "U+001B"),
    ],
    ids=["brackets", "braces", "dashes", "indentation", "aliases", "bomb", "self", "self-below", "undefined", "large", "second",
         "surrogate", "nul", "escape"],
)  # fmt: skip
def test_a_text_that_would_take_too_much_is_refused_at_the_line_where_it_does(
    loader: Any, text: str, line: int, words: str
) -> None:
    with pytest.raises(Unparsable) as refused:
        parse(text, loader)
    assert refused.value.problem.line == line
    assert words in refused.value.problem.message


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    started = time.process_time()
    with pytest.raises(Unparsable):
        parse(BOMB)
    assert time.process_time() - started < 1


def plain(node: Node) -> object:
    if isinstance(node, Mapping):
        return [(plain(key), plain(value)) for key, value in node.members]
    return [plain(one) for one in node.items] if isinstance(node, Sequence) else (node.line, node.text, node.is_plain, node.tag)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_both_parsers_make_the_same_nodes(path: Any) -> None:
    text = shielded(path.read_text(encoding="utf-8"))
    nodes = [parse(text, loader) for loader in (yaml.SafeLoader, LOADER)]
    assert nodes[0] is not None
    assert nodes[1] is not None
    assert plain(nodes[0]) == plain(nodes[1])


@pytest.mark.parametrize("mistake", [pytest.param(one, id=one["name"]) for one in MISTAKES])
def test_both_parsers_refuse_the_same_texts_at_the_same_lines(mistake: dict[str, Any]) -> None:
    found: list[int | None] = []
    for loader in (yaml.SafeLoader, LOADER):
        try:
            parse(mistaken(mistake), loader)
            found.append(None)
        except Unparsable as error:
            found.append(error.problem.line)
    assert found[0] == found[1]


@pytest.mark.parametrize("loader", PARSERS)
def test_a_node_knows_its_line_and_if_it_has_quotes(loader: Any) -> None:
    root = parse("a: 1\n\nb: '2'\nc:\n  - \"3\"\n  - !x 4\n  -\n", loader)
    assert isinstance(root, Mapping)
    (_, a), (_, b), (_, c) = root.members
    assert (a, b) == (Scalar(1, "1", is_plain=True), Scalar(3, "2", is_plain=False))
    assert isinstance(c, Sequence)
    assert c.items == [Scalar(5, "3", is_plain=False), Scalar(6, "4", is_plain=True, tag="!x"), Scalar(7, "", is_plain=True)]


LONG = 300_000


@pytest.mark.parametrize(
    "text",
    [
        "drain: " + "1" * LONG + "x", "drain: 1" + ":1" * LONG, "a" * LONG + "\n b: c", "access_log: '" + "{{a." * LONG + "'",
        "access_log: '{{" + "a." * LONG + "'", "access_log: '" + "${a:-" * LONG + "'", "access_log: '" + "%abc" * LONG + "'",
        "drain: " + "1," * LONG, "admin: {token: " + "your" * LONG + "}", "- a\n" * LONG + "b: c",
        "listen: " + "a-" * LONG,
        "cors: {origins: ['https://" + "a." * LONG + "']}", "a: 1\n" * (LONG // 10),
        "a" * LONG + ": 1", "\n" * LONG + "a: b: c",
    ],
    ids=range(15),
)  # fmt: skip
def test_the_time_for_a_text_grows_with_its_length_and_not_with_its_square(text: str) -> None:
    started = time.process_time()
    assert read_document(text, {}).problems
    assert time.process_time() - started < 5
