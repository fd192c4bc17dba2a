"""Codex does a whole task over chat sources that refuse what real ones refuse: it gives them back what they have given."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import gateway
from tests.strict_chat import FLAVOURS, SOURCES, Step, strict_chat

CODEX = Path(__file__).parent / "node" / "node_modules" / ".bin" / "codex"
LIMIT_S = 90
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
            (home / "config.toml").write_text(
                f'model = "m"\nmodel_provider = "kyma"\n[model_providers.kyma]\nname = "kyma"\nwire_api = "responses"\n'
                f'base_url = "http://127.0.0.1:{running.port}/v1"\nrequest_max_retries = 0\nstream_max_retries = 0\n'
            )
            process = await asyncio.create_subprocess_exec(
                str(CODEX), "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", "Compute six times seven.",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env=os.environ | {"CODEX_HOME": str(home), "HOME": str(home)}, cwd=home,
            )  # fmt: skip
            try:
                async with asyncio.timeout(LIMIT_S):
                    stdout, stderr = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            assert process.returncode == 0, stderr.decode() + stdout.decode()
            assert provider.refusals == []
            assert "The command said 42." in stdout.decode()
            assert "answer-42" in provider.results[0]
            assert "forty-two" in provider.results[1]
