"""Clients on Node.js work: the guides' JavaScript, and Claude Code with a tool, over a provider that speaks only OpenAI."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.configurations import configuration
from tests.harness import gateway as in_process
from tests.processes import ROOT, GatewayProcess, environment
from tests.sdk.agents import CODEX, run_claude_code, run_codex

NODE = Path(__file__).parent / "node"
CLAUDE = NODE / "node_modules" / ".bin" / "claude"
BLOCKS = [
    pytest.param(text, id=guide.stem)
    for guide in sorted((ROOT / "docs" / "guides").glob("*.md"))
    for text in re.findall(r"^```js\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)
]

pytestmark = pytest.mark.skipif(
    not (NODE / "node_modules" / ".package-lock.json").exists() or shutil.which("node") is None,
    reason="the clients for Node.js are not installed: make node-clients",
)


@pytest.mark.parametrize("model", ["fast", "claude"])
@pytest.mark.parametrize("text", BLOCKS)
def test_each_javascript_example_of_a_guide_runs(gateway: GatewayProcess, text: str, model: str) -> None:
    text = text.replace("http://127.0.0.1:8080", gateway.base).replace('"fast"', f'"{model}"')
    line = ["node", "--input-type=module", "-e", text]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment(), cwd=NODE, check=False)
    assert done.returncode == 0, done.stderr
    assert "simulated provider" in done.stdout


def _chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    document = {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


_LACKING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class Model:
    """A provider that speaks OpenAI: it calls a tool if there is one, and then tells the result."""

    def __init__(self) -> None:
        self.results: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(re.findall(rb"content-length: (\d+)", head)[0])
                request = json.loads(await reader.readexactly(size))
                writer.write(self._answer(request) if b"chat/completions" in head else _LACKING)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def _answer(self, request: dict[str, object]) -> bytes:
        messages = request["messages"]
        assert isinstance(messages, list)
        results = [one for one in messages if one["role"] == "tool"]
        if results:
            self.results.append(json.dumps(results[-1]["content"]))
            pieces = [_chunk({"role": "assistant", "content": "The command said 42."}), _chunk({}, "stop")]
        elif request.get("tools"):
            tools = json.dumps(request["tools"])
            name, member = ("exec_command", "cmd") if "exec_command" in tools else ("Bash", "command")
            command = {member: "echo answer-$((6*7))"} | ({} if member == "cmd" else {"description": "Compute"})
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
            more = {"index": 0, "function": {"arguments": json.dumps(command)}}
            pieces = [
                _chunk({"role": "assistant", "content": None, "tool_calls": [call]}), _chunk({"tool_calls": [more]}),
                _chunk({}, "tool_calls"),
            ]  # fmt: skip
        else:
            pieces = [_chunk({"role": "assistant", "content": "A title"}), _chunk({}, "stop")]
        body = (
            b"".join(pieces)
            + b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}\n\ndata: [DONE]\n\n'
        )
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture
async def model() -> AsyncIterator[tuple[Model, int]]:
    """The provider, and its port."""
    made = Model()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=2**22)
    yield made, server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.timeout(120)
@pytest.mark.skipif(not CLAUDE.exists(), reason="Claude Code is not installed: make node-clients")
async def test_claude_code_calls_a_tool_through_a_provider_that_speaks_openai(tmp_path: Path, model: tuple[Model, int]) -> None:
    provider, port = model
    home = tmp_path / "home"
    home.mkdir()
    async with in_process(configuration(port), tmp_path) as running:
        printed = await run_claude_code(CLAUDE, home, running.port, "-p", "Compute six times seven.", "--allowedTools", "Bash")
        assert "The command said 42." in printed
        assert any("answer-42" in result for result in provider.results)


@pytest.mark.timeout(120)
@pytest.mark.skipif(not CODEX.exists(), reason="Codex is not installed: make node-clients")
async def test_codex_calls_a_tool_through_a_provider_that_has_no_responses(tmp_path: Path, model: tuple[Model, int]) -> None:
    provider, port = model
    home = tmp_path / "home"
    home.mkdir()
    async with in_process(configuration(port), tmp_path) as running:
        printed = await run_codex(home, running.port, "Compute six times seven.")
        assert "The command said 42." in printed
        assert any("answer-42" in result for result in provider.results)
