"""Runs the coding agents of npm, each in a home of its own, over a gateway."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MODULES: Final = Path(__file__).parent / "node" / "node_modules"
CODEX: Final = MODULES / ".bin" / "codex"
LIMIT_S: Final = 90
"""The most that a task may take."""


async def run_claude_code(binary: Path, home: Path, port: int, *options: str, more: Mapping[str, str] | None = None) -> str:
    """Run Claude Code, with `more` environment variables. Return what it prints."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "CLAUDE"))}
    own = {
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}", "ANTHROPIC_AUTH_TOKEN": "none", "ANTHROPIC_MODEL": "m",
        "ANTHROPIC_SMALL_FAST_MODEL": "m", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
        "HOME": str(home),
    }  # fmt: skip
    return await _run([str(binary), *options], {**others, **own, **(more or {})}, home)


async def run_codex(home: Path, port: int, task: str) -> str:
    """Have Codex do a task by `/v1/responses`. Return what it prints."""
    (home / "config.toml").write_text(
        f'model = "m"\nmodel_provider = "kyma"\n[model_providers.kyma]\nname = "kyma"\nwire_api = "responses"\n'
        f'base_url = "http://127.0.0.1:{port}/v1"\nrequest_max_retries = 0\nstream_max_retries = 0\n'
    )
    command = [str(CODEX), "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", task]
    return await _run(command, {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}, home)


async def _run(command: list[str], env: dict[str, str], home: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=env, cwd=home,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_S):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, stderr.decode() + stdout.decode()
    return stdout.decode()
