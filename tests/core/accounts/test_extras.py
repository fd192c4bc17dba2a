"""A metered caller gets nothing for which the gateway knows no price, and ordinary requests are never refused."""

from __future__ import annotations

import json

import pytest

from kyma_proxy.config.snapshot import NANO, Price
from kyma_proxy.core.accounts.charging import hold_for
from kyma_proxy.core.accounts.extras import UNNAMED, Extras, refuse_unpriced, with_extras
from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.errors import GatewayError, Kind

PLAIN = Price(input=NANO, output=2 * NANO)
PRICED = Price(input=NANO, output=2 * NANO, per_search=10_000_000, priority=2000, flex=500)
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "tools": [SEARCH]}}}


def extras(document: dict[str, object]) -> Extras | None:
    written = read_routing_fields(json.dumps({"model": "m"} | document).encode(), is_metered=True).written
    assert written is not None
    return written.extras


def refusal(document: dict[str, object], price: Price) -> str | None:
    """The `param` of the refusal, if there is one."""
    found = extras(document)
    if found is None:
        return None
    try:
        refuse_unpriced(found, price)
    except GatewayError as error:
        return error.param if error.kind is Kind.INVALID_REQUEST and "price does not name it" in error.message else "?"
    return None


@pytest.mark.parametrize("document", [
    {}, {"messages": [{"role": "user", "content": "web_search"}]}, {"tools": None}, {"tools": []}, {"tools": [FUNCTION] * 9},
    {"tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]}, {"tools": [{"type": "local_shell"}]},
    {"tools": [{"name": "f", "input_schema": {}}, {"type": None, "name": "f"}, {"type": "custom", "name": "f"}]},
    {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728"}, {"type": "memory_20250818"}]},
    {"tools": [{"type": "computer_20250124"}, {"type": "computer_use_preview"}, {"type": "apply_patch"}]},
    {"tools": [{"type": "tool_search_tool_bm25_20251119", "name": "x"}, {"type": "tool_search_tool_regex"}]},
    {"tools": [{"type": "shell", "environment": {"type": "local"}}]},
    {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}]},
    {"background": False}, {"background": None}, {"service_tier": None}, {"service_tier": "auto"}, {"service_tier": "default"},
    {"service_tier": "standard_only"}, {"service_tier": "on_demand"}, {"modalities": ["text"]}, {"modalities": None},
    {"prompt": "a completion's prompt"}, {"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"prompt": None}, {"plugins": []},
    {"previous_response_id": None}, {"conversation": None}, {"speed": "standard"}, {"mcp_servers": []}, {"audio": None},
    {"store": True}, {"prediction": {"type": "content", "content": "x"}}, {"n": 3}, {"metadata": {"background": "true"}},
    {"some_new_member": {"tools": [SEARCH]}}, {"web_search_options": None}, {"enable_search": False},
])  # fmt: skip
def test_what_costs_only_tokens_asks_for_nothing_more(document: dict[str, object]) -> None:
    assert extras(document) is None


@pytest.mark.parametrize(("document", "param"), [
    ({"background": True}, "background"), ({"background": "true"}, "background"), ({"background": 1}, "background"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": {"id": "conv_1"}}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"), ({"modalities": ["text", "audio"]}, "modalities"), ({"audio": {}}, "audio"),
    ({"speed": "fast"}, "speed"), ({"inference_geo": "us"}, "inference_geo"), ({"container": "c_1"}, "container"),
    ({"mcp_servers": [{"url": "https://a.example"}]}, "mcp_servers"), ({"models": ["dear"]}, "models"),
    ({"providerOptions": {"gateway": {"models": ["dear"]}}}, "providerOptions"), ({"fallbacks": ["dear"]}, "fallbacks"),
    ({"plugins": [{"id": "web"}]}, "plugins"), ({"provider": {"order": ["dear"]}}, "provider"),
    ({"search_parameters": {"mode": "on"}}, "search_parameters"), ({"compound_custom": {}}, "compound_custom"),
    ({"service_tier": "scale"}, "service_tier"), ({"service_tier": "PRIORITY"}, "service_tier"),
    ({"service_tier": 1}, "service_tier"),
    *(({"tools": [FUNCTION, {"type": name}]}, "tools") for name in (
        "file_search", "code_interpreter", "image_generation", "mcp", "code_execution_20250825", "web_fetch_20250910", "shell",
        "builtin_function", "advisor_20260301", "mcp_toolset", "Function", "function ", "function\n", "bash_1", "",
    )),
    ({"tools": [{"type": ["function"]}]}, "tools"), ({"tools": [{"google_search": {}}]}, "tools"), ({"tools": {}}, "tools"),
    ({"tools": ["web_search"]}, "tools"), ({"tools": [None]}, "tools"), ({"tools": "web_search"}, "tools"),
    ({"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]}, "tools"),
    ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "tools"),
    ({"tools": [{"type": "function", "Type": "web_search"}]}, "tools"), ({"tools": [{"TYPE": "mcp", "name": "f"}]}, "tools"),
    ({"tools": [{"type": "shell", "environment": {"type": "local", "tYpe": "container_auto"}}]}, "tools"),
    ({"tools": [{"type": "namespace", "tools": [{"type": "function", "Type": "mcp"}]}]}, "tools"),
])  # fmt: skip
def test_what_no_price_can_name_is_refused_with_the_member_that_asks_for_it(document: dict[str, object], param: str) -> None:
    assert refusal(document, PLAIN) == refusal(document, PRICED) == param


def test_a_member_with_an_escaped_name_is_the_same_member() -> None:
    written = read_routing_fields(b'{"model":"m","b\\u0061ckground":true}', is_metered=True).written
    assert written is not None
    assert written.extras == Extras((("background", "background"),))


def test_names_that_a_caller_makes_up_are_not_repeated() -> None:
    found = extras({"tools": [{"type": "a secret\r\nof mine"}], "service_tier": "X" * 99})
    assert found == Extras(((UNNAMED, "tools"),), UNNAMED)


@pytest.mark.parametrize(("document", "param"), [
    ({"service_tier": "priority"}, "service_tier"), ({"service_tier": "flex"}, "service_tier"), ({"tools": [SEARCH]}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools"), ({"tools": [{"type": "web_search_preview_2025_03_11"}]}, "tools"),
    ({"tools": [{"type": "openrouter:web_search"}]}, "tools"), ({"web_search_options": {}}, "web_search_options"),
    ({"enable_search": True}, "enable_search"),
    ({"tools": [{"type": "namespace", "tools": [SEARCH]}]}, "tools"),
])  # fmt: skip
def test_what_the_price_names_may_be_used(document: dict[str, object], param: str) -> None:
    assert refusal(document, PLAIN) == param
    assert refusal(document, PRICED) is None


def test_what_is_included_in_the_price_of_tokens_may_be_used() -> None:
    price = Price(input=1, output=1, included=("mcp", "previous_response_id", "scale", "web_search"))
    assert refusal({"tools": [{"type": "mcp"}], "previous_response_id": "resp_1", "service_tier": "scale"}, price) is None
    assert refusal({"tools": [{"type": "mcp"}, {"type": "file_search"}]}, price) == "tools"
    assert refusal({"tools": [{"type": "web_search"}]}, price) is None
    for tools in ([{"type": "web_search_preview"}], [{"type": "web_search_preview"}, {"type": "web_search"}]):
        assert refusal({"tools": tools}, price) == "tools"


def used(searches: int | None = None, tier: str | None = None) -> Usage:
    return Usage(1, 1, None, "reported", searches=searches, service_tier=tier)


@pytest.mark.parametrize(("asked", "usage", "amount"), [
    (None, used(), 1000), (None, used(2), 20_001_000), (None, used(0), 1000), (None, used(tier="priority"), 1000),
    (Extras(tier="priority"), used(), 2000), (Extras(tier="priority"), used(tier="priority"), 2000),
    (Extras(tier="priority"), used(tier="default"), 1000), (Extras(tier="priority"), used(tier="flex"), 500),
    (Extras(tier="priority"), used(tier="new"), 2000), (Extras(tier="flex"), used(), 500), (Extras(tier="scale"), used(), 1000),
    (Extras(searches=5), used(), 10_001_000), (Extras(searches=5), used(0), 1000), (Extras(searches=5), used(7), 70_001_000),
    (Extras(searches=5), None, 50_001_000), (Extras(tier="priority", searches=1), used(1), 10_002_000),
])  # fmt: skip
def test_tiers_and_searches_cost_what_the_price_says(asked: Extras | None, usage: Usage | None, amount: int) -> None:
    assert with_extras(1000, usage, asked, PRICED) == amount


def test_without_a_price_of_their_own_tiers_and_searches_cost_nothing_more() -> None:
    assert with_extras(1000, used(9, "priority"), Extras(tier="priority", searches=9), PLAIN) == 1000


def test_a_hold_covers_the_tier_and_every_search() -> None:
    assert hold_for(1000, 0, PRICED, Extras(tier="priority", searches=3)) == 2 * 1_000_000 + 3 * 10_000_000


@pytest.mark.parametrize("name", ["tools", "models", "background", "web_search_options"])
def test_a_value_of_very_many_parts_is_refused_without_a_look_at_each(name: str) -> None:
    extras = read_routing_fields(b'{"model":"m","%b":[%b{}]}' % (name.encode(), b"{}," * 30_000), is_metered=True).written
    assert extras is not None
    assert extras.extras is not None
    with pytest.raises(GatewayError, match=f"Leave `{name}` out"):
        refuse_unpriced(extras.extras, Price(input=1, output=1))
