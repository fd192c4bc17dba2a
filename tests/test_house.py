"""The house keeps its own rules: rooms, sizes, names, and imports that stand alone."""

from __future__ import annotations

import ast
import subprocess
import sys
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

LONG_FILES = {
    "proxy/kyma_proxy/net/downstream/connection.py": "one connection's reading, serving and ending share its state",
}
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
