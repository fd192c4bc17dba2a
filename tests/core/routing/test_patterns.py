"""A model that only a pattern knows has the sources of the longest pattern that fits, and what is kept of it is bounded."""

from __future__ import annotations

import pytest

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.routing.breaker_table import MAX_NAMED_BY_CALLERS, BreakerTable
from kyma_proxy.core.routing.listing import listed_model
from kyma_proxy.core.routing.patterns import MAX_ID_CHARACTERS, MAX_ROUTES, PatternRoutes
from kyma_proxy.core.routing.resolve import Routes
from kyma_proxy.core.routing.status import status
from kyma_proxy.dialect.registry import MAIN_ENDPOINTS
from kyma_proxy.errors import GatewayError
from tests.factories import snapshot

CHAT = MAIN_ENDPOINTS["openai"]
PROVIDERS = """\
providers:
  - {name: openai, base_url: "https://openai.example/v1", dialect: openai}
  - {name: groq, base_url: "https://groq.example/v1", dialect: openai}
  - {name: router, base_url: "https://router.example/v1", dialect: openai}
  - {name: claude, base_url: "https://claude.example/v1", dialect: anthropic}
"""
PATTERNS = f"""{PROVIDERS}\
models:
  - {{id: "*", provider: openai}}
  - {{id: "groq/*", provider: groq}}
  - {{id: "groq/special-*", pool: [{{provider: router, model: "x/special-*"}}, {{provider: groq, model: "special-*"}}]}}
  - {{id: "claude-*", provider: claude}}
  - {{id: "any/*", pool: [{{provider: groq, model: always-this}}]}}
  - {{id: groq/mine, pool: [{{provider: openai, model: real}}]}}
  - {{id: own, provider: openai}}
aliases: {{fast: groq/llama}}
fallbacks: {{"*": [own, groq/qwen], own: [gpt-spare]}}
"""


@pytest.fixture(scope="module")
def patterns() -> Snapshot:
    return snapshot(PATTERNS)


@pytest.mark.parametrize(
    ("name", "pattern", "sources"),
    [
        ("gpt-4o", "*", ["openai gpt-4o"]),
        ("ft:gpt-4o:acme::x", "*", ["openai ft:gpt-4o:acme::x"]),
        ("vendor/model", "*", ["openai vendor/model"]),
        ("groq/llama-3", "groq/*", ["groq llama-3"]),
        ("groq/openai/gpt-oss", "groq/*", ["groq openai/gpt-oss"]),
        ("groq/special-1", "groq/special-*", ["router x/special-1", "groq special-1"]),
        ("claude-sonnet", "claude-*", ["claude claude-sonnet"]),
        ("any/thing", "any/*", ["groq always-this"]),
        ("own", "own", ["openai own"]),
        ("groq/mine", "groq/mine", ["openai real"]),
        ("fast", "groq/llama", ["groq llama"]),
    ],
)
def test_an_exact_id_wins_then_the_longest_prefix(patterns: Snapshot, name: str, pattern: str, sources: list[str]) -> None:
    route, is_alias = Routes().of(patterns, CHAT, name)
    assert [f"{one.provider.name} {one.model}" for one in route.pool] == sources
    assert [one.model_json.decode() for one in route.pool] == [f'"{one.partition(" ")[2]}"' for one in sources]
    assert route.model.counted_as == pattern
    assert is_alias == (name == "fast")
    assert route.model.id == ("groq/llama" if is_alias else name)


@pytest.mark.parametrize("name", ["", "*", "groq/*", "claude-*", "a b", "a\r\nb", "é", "a\0", "x" * (MAX_ID_CHARACTERS + 1)])
def test_what_is_no_id_fits_no_pattern(patterns: Snapshot, name: str) -> None:
    with pytest.raises(GatewayError, match="no model"):
        Routes().of(patterns, CHAT, name)


def test_a_pattern_has_substitutes_and_a_model_of_a_pattern_can_be_one(patterns: Snapshot) -> None:
    route, _ = Routes().of(patterns, CHAT, "gpt-4o")
    assert [one.model.id for one in route.substitutes] == ["own", "groq/qwen"]
    assert [one.model.id for one in Routes().of(patterns, CHAT, "own")[0].substitutes] == ["gpt-spare"]
    assert {"groq/llama", "groq/qwen", "gpt-spare"} <= set(patterns.models)


