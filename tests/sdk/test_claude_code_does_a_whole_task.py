"""Claude Code, today's and one of half a year ago, does a whole task over chat sources that refuse what real ones refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import gateway
from tests.sdk.agents import LIMIT_S, MODULES, run_claude_code
from tests.strict_chat import FLAVOURS, SOURCES, Step, StrictChat, strict_chat

Json = dict[str, Any]
_PACKAGES = {"today": "@anthropic-ai/claude-code", "of-may": "claude-code-of-may"}
VERSIONS = [
    pytest.param(
        binary, id=name, marks=pytest.mark.skipif(not binary.exists(), reason="it is not installed: make node-clients")
    )
    for name, package in _PACKAGES.items()
    if (binary := MODULES / package / "bin" / "claude.exe")
]
PROMPT = "Compute six times seven, and write it down."
SEARCHED = "WebFetch"


def steps_in(home: Path) -> list[Step]:
    """The task: a command, a tool that must be searched for, a file, a result that is large, and a word at the end."""
    return [
        ("Bash", {"command": "echo answer-$((6*7))", "description": "Compute"}),
        ("ToolSearch", {"query": f"select:{SEARCHED}", "max_results": 5}),
        ("Write", {"file_path": str(home / "note.txt"), "content": "forty-two\n"}),
        ("Bash", {"command": "cat note.txt; seq 1 20000", "description": "Read"}),
        "The command said 42.",
    ]


@asynccontextmanager
async def gateway_over(flavour: str, steps: list[Step], directory: Path) -> AsyncIterator[tuple[StrictChat, int]]:
    """A source of this flavour, and the port of a gateway in front of it."""
    async with strict_chat(flavour, lambda _: steps) as (provider, port):
        text = configuration(ProviderEntry(port, source=SOURCES[flavour]))
        async with gateway(text, directory) as running:
            yield provider, running.port


async def ask(binary: Path, home: Path, port: int, *options: str, searches: bool = True) -> str:
    """Run Claude Code in a home of its own. Return what it prints."""
    return await run_claude_code(
        binary, home, port, *options, "--allowedTools", "Bash", "Write", "ToolSearch",
        more={"ENABLE_TOOL_SEARCH": "true"} if searches else None,
    )  # fmt: skip


def names(request: Json) -> list[str]:
    return [tool["function"]["name"] for tool in request.get("tools", ())]


def assert_done(provider: StrictChat, home: Path) -> None:
    """The task is done, and the source has refused nothing."""
    assert provider.refusals == []
    computed, *between, large = provider.results
    assert "answer-42" in computed
    assert len(between) == 2
    assert "forty-two" in large
    assert (home / "note.txt").read_text() == "forty-two\n"


@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("binary", VERSIONS)
async def test_claude_code_does_a_whole_task_and_goes_on_later(tmp_path: Path, binary: Path, flavour: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with gateway_over(flavour, steps_in(home), tmp_path) as (provider, port):
        assert "The command said 42." in await ask(binary, home, port, "-p", PROMPT)
        assert_done(provider, home)
        conversation = [one for one in provider.requests if one.get("tools")]
        assert [SEARCHED in names(one) for one in conversation] == [False, False, True, True, True]
        assert {one["reasoning_effort"] for one in conversation} == {"high"}
        assert not any("DeferredToolPlaceholder" in names(one) for one in conversation)
        assert "x-anthropic-billing-header" not in str(conversation)
        assert "The command said 42." in await ask(binary, home, port, "--continue", "-p", "Once more.")
        assert provider.refusals == []
        assert len(provider.requests[-1]["messages"]) > len(conversation[-1]["messages"])
        assert len({str(one["messages"][0]) for one in provider.requests}) == 1  # so that a cache of prefixes fits


@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.parametrize("binary", VERSIONS)
async def test_claude_code_does_a_whole_task_without_a_search_for_tools(tmp_path: Path, binary: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    steps = [step for step in steps_in(home) if step[0] != "ToolSearch"]
    async with gateway_over("plain", steps, tmp_path) as (provider, port):
        assert "The command said 42." in await ask(binary, home, port, "-p", PROMPT, searches=False)
        assert provider.refusals == []
        assert "answer-42" in provider.results[0]
