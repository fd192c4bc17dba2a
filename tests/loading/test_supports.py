"""What a source takes is said at its provider, its model and itself; the innermost decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from kyma_proxy.config.snapshot import Source
from kyma_proxy.config.supports import UNSPECIFIED
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.core.routing.patterns import pattern_route
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.loading.compiling import load

CHAT: Endpoint = RELAYED[b"/v1/chat/completions"]
ROOT = Path(__file__).parents[2]


def source(model: str = "", at: str = "", provider: str = "", name: str = "gpt-5.4-mini") -> Source:
    text = (
        f"providers: [{{name: p, base_url: 'http://p.example', dialect: openai, {provider}}}]\n"
        f"models: [{{id: m, {model} pool: [{{provider: p, model: '{name}', {at}}}]}}]\n"
    )
    return load(text, {}).models["m"].pool[0]


def test_a_source_of_which_nothing_is_written_leaves_all_to_its_dialect() -> None:
    assert source().supports == UNSPECIFIED


@pytest.mark.parametrize(("provider", "model", "at", "stop"), [
    ("supports: {stop: 1}", "", "", 1), ("supports: {stop: 1}", "supports: {stop: 2},", "", 2),
    ("supports: {stop: 1}", "supports: {stop: 2},", "supports: {stop: 3}", 3),
    ("supports: {stop: 1}, supports_by_model: {'gpt-5*': {stop: 4}}", "", "", 4),
    ("supports_by_model: {'gpt-5*': {stop: 4}, gpt-5.4-mini: {stop: 5}, 'gpt-5.4*': {stop: 6}}", "", "", 5),
    ("supports: {stop: 1}, supports_by_model: {'o*': {stop: 4}}", "", "", 1),
    ("supports_by_model: {'gpt-5*': {stop: 4}}", "supports: {stop: 0},", "", 0),
])  # fmt: skip
def test_the_innermost_level_decides(provider: str, model: str, at: str, stop: int) -> None:
    assert source(model, at, provider).supports.stop == stop


def test_all_levels_count_for_different_keys() -> None:
    made = source(
        "supports: {images: false},", "supports: {drop_params: [seed]}",
        "supports: {stop: 1}, supports_by_model: {'gpt-5*': {tool_name: 32}, 'gpt-5.4*': {reasoning_effort: []}}",
    ).supports  # fmt: skip
    assert (made.images, made.drop_params, made.stop, made.tool_name, made.reasoning_effort) == (False, ("seed",), 1, 32, ())


def test_a_model_that_a_pattern_knows_takes_what_is_written_for_its_name() -> None:
    text = (
        "providers: [{name: p, base_url: 'http://p.example', dialect: openai, supports: {stop: 1},"
        " supports_by_model: {'gpt-5*': {stop: 4}}}]\n"
        "models: [{id: 'p/*', provider: p}]\n"
    )
    snapshot = load(text, {})
    found = {}
    for name in ("p/gpt-5.4", "p/llama"):
        route = pattern_route(snapshot, CHAT.key, name)
        assert route is not None
        found[name] = route.pool[0].supports.stop
    assert found == {"p/gpt-5.4": 4, "p/llama": 1}


@pytest.mark.parametrize(("provider", "model", "effort", "beside_tools"), [
    ("openai", "gpt-4o", (), None), ("openai", "o3-mini", None, None),
    ("openai", "gpt-5-mini", ("minimal", "low", "medium", "high"), None),
    ("openai", "gpt-5.4", ("none", "low", "medium", "high", "xhigh"), ()),
    ("openai", "gpt-5.6-terra", ("none", "low", "medium", "high", "xhigh"), ("none",)),
    ("groq", "llama-3.3-70b-versatile", (), None), ("groq", "openai/gpt-oss-120b", ("low", "medium", "high"), None),
    ("groq", "qwen/qwen3-32b", ("none", "default"), None), ("anthropic", "claude-opus-4-7", None, None),
])  # fmt: skip
def test_the_shipped_catalogue_knows_what_effort_its_models_take(
    provider: str, model: str, effort: tuple[str, ...] | None, beside_tools: tuple[str, ...] | None
) -> None:
    text = (
        (ROOT / "config" / "kyma.yaml")
        .read_text()
        .replace("\nmodels:\n", f"\nmodels:\n  - {{id: '*', provider: {provider}}}\n", 1)
    )
    keys = {f"{name}_API_KEY": "a-key" for name in ("OPENAI", "GROQ", "ANTHROPIC")}
    route = pattern_route(load(text, keys), CHAT.key, model)
    assert route is not None
    supports = route.pool[0].supports
    assert (supports.reasoning_effort, supports.reasoning_effort_with_tools) == (effort, beside_tools)
