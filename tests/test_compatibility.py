"""Each cell of the compatibility page is a test that exists or a reason, and each version is the one that is tried."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest

from bench.processes import ROOT

_TEST = re.compile(r"`(tests/[\w./]+)`")
_LOCKED = {
    "OpenAI SDK, Python": "openai", "Anthropic SDK, Python": "anthropic", "LangChain, OpenAI": "langchain-openai",
    "LangChain, Anthropic": "langchain-anthropic", "pydantic-ai": "pydantic-ai-slim",
}  # fmt: skip
_NODE = {
    "OpenAI SDK, JavaScript": ("openai",), "Vercel AI SDK": ("ai",), "Codex": ("@openai/codex",),
    "Claude Code": ("@anthropic-ai/claude-code", "claude-code-of-may"),
}  # fmt: skip


class Row(NamedTuple):
    """A client, its version, the endpoints that it asks at, and how it is tried over each kind of source."""

    client: str
    version: str
    asks_at: str
    cells: tuple[str, ...]


def rows() -> list[Row]:
    """The rows of the page's table."""
    lines = [line for line in (ROOT / "docs" / "COMPATIBILITY.md").read_text().splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return [Row(client, version, asks_at, tuple(cells)) for client, version, asks_at, *cells in found]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.client} at {row.asks_at}")
def test_each_cell_is_a_test_that_exists_or_a_reason(row: Row) -> None:
    assert len(row.cells) == 2
    for cell in row.cells:
        paths = _TEST.findall(cell)
        assert all((ROOT / path).exists() for path in paths)
        assert paths or cell == "the same" or re.match(r"not tried: \w+", cell)


def test_each_version_is_the_one_that_is_tried() -> None:
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    node = json.loads((ROOT / "tests" / "sdk" / "node" / "package.json").read_text())["dependencies"]
    versions = {row.client: row.version for row in rows()}
    assert {client: locked[package] for client, package in _LOCKED.items()} == {name: versions[name] for name in _LOCKED}
    tried = {client: ", ".join([node[name].rsplit("@", 1)[-1] for name in names]) for client, names in _NODE.items()}
    assert tried == {name: versions[name] for name in _NODE}
