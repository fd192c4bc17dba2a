"""Of a provider's headers a caller gets those of useful kinds and those that the configuration names, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.translation import ask
from tests.configurations import ProviderEntry, configuration
from tests.harness import ANSWER, event, gateway, providers, whole

GATEWAYS_OWN = {"content-type", "content-length", "x-request-id", "x-kyma-model"}
USEFUL = "x-ds-trace-id: t\r\nx-metrics-e2e-ms: 5\r\nretry-after: 3\r\n"
OPERATORS = (
    "msh-org-id: o\r\nx-litellm-key-spend: 1.5\r\nx-tokenlimit-remaining: 7\r\nX-Rate-Limit-Limit: 9\r\n"
    "x-accel-redirect: /etc/passwd\r\nset-cookie: a=b\r\nwww-authenticate: Bearer\r\n"
    "x-team: red\r\nserver: key provider-key-0\r\n"
)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
@pytest.mark.parametrize(("more", "named"), [("", set()), ("pass_headers: [X-Team, 'msh-*']", {"x-team", "msh-org-id"})])
async def test_a_caller_gets_the_useful_headers_and_those_that_are_named(
    tmp_path: Path, status: str, more: str, named: set[str]
) -> None:
    async with (
        providers(1) as (provider,),
        gateway(configuration(ProviderEntry(provider.port, more=more)), tmp_path) as running,
    ):
        provider.plays(whole(ANSWER, status=status, more=USEFUL + OPERATORS))
        client = await running.client()
        client.ask()
        answer = await client.answer()
    assert set(answer.headers) == GATEWAYS_OWN | {"x-ds-trace-id", "x-metrics-e2e-ms", "retry-after"} | named


async def test_a_source_names_headers_for_itself_alone(tmp_path: Path) -> None:
    sources = [ProviderEntry(0, source="pass_headers: [x-team]"), ProviderEntry(0)]
    async with providers(2) as made:
        entries = [entry._replace(at=provider.port) for entry, provider in zip(sources, made, strict=True)]
        async with gateway(configuration(*entries), tmp_path) as running:
            client = await running.client()
            made[0].plays(whole(ANSWER, more=OPERATORS))
            client.ask()
            assert (await client.answer()).headers["x-team"] == "red"
            made[0].plays(whole(b"{}", status="500 Internal Server Error"))
            made[1].plays(whole(ANSWER, more=OPERATORS))
            client.ask()
            assert "x-team" not in (await client.answer()).headers


async def test_a_stream_has_the_same_headers_as_a_whole_answer(tmp_path: Path) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port), tmp_path) as running:
        provider.plays(whole(event("one"), kind="text/event-stream", more=USEFUL + OPERATORS))
        client = await running.client()
        client.ask(stream=True)
        assert set((await client.answer()).headers) >= {"x-ds-trace-id", "x-metrics-e2e-ms", "retry-after"}


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("size", [2, 100_000])
async def test_a_wait_of_years_is_not_relayed(tmp_path: Path, dialect: str, size: int) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port, dialect=dialect), tmp_path) as running:
        provider.plays(whole(b" " * size, status="400 Bad Request", more=f"Retry-After: {'9' * 30}\r\n"))
        client = await running.client()
        ask(client, "openai", stream=False)
        answer = await client.answer()
        assert (answer.status, answer.headers.get("retry-after")) == (400, "604800")
