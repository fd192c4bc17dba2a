"""The admin listener answers the hostile corpus without a 500 and without a traceback in the log, and serves on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kyma_proxy.telemetry.process_log import begin_process_log
from tests.accounts_harness import TOKEN, metered
from tests.harness import admin_port
from tests.hostile.corpus import CASES, Case
from tests.waiting import PATIENCE_S

AT_ONCE = 48
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


@contextlib.asynccontextmanager
async def listening(directory: Path) -> AsyncIterator[int]:
    """The port of an admin listener."""
    async with metered(directory) as (accounts, _):
        begin_process_log()
        with admin_port(accounts.running) as port:
            yield port


async def statuses(port: int, data: bytes, *, waits: bool = True) -> list[int]:
    """Send bytes, and end the sending half once an answer has begun, or at once; the statuses of what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            async with asyncio.timeout(PATIENCE_S):
                if waits:
                    got = await reader.read(65536)
                writer.write_eof()
                while piece := await reader.read(65536):
                    got += piece
    finally:
        writer.transport.abort()
    return [int(one) for one in _STATUS.findall(got)]


@pytest.mark.parametrize("path", [b"/livez", b"/metrics", b"/admin/config"])
async def test_garbage_gives_no_500_and_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture, path: bytes) -> None:
    caplog.set_level(logging.INFO)
    free = asyncio.Semaphore(AT_ONCE)

    async def send(port: int, case: Case) -> tuple[str, list[int]]:
        async with free:
            return case.name, await statuses(
                port, case.wire("a", control=True).replace(b"/v1/models", path), waits=bool(case.entry.answers)
            )

    async with listening(tmp_path) as port:
        seen = await asyncio.gather(*(send(port, case) for case in CASES))
        assert await statuses(port, b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n") == [200]
    assert [(name, got) for name, got in seen if any(status >= 500 for status in got)] == []
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "rest",
    [
        b'content-encoding: gzip\r\ncontent-length: 13\r\n\r\n{"model":"m"}',
        b"content-encoding: br\r\ncontent-length: 2\r\n\r\n{}",
        b"content-encoding: deflate\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\nxyz\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n2\r\n{}X\r\n0\r\n\r\n",
        b"content-type: text/plain; charset=none\r\ncontent-length: 2\r\n\r\n\xff\xfe",
        b"content-length: 13\r\n\r\n[[[[[[[[[[[[[",
    ],
)  # fmt: skip
async def test_a_body_of_garbage_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture, rest: bytes) -> None:
    head = f"POST /admin/accounts HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n"
    async with listening(tmp_path) as port:
        assert await statuses(port, head.encode() + rest) == [415 if rest.startswith(b"content-encoding") else 400]
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING] == []
