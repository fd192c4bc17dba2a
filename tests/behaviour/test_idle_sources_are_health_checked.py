"""A source without traffic gets a health check if the operator wants that; health checks are no traffic."""

from __future__ import annotations

from pathlib import Path

from tests.configurations import configuration
from tests.harness import SILENCE, gateway, providers, whole
from tests.waiting import until


def checked(*ports: int) -> str:
    """A configuration whose sources get a health check after a second without a request, the shortest there is."""
    return configuration(*ports, defaults="max_tokens: null, hedge_after: null, probe_after: 1s")


async def test_a_source_without_requests_gets_a_health_check_and_that_is_no_traffic(tmp_path: Path) -> None:
    async with providers(2) as (well, busy):
        busy.plays(whole(b"{}", status="503 Busy", more="retry-after: 600\r\n"))
        async with gateway(checked(well.port, busy.port), tmp_path) as running:
            await until(lambda: running.source(1)["retry_in_s"])
            await until(lambda: well.received)
            await running.is_at_rest()
            assert b'"max_tokens":1' in well.received[0].body
            sources = [running.source(at) for at in range(2)]
            assert [one["attempts_24h"] for one in sources] == [0, 0]
            assert sources[0]["reason"] is None
            assert "503" in sources[1]["reason"]


async def test_a_health_check_without_an_answer_ends_with_the_gateway(tmp_path: Path) -> None:
    async with providers(1) as (mute,):
        mute.plays(SILENCE)
        async with gateway(checked(mute.port), tmp_path) as running:
            await until(lambda: mute.received)
            assert mute.open == 1
            await running.abort()
        await until(lambda: mute.open == 0)
