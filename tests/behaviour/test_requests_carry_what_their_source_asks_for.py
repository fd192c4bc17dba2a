"""Headers, parameters and members of a provider and of a source are added to requests; those of a source win."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import MESSAGE, Gateway, Provider, gateway, providers, whole

LONG = "x" * 20_000


async def asked(running: Gateway, provider: Provider, body: bytes, *, query: str = "", more: str = "") -> tuple[str, Any]:
    """The first line that a provider gets for a request, and the body."""
    client = await running.client()
    client.post(body, path=f"/v1/chat/completions{query}", more=more)
    assert (await client.answer()).status == 200
    return provider.received[-1].line, provider.received[-1].body


def entry(port: int, *, more: str = "", source: str = "") -> str:
    return configuration(ProviderEntry(port, more=more, source=source))


async def test_a_query_is_added_behind_the_callers(tmp_path: Path) -> None:
    async with providers() as (provider,):
        more, source = "query: {api-version: 2024-10-21, tag: a b&c}", "query: {tag: mine}"
        async with gateway(entry(provider.port, more=more, source=source), tmp_path) as running:
            body = b'{"model":"m","messages":[]}'
            line, _ = await asked(running, provider, body)
            assert line == "POST /v1/chat/completions?api-version=2024-10-21&tag=mine HTTP/1.1"
            line, _ = await asked(running, provider, body, query="?x=1&api%2dversion=2023-01-01&tag=theirs&y")
            assert line == "POST /v1/chat/completions?api-version=2024-10-21&tag=mine&x=1&y HTTP/1.1"


async def test_a_querys_values_are_percent_encoded(tmp_path: Path) -> None:
    more = 'query: {a b: "c d&e=\u00e4"}'
    async with providers() as (provider,), gateway(entry(provider.port, more=more), tmp_path) as running:
        line, _ = await asked(running, provider, b'{"model":"m","messages":[]}')
        assert line == "POST /v1/chat/completions?a%20b=c%20d%26e%3D%C3%A4 HTTP/1.1"


async def test_a_sources_headers_win_over_its_providers_and_over_the_callers(tmp_path: Path) -> None:
    async with providers() as (provider,):
        more, source = "headers: {X-Team: blue, X-Kind: a}", "headers: {x-team: red, Authorization: Bearer of-the-source}"
        async with gateway(entry(provider.port, more=more, source=source), tmp_path) as running:
            await asked(running, provider, b'{"model":"m","messages":[]}', more="x-team: green\r\n")
            sent = provider.received[-1].headers
            assert (sent["x-team"], sent["x-kind"], sent["authorization"]) == ("red", "a", "Bearer of-the-source")


BODY_CASES = {
    "absent": (b'{"model":"m","messages":[]}', True),
    "spaced": (b'{ "model" : "m", "messages": [] }', True),
    "named elsewhere": (b'{"model":"m","messages":[{"provider":1}]}', True),
    "named in a text": (b'{"model":"m","messages":[{"content":"\\"provider\\": x \\u00e4"}]}', True),
    "large": (b'{"model":"m","messages":["%b"]}' % LONG.encode(), True),
    "present": (b'{"model":"m","provider":{"order":["theirs"]},"messages":[]}', False),
    "null": (b'{"model":"m","messages":[],"provider":null}', False),
    "escaped": (b'{"model":"m","messages":[],"\\u0070rovider":{}}', False),
    "large and present": (b'{"model":"m","messages":["%b"],"provider":{}}' % LONG.encode(), False),
}


@pytest.mark.parametrize(("body", "is_added"), BODY_CASES.values(), ids=BODY_CASES.keys())
async def test_a_member_is_added_only_to_a_request_that_lacks_it(tmp_path: Path, body: bytes, is_added: bool) -> None:
    async with providers() as (provider,):
        more = 'body: {provider: {order: [a, b], allow_fallbacks: false}, top_k: 7, note: "7", none: null}'
        source = "body: {top_k: 0.5}"
        async with gateway(entry(provider.port, more=more, source=source), tmp_path) as running:
            _, sent = await asked(running, provider, body)
        members = json.loads(
            sent, object_pairs_hook=lambda pairs: (len({name for name, _ in pairs}) == len(pairs)) and dict(pairs)
        )
        given = json.loads(body)
        assert members.pop("model") == "real-0"
        expected = {"provider": {"order": ["a", "b"], "allow_fallbacks": False}, "top_k": 0.5, "note": "7", "none": None}
        given.pop("model")
        assert members == (expected | given if not is_added else given | expected)


async def test_members_are_added_to_a_translated_request_too(tmp_path: Path) -> None:
    async with providers() as (provider,):
        text = configuration(ProviderEntry(provider.port, "anthropic", more="body: {service_tier: auto, top_k: 3}"))
        async with gateway(text, tmp_path) as running:
            provider.plays(whole(MESSAGE.replace(b"[]", b'[{"type":"text","text":"hi"}]')))
            await asked(running, provider, b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":5}')
            sent = json.loads(provider.received[-1].body)
            assert (sent["service_tier"], sent["top_k"], sent["model"], sent["max_tokens"]) == ("auto", 3, "real-0", 5)


async def test_a_request_without_such_settings_is_what_it_was(tmp_path: Path) -> None:
    async with providers() as (provider,), gateway(entry(provider.port), tmp_path) as running:
        line, sent = await asked(running, provider, b'{"model":"m","messages":[]}', query="?x=1")
        assert (line, sent) == ("POST /v1/chat/completions?x=1 HTTP/1.1", b'{"model":"real-0","messages":[]}')