def test_the_routes_of_a_million_names_take_no_more_memory_than_those_of_a_thousand(patterns: Snapshot) -> None:
    routes = PatternRoutes()
    for at in range(3 * MAX_ROUTES):
        assert routes.find(patterns, "chat", f"made-up-{at}") is not None
    assert len(routes) == MAX_ROUTES


def test_a_route_is_made_once_for_each_configuration(patterns: Snapshot) -> None:
    routes = PatternRoutes()
    first = routes.find(patterns, "chat", "gpt-4o")
    assert routes.find(patterns, "chat", "gpt-4o") is first
    assert routes.find(snapshot(PATTERNS), "chat", "gpt-4o") is not first


def test_made_up_names_push_out_no_breaker_of_a_model_that_answers(patterns: Snapshot) -> None:
    table = BreakerTable()
    table.retain([source for model in patterns.entries for source in (*model.pool, *model.reserve)], patterns.models)
    routes = Routes()

    def ask(name: str, now: float, *, answers: bool) -> object:
        breaker = table.of(routes.of(patterns, CHAT, name)[0].pool[0])
        permit = breaker.acquire(now)
        if answers:
            permit.success(now, first_byte_s=0.1)
        else:
            permit.missing(now, 404)
        return breaker

    used = ask("gpt-4o", 1.0, answers=True)
    for at in range(4 * MAX_NAMED_BY_CALLERS):
        ask(f"made-up-{at}", 2.0 + at, answers=False)
        if at % 100 == 0:
            assert ask("gpt-4o", 2.5 + at, answers=True) is used
    (source,) = next(model for model in patterns.entries if model.id == "*").pool
    assert len(table.of_all(source)) == MAX_NAMED_BY_CALLERS


def test_a_reload_keeps_the_breakers_of_a_patterns_models_if_its_providers_are_the_same(patterns: Snapshot) -> None:
    table, routes = BreakerTable(), Routes()

    def reload(text: str) -> None:
        entries = snapshot(text).entries
        table.retain([source for model in entries for source in (*model.pool, *model.reserve)], [one.id for one in entries])

    reload(PATTERNS)
    source = routes.of(patterns, CHAT, "gpt-4o")[0].pool[0]
    breaker = table.of(source)
    reload(PATTERNS.replace("aliases: {fast:", "aliases: {quick:"))
    assert table.of(source) is breaker
    reload(PATTERNS.replace("openai.example", "other.example"))
    assert table.of(source) is not breaker


def test_the_status_of_a_pattern_shows_no_name_that_a_caller_chose(patterns: Snapshot) -> None:
    table, routes = BreakerTable(), Routes()
    table.retain([source for model in patterns.entries for source in model.pool], [one.id for one in patterns.entries])
    for at in range(3):
        table.of(routes.of(patterns, CHAT, f"buy-now-{at}")[0].pool[0]).acquire(1.0).success(1.0, first_byte_s=0.1)
    document = status(patterns, table, 2.0)
    assert "buy-now" not in str(document)
    models = document["models"]
    assert isinstance(models, list)
    (entry,) = (one for one in models if one["id"] == "*")
    assert (entry["status"], entry["sources"][0]["attempts_24h"]) == ("available", 3)


@pytest.mark.parametrize(
    ("provider", "name", "ident"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("groq", "llama-3", "groq/llama-3"),
        ("groq", "special-2", "groq/special-2"),
        ("router", "x/special-2", "groq/special-2"),
        ("router", "elsewhere", None),
        ("claude", "claude-opus", "claude-opus"),
        ("openai", "claude-opus", None),  # `claude-*` takes it elsewhere
        ("openai", "own", None),  # it is an entry of its own
        ("groq", "mine", None),
    ],
)
def test_a_listed_model_has_the_id_that_leads_to_it(patterns: Snapshot, provider: str, name: str, ident: str | None) -> None:
    model = listed_model(patterns, provider, name)
    assert (None if model is None else model.id) == ident


def test_a_listed_model_has_one_id_the_shortest() -> None:
    both = f"{PROVIDERS}models:\n  - {{id: 'openai/*', provider: openai}}\n  - {{id: '*', provider: openai}}\n"
    model = listed_model(snapshot(both), "openai", "gpt-4o")
    assert model is not None
    assert model.id == "gpt-4o"
