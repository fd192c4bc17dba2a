"""Whatever callers of the admin listener send is their mistake: the log has at most a line about it, and no traceback."""

from __future__ import annotations

import asyncio
import io
import logging
from pathlib import Path

import pytest
from aiohttp.log import server_logger

from kyma_proxy.telemetry.process_log import begin_process_log
from tests.accounts_harness import TOKEN, metered
from tests.harness import admin_port
from tests.waiting import PATIENCE_S

_CREATE = (
    b"POST /admin/accounts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer %b\r\n" % TOKEN.encode()
)
GARBAGE = {
    "tls": b"\x16\x03\x01\x02\x00" + b"\0" * 50, "nul": b"\0\0\0\r\n\r\n", "version": b"GET / HTTP/9.9\r\n\r\n",
    "path": b"GET /\xff HTTP/1.1\r\n\r\n", "query": b"GET /livez?\xff HTTP/1.1\r\n\r\n", "asterisk": b"GET * HTTP/1.1\r\n\r\n",
    "url": b"GET http://[/ HTTP/1.1\r\n\r\n", "long": b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * 100_000),
    "method": b"G\xc3\xa9T / HTTP/1.1\r\n\r\n", "header": b"GET / HTTP/1.1\r\nx: \0\r\n\r\n",
    "chunk": _CREATE + b"transfer-encoding: chunked\r\n\r\nzz\r\n", "short": _CREATE + b"content-length: 9\r\n\r\nabc",
    "gzip": _CREATE + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    "deflate": _CREATE + b"content-encoding: deflate\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "expect": _CREATE + b"expect: \xff\r\ncontent-length: 0\r\n\r\n", "utf-8": _CREATE + b"content-length: 1\r\n\r\n\xff",
    "digits": _CREATE + b"content-length: 6010\r\n\r\n" + b'{"grant":' + b"9" * 6000 + b"}",
    "deep": _CREATE + b"content-length: 60000\r\n\r\n" + b"[" * 60_000,
    "surrogate": b"GET /admin/accounts/%ED%A0%80 HTTP/1.1\r\n" + _CREATE.partition(b"\r\n")[2] + b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_on_the_admin_listener_makes_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(server_logger, "filters", [])
    begin_process_log()
    async with metered(tmp_path) as (made, _), asyncio.timeout(PATIENCE_S):
        with admin_port(made.running) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            if sent is GARBAGE["short"]:  # all others are answered
                writer.write_eof()
            try:
                answer = await reader.read()
            except ConnectionError:
                answer = b""
            writer.close()
    assert bool(answer) is (sent is not GARBAGE["short"])
    assert "Traceback" not in stream.getvalue()
    assert "ERROR" not in stream.getvalue()


async def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(server_logger, "filters", [])
    begin_process_log()
    try:
        "\ud800".encode()
    except UnicodeError:
        server_logger.exception("Error handling request")
    assert "Traceback" in stream.getvalue()
