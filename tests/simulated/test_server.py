"""The provider's server and its command: malformed bodies, disconnects, start and end."""

from __future__ import annotations

import asyncio
import signal
import sys

import aiohttp
import openai
import pytest

from kyma_proxy.simulated import server
from tests.processes import environment
from tests.simulated.prompts import PROMPT

COMMAND = [sys.executable, "-m", "kyma_proxy.simulated.server"]
PATIENCE_S = 10


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"model":"\xff"}', b"[" * 100_000])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings", "messages"])
async def test_a_body_that_is_no_json_object_is_refused(origin: str, path: str, raw: bytes) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{origin}/v1/{path}", data=raw) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_paced_stream_ends_when_its_client_disconnects() -> None:
    runner = await server.serve("127.0.0.1", 0, 3600.0)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
    request = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": True}
    async with aiohttp.ClientSession() as session, session.post(url, json=request) as response:
        assert (await response.content.readline()).startswith(b"data: {")
    async with asyncio.timeout(PATIENCE_S / 2):
        await runner.cleanup()
    assert runner.addresses == []


async def start_command() -> tuple[asyncio.subprocess.Process, str, asyncio.StreamWriter]:
    """The running command, the line that it has printed, and its standard input."""
    arguments = ["--listen", "127.0.0.1:0", "--pace", "0s", "--until-stdin-closes"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdin=pipe, stdout=pipe, env=environment())
    assert process.stdin is not None
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode(), process.stdin


async def test_the_command_prints_its_address_and_ends_with_its_standard_input() -> None:
    process, line, stdin = await start_command()
    assert line.startswith("simulated provider on http://127.0.0.1:")
    async with openai.AsyncOpenAI(base_url=line.split()[-1], api_key="any", max_retries=0) as client:
        assert (await client.models.list()).data[0].id == "simulated"
    stdin.close()
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_ends_on_a_signal(number: signal.Signals) -> None:
    process, _, stdin = await start_command()
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    stdin.close()


@pytest.mark.parametrize("arguments", [["--pace", "50"], ["--listen", "nowhere"], ["--listen", "unix:/tmp/x.sock"]])
def test_an_invalid_option_is_named_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        server.main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


async def test_a_port_in_use_is_one_line_with_exit_code_1(origin: str) -> None:
    port = origin.rpartition(":")[2]
    arguments = ["--listen", f"127.0.0.1:{port}"]
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stderr=asyncio.subprocess.PIPE, env=environment())
    _, stderr = await process.communicate()
    assert (process.returncode, stderr.count(b"\n")) == (1, 1)
    assert f"127.0.0.1:{port}".encode() in stderr
