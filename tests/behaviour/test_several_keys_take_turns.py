"""A provider's keys take turns, each with a circuit breaker of its own; what is no fault of a key is not tried with another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.factories import messages
from tests.harness import CLOSE, OK, Gateway, Provider, gateway, providers, whole

KEYS = ("first-key-0123456789", "second-key-0123456789", "third-key-0123456789")
REJECTED = whole(b'{"error":{"message":"no","code":"invalid_api_key"}}', status="401 Unauthorized")
LIMITED = whole(b'{"error":{"message":"slow down"}}', status="429 Too Many Requests", more="retry-after: 60\r\n")


def keyed(port: int, *keys: str, more: str = "") -> ProviderEntry:
    """A provider with several keys."""
    return ProviderEntry(port, api_key=None, more=f"api_keys: [{', '.join(keys)}]{more}")


async def ask(running: Gateway, model: str = "m") -> tuple[int, dict[str, str]]:
    client = await running.client()
    client.ask(model)
    answer = await client.answer()
    return answer.status, answer.headers


def keys_of(provider: Provider) -> list[str]:
    return [one.headers["authorization"].removeprefix("Bearer ") for one in provider.received]


async def test_every_key_is_used(tmp_path: Path) -> None:
    async with providers() as (provider,), gateway(configuration(keyed(provider.port, *KEYS)), tmp_path) as running:
        for _ in range(60):
            assert (await ask(running))[0] == 200
        assert set(keys_of(provider)) == set(KEYS)


@pytest.mark.parametrize("refusal", [REJECTED, LIMITED, whole(b"{}", status="403 Forbidden"), whole(b"{}", status="402 Pay")])
async def test_a_key_that_is_refused_is_no_fallback_to_another_source(tmp_path: Path, refusal: bytes) -> None:
    async with providers(2) as (provider, other):
        text = configuration(keyed(provider.port, *KEYS[:2]), other.port)
        async with gateway(text, tmp_path) as running:
            provider.plays(refusal)
            status, headers = await ask(running)
            assert (status, headers.get("x-kyma-fallback")) == (200, None)
            assert (sorted(keys_of(provider)), other.received) == (sorted(KEYS[:2]), [])
            (record,) = await running.records()
            assert len(record["attempts"]) == 2


async def test_the_key_that_is_rate_limited_rests_and_the_provider_goes_on(tmp_path: Path) -> None:
    async with providers() as (provider,), gateway(configuration(keyed(provider.port, *KEYS[:2])), tmp_path) as running:
        provider.plays(LIMITED)
        assert (await ask(running))[0] == 200
        limited = keys_of(provider)[0]
        for _ in range(20):
            assert (await ask(running))[0] == 200
        assert keys_of(provider).count(limited) == 1
        states = {KEYS[source["key"] - 1]: source["breaker"] for source in running.model("m")["sources"]}
        assert states == {key: "open" if key == limited else "closed" for key in KEYS[:2]}
        assert running.model("m")["status"] == "available"


async def test_when_every_key_is_refused_the_next_source_answers(tmp_path: Path) -> None:
    async with providers(2) as (provider, other):
        text = configuration(keyed(provider.port, *KEYS), other.port)
        async with gateway(text, tmp_path) as running:
            for _ in KEYS:
                provider.plays(REJECTED)
            status, headers = await ask(running)
            assert (status, headers["x-kyma-fallback-layer"]) == (200, "1")
            assert (sorted(keys_of(provider)), len(other.received)) == (sorted(KEYS), 1)


@pytest.mark.parametrize("failure", [whole(b"{}", status="500 Oops"), CLOSE, whole(b"{}", status="404 Not Found")])
async def test_a_failure_of_the_provider_is_not_tried_with_its_other_keys(tmp_path: Path, failure: bytes | str) -> None:
    async with providers(2) as (provider, other):
        text = configuration(keyed(provider.port, *KEYS), other.port)
        async with gateway(text, tmp_path) as running:
            provider.plays(failure)
            assert (await ask(running))[0] == 200
            assert (len(provider.received), len(other.received)) == (1, 1)


async def test_that_the_model_is_missing_is_relayed_although_there_are_other_keys(tmp_path: Path) -> None:
    async with providers() as (provider,), gateway(configuration(keyed(provider.port, *KEYS)), tmp_path) as running:
        missing = b'{"error":{"message":"no such model"}}'
        provider.plays(whole(missing, status="404 Not Found"))
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.body, len(provider.received)) == (404, missing, 1)


async def test_a_slow_source_is_hedged_with_another_source_and_not_with_another_key(tmp_path: Path) -> None:
    async with providers(2) as (slow, fast):
        text = configuration(keyed(slow.port, *KEYS), fast.port, hedge_after="20ms")
        async with gateway(text, tmp_path) as running:
            never = asyncio.Event()
            slow.plays(never, OK)
            assert (await ask(running))[0] == 200
            assert (len(slow.received), len(fast.received)) == (1, 1)


async def test_a_key_whose_variable_is_not_set_is_left_out(tmp_path: Path) -> None:
    async with providers() as (provider,):
        text = configuration(keyed(provider.port, "'${NO_SUCH_VARIABLE}'", KEYS[0]))
        async with gateway(text, tmp_path) as running:
            assert (await ask(running))[0] == 200
            assert keys_of(provider) == [KEYS[0]]
            assert messages(running.configuration.snapshot.warnings) == (
                "provider p0 is without one of its keys: NO_SUCH_VARIABLE is not set",
            )


async def test_the_first_keys_breaker_survives_a_reload_that_adds_another(tmp_path: Path) -> None:
    async with providers() as (provider,), gateway(configuration(keyed(provider.port, KEYS[0])), tmp_path) as running:
        provider.plays(LIMITED)
        assert (await ask(running))[0] == 429
        running.file.write_text(configuration(keyed(provider.port, *KEYS[:2])))
        assert (await running.configuration.reload("a test")).result == "reloaded"
        for _ in range(5):
            assert (await ask(running))[0] == 200
        assert keys_of(provider) == [KEYS[0], *[KEYS[1]] * 5]
