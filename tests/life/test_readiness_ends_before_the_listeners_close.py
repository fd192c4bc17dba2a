"""`shutdown_delay`: after the signal readiness says no while callers are still taken in; then both listeners close."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.configurations import configuration, listeners
from tests.harness import Client, providers
from tests.processes import free_port, serving
from tests.waiting import until


async def status_of(port: int, path: str) -> int:
    """The status of a page, on a connection of its own; 0 if none can be had."""
    try:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        client.get(path)
        return (await client.answer()).status
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0
    finally:
        if "client" in locals():
            client.leave()


@pytest.mark.parametrize("ends", ["delay", "second signal"])
async def test_callers_are_taken_in_until_the_delay_ends(tmp_path: Path, ends: str) -> None:
    port, admin = free_port(), free_port()
    delay = "500ms" if ends == "delay" else "1h"
    async with providers(1) as (provider,):
        sections = listeners(f"127.0.0.1:{port}", access_log=tmp_path / "log", admin=f"{{listen: '127.0.0.1:{admin}'}}")
        text = configuration(provider.port, more=f"{sections}shutdown_delay: {delay}\n")
        with serving(text, tmp_path, f"http://127.0.0.1:{port}") as running:
            assert await status_of(admin, "/readyz") == 200
            running.signal(signal.SIGTERM)
            seen: set[tuple[int, int]] = set()

            async def closed() -> bool:
                ready, public = await status_of(admin, "/readyz"), await status_of(port, "/v1/models")
                seen.add((ready, public))
                if ends == "second signal" and (503, 200) in seen:
                    running.signal(signal.SIGTERM)
                return public == 0

            while not await closed():
                pass
            assert (503, 200) in seen
            assert {ready for ready, public in seen if public == 200} <= {200, 503}
            await until(lambda: running.has_ended)
            assert running.end() == 0
            assert await status_of(admin, "/readyz") == 0
