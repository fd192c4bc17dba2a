"""Codex does a whole task over chat sources that refuse what real ones refuse: it gives them back what they have given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import gateway
from tests.sdk.agents import CODEX, LIMIT_S, run_codex
from tests.strict_chat import FLAVOURS, SOURCES, Step, strict_chat

STEPS: list[Step] = [
    ("exec_command", {"cmd": "echo answer-$((6*7))"}),
    ("exec_command", {"cmd": "echo forty-two > note.txt; cat note.txt"}),
    "The command said 42.",
]


@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.skipif(not CODEX.exists(), reason="Codex is not installed: make node-clients")
@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_codex_does_a_whole_task(tmp_path: Path, flavour: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with strict_chat(flavour, lambda _: STEPS) as (provider, port):
        text = configuration(ProviderEntry(port, source=f"endpoints: [chat], {SOURCES[flavour]}"))
        async with gateway(text, tmp_path) as running:
            printed = await run_codex(home, running.port, "Compute six times seven.")
            assert provider.refusals == []
            assert "The command said 42." in printed
            assert "answer-42" in provider.results[0]
            assert "forty-two" in provider.results[1]
