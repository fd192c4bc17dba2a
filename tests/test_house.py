"""The house keeps its own rules: rooms, sizes, names, and imports that stand alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import ROOT, environment

SOURCE_ROOT = ROOT / "proxy"
HOUSE = SOURCE_ROOT / "kyma_proxy"
MODULES = sorted(HOUSE.rglob("*.py"))
MEASURED = [*MODULES, *sorted((ROOT / "bench").rglob("*.py"))]
ROOMS = sorted(path for path in HOUSE.iterdir() if (path / "__init__.py").exists())
PURE_ROOMS = ("config", "core", "dialect", "loading")
MAX_LINES, MAX_LINES_OF_A_FUNCTION = 400, 60
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "tools"}

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE_ROOT).with_suffix("").parts).removesuffix(".__init__")


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.name}", node


@pytest.mark.timeout(180)
def test_every_module_imports_alone_and_without_a_warning() -> None:
    def complaint(path: Path) -> str:
        line = [sys.executable, "-W", "error", "-c", f"import {module(path)}"]
        result = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        return (
            f"{module(path)}: {result.stderr or result.stdout}" if result.returncode or result.stderr or result.stdout else ""
        )

    with ThreadPoolExecutor(8) as pool:
        assert [found for found in pool.map(complaint, MODULES) if found] == []


def test_the_rules_wait_for_nothing() -> None:
    waiting = [
        where
        for room in PURE_ROOMS
        for path in sorted((HOUSE / room).rglob("*.py"))
        for where, function in functions(path)
        if isinstance(function, ast.AsyncFunctionDef)
    ]
    assert waiting == []


def test_no_file_is_too_long_to_be_read() -> None:
    long = {name(path) for path in MEASURED if len(path.read_text().splitlines()) > MAX_LINES}
    assert long <= set(LONG_FILES)


def test_no_function_is_too_long_to_be_read() -> None:
    long = {
        where
        for path in MEASURED
        for where, function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_LINES_OF_A_FUNCTION
    }
    assert long <= set(LONG_FUNCTIONS)


def test_every_file_is_named_after_an_idea() -> None:
    assert [name(path) for path in MEASURED if set(path.stem.lower().split("_")) & NAMELESS] == []


def test_a_room_has_three_files_or_more_and_rooms_two_deep_at_most() -> None:
    assert {room.name for room in ROOMS} >= {"config", "core", "dialect", "net", "ops", "simulated", "telemetry", "web"}
    for room in ROOMS:
        within = [path for path in room.iterdir() if path.is_dir() and path.name != "__pycache__"]
        for one in (room, *within):
            files = [path for path in one.glob("*.py") if path.name != "__init__.py"]
            assert len(files) >= 3 or (one is room and within), name(one)
            assert (one / "__init__.py").exists(), name(one)
        assert [path for one in within for path in one.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


def undocumented(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    if not ast.get_docstring(tree):
        yield name(path)
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{name(path)}:{node.name}"


def test_every_public_name_says_what_it_is() -> None:
    assert [found for path in MODULES for found in undocumented(path)] == []


# Words that were given up for the field's: in an identifier, and in a sentence.
GIVEN_UP_IN_NAMES = {
    "anyway", "books", "course", "desk", "door", "keeping", "laboratory", "ladder", "lane", "manners", "probing", "resting",
    "rung", "said", "till", "told", "unsayable", "untold", "withholding",
}  # fmt: skip
GIVEN_UP_NAMES = {
    "Answering", "Asking", "Books", "Caller", "Course", "Door", "Edge", "Failed", "Flow", "Health", "HealthTable", "House",
    "JobKeeping", "JobsUnderWay", "Lane", "Outcome", "Site", "Ticket", "Turn", "Withholding", "first_over", "how_it_fares",
    "is_probe", "is_worth_asking", "pass_on", "too_poor", "under_way",
}  # fmt: skip
GIVEN_UP_PREFIXES = ("MOST_", "LEAST_", "LONGEST_", "FIRST_REST")
GIVEN_UP_PROSE = re.compile(
    r"\b(?:ladders?|rungs?|half-open probes?|This file (?:says|does|is|holds|decides|makes|reads))\b", re.IGNORECASE
)
BEGINNINGS = re.compile(r"(?:What|Whether|Who|How|Where|Nobody|Somebody)\b")


def identifiers(path: Path) -> Iterator[str]:
    with path.open("rb") as source:
        yield from (token.string for token in tokenize.tokenize(source.readline) if token.type == tokenize.NAME)


def is_given_up(identifier: str) -> bool:
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)
    return (
        identifier in GIVEN_UP_NAMES
        or identifier.lstrip("_").startswith(GIVEN_UP_PREFIXES)
        or any(part.lower() in GIVEN_UP_IN_NAMES for part in parts)
    )


def test_no_identifier_has_a_word_that_was_given_up() -> None:
    found = {f"{name(path)}: {one}" for path in MEASURED for one in set(identifiers(path)) if is_given_up(one)}
    assert found == set()


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def test_a_docstring_begins_with_what_is_done_and_not_with_a_question() -> None:
    found = [f"{name(path)}:{line}" for path in MEASURED for line, text in docstrings(path) if BEGINNINGS.match(text)]
    assert found == []


def test_no_sentence_has_a_word_that_was_given_up() -> None:
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [name(page) for page in pages if GIVEN_UP_PROSE.search(page.read_text())]
    found += [f"{name(path)}:{line}" for path in MEASURED for line, text in docstrings(path) if GIVEN_UP_PROSE.search(text)]
    assert found == []


def test_every_test_file_that_the_behaviour_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w./]+)`", (ROOT / "docs" / "BEHAVIOUR.md").read_text())
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_each_threat_of_the_security_page_has_a_file_that_decides_and_a_test() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    section = text[text.index("## What is defended") : text.index("## What is not")]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    decided = [re.findall(r"`([\w/]+\.py)`", row[2]) for row in rows]
    tests = [re.findall(r"`(tests/[\w./]+)`", row[3]) for row in rows]
    assert [row[0].strip() for row, files, kept in zip(rows, decided, tests, strict=True) if not files or not kept] == []
    named = [HOUSE / one for files in decided for one in files] + [ROOT / one for kept in tests for one in kept]
    assert [name(path) for path in named if not path.exists()] == []


def test_the_glossary_has_one_line_a_word_in_order() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    _, _, *words = re.findall(r"^\|\s*(.+?)\s*\|", text[text.index("## Glossary") :], re.MULTILINE)
    assert len(words) > 50
    assert words == sorted(set(words), key=str.lower)
