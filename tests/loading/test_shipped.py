"""The shipped files in config/ load, and the catalogue has exactly the documented models, prices and aliases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.snapshot import NANO, Model, Snapshot
from kyma_proxy.core.accounts.quantities import is_measured
from kyma_proxy.loading.compiling import load

CONFIG = Path(__file__).parents[2] / "config"
FILES = sorted(path.name for path in CONFIG.glob("*.yaml"))


class Row(NamedTuple):
    """One line of the catalogue: owner, context, maximal output, dollars per million tokens in and out, image input."""

    owned_by: str
    context: int
    max_output: int
    input: float
    output: float
    images: bool = False


CATALOGUE = {
    "qwen-3.6-plus": Row("Alibaba", 131072, 32768, 0.68, 4.05),
    "qwen-3-coder": Row("Alibaba", 131072, 32768, 0.68, 2.16),
    "qwen-3-32b": Row("Alibaba", 32768, 8192, 0.39, 0.81),
    "gemma-4-31b": Row("Google", 131072, 8192, 0.19, 0.54, images=True),
    "minimax-m2.5": Row("MiniMax", 196608, 32768, 0.41, 1.62),
    "minimax-m2.7": Row("MiniMax", 204800, 32768, 0.41, 1.62),
    "deepseek-v3": Row("DeepSeek", 163840, 8192, 0.81, 2.30),
    "deepseek-r1": Row("DeepSeek", 65536, 32768, 0.68, 2.90),
    "gemini-2.5-flash": Row("Google", 1048576, 8192, 0.41, 3.38, images=True),
    "gemini-3-flash": Row("Google", 1048576, 8192, 0.68, 4.05, images=True),
    "llama-3.3-70b": Row("Meta", 131072, 8192, 1.19, 1.19),
    "gpt-oss-120b": Row("OpenAI", 131072, 8192, 0.20, 0.81),
    "kimi-k2.5": Row("Moonshot", 262144, 32768, 0.68, 3.78, images=True),
    "kimi-k2.6": Row("Moonshot", 262144, 32768, 1.28, 5.40, images=True),
    "glm-5.1": Row("Zhipu", 203776, 65536, 1.89, 5.94),
    "glm-4.5-air": Row("Zhipu", 131072, 8192, 0.18, 1.15),
    "glm-4.7-flash": Row("Zhipu", 203776, 65536, 0.08, 0.54),
}
IMAGES = {
    "flux-1.1-ultra": ("Black Forest Labs", 0.081),
    "flux-kontext-pro": ("Black Forest Labs", 0.054),
    "ideogram-v3": ("Ideogram", 0.108),
    "recraft-v3": ("Recraft", 0.054),
}
OTHERS = {
    "whisper-large-v3": ("transcriptions, translations", "groq, together"),
    "whisper-1": ("transcriptions, translations", "openai"),
    "gpt-4o-mini-tts": ("speech", "openai"),
    "orpheus-english": ("speech", "groq"),
    "omni-moderation": ("moderations", "openai"),
    "mistral-moderation": ("moderations", "mistral"),
    "rerank-v3.5": ("rerank", "cohere"),
    "rerank-2.5": ("embeddings, rerank", "voyage"),
}
"""The models that do not converse: their endpoints and their providers."""
ALIASES = {
    "best": "qwen-3.6-plus",
    "fast": "llama-3.3-70b",
    "code": "kimi-k2.6",
    "agent": "kimi-k2.6",
    "reasoning": "deepseek-r1",
    "vision": "gemma-4-31b",
    "long-context": "gemini-2.5-flash",
    "cheap": "glm-4.7-flash",
    "balanced": "deepseek-v3",
}


def shipped(name: str, *, keys: bool) -> Snapshot:
    """A shipped file with all its variables set, or without keys: only with the ports, which the demo sets itself."""
    text = (CONFIG / name).read_text(encoding="utf-8")
    variables = re.findall(r"\$\{(\w+)\}", text)
    ports = {variable: "9100" for variable in variables if variable.endswith("_PORT")}
    return load(text, {variable: f"secret-of-{variable.lower()}" for variable in variables if keys} | ports)


@pytest.fixture(scope="module")
def kyma() -> Snapshot:
    return shipped("kyma.yaml", keys=True)


def dollars(nano: int | None) -> float:
    """Dollars as they are written in the file: the division gives exactly that number."""
    assert nano is not None
    return nano / NANO


def text_models(snapshot: Snapshot) -> dict[str, Model]:
    return {model.id: model for model in snapshot.models.values() if not model.is_image and model.id not in OTHERS}


def test_the_documented_files_exist() -> None:
    assert {"kyma.yaml", "sidecar.yaml", "demo.yaml"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_file_loads_with_every_key_and_nothing_is_off(name: str) -> None:
    assert not [line for line in shipped(name, keys=True).warnings if "is off" in line.message or "no source" in line.message]


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_file_loads_without_any_key(name: str) -> None:
    snapshot = shipped(name, keys=False)
    known = ("is off: the environment variable", "has no source", "are checked, not used")
    assert all(any(words in line.message for words in known) for line in snapshot.warnings)


@pytest.mark.parametrize("name", FILES)
def test_every_provider_of_a_shipped_file_has_a_source_or_a_pattern_to_uncomment(name: str) -> None:
    snapshot = shipped(name, keys=True)
    used = {source.provider.name for model in snapshot.models.values() for source in (*model.pool, *model.reserve)}
    patterns = re.findall(r"^  # - \{id: .*\*\", provider: (\w+)\}$", (CONFIG / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert used | set(patterns) == set(snapshot.providers)


def test_the_patterns_of_the_catalogue_can_be_uncommented() -> None:
    text = re.sub(r"^  # (- \{id: .*\*)", r"  \1", (CONFIG / "kyma.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(pattern.model.id for pattern in load(text, {}).patterns) == ["anthropic/*", "deepseek/*", "gpt-*"]


@pytest.mark.parametrize("name", ["kyma.yaml", "sidecar.yaml", "demo.yaml"])
def test_credentials_go_over_tls_only_and_come_from_the_environment(name: str) -> None:
    for one in shipped(name, keys=True).providers.values():
        has_key = b"secret-of-" in one.header_lines
        assert has_key == (one.origin.scheme == "https"), one.name


def test_the_catalogue_is_the_documented_one(kyma: Snapshot) -> None:
    assert {
        model.id: Row(
            model.owned_by,
            model.context_window or 0,
            model.max_output_tokens or 0,
            dollars(model.price.input),
            dollars(model.price.output),
            images=model.input_modalities == ("text", "image"),
        )
        for model in text_models(kyma).values()
    } == CATALOGUE


@pytest.mark.parametrize("model", CATALOGUE)
def test_every_text_model_takes_tools_and_caches_at_a_tenth(kyma: Snapshot, model: str) -> None:
    entry = kyma.models[model]
    assert entry.supports_tools
    assert entry.supports_caching
    assert entry.price.input is not None
    assert entry.price.cached_input == entry.price.input // 10
    assert entry.output_modalities == ("text",)
    assert entry.input_modalities in (("text",), ("text", "image"))


def test_the_image_models_are_the_documented_ones(kyma: Snapshot) -> None:
    images = {model.id: (model.owned_by, dollars(model.price.image)) for model in kyma.models.values() if model.is_image}
    assert images == IMAGES
    assert kyma.models["flux-kontext-pro"].input_modalities == ("text", "image")


def test_what_does_not_converse_is_asked_at_its_endpoints_only(kyma: Snapshot) -> None:
    models = {name: kyma.models[name] for name in OTHERS}
    assert {
        name: (", ".join(sorted(model.pool[0].endpoints)), ", ".join(source.provider.name for source in model.pool))
        for name, model in models.items()
    } == OTHERS
    for model in models.values():
        assert all(source.endpoints == model.pool[0].endpoints for source in model.pool)
        assert is_measured(model.price) or None not in (model.price.input, model.price.output)


@pytest.mark.parametrize("endpoint", ["transcriptions", "translations", "speech", "moderations", "rerank"])
def test_each_endpoint_has_two_providers_or_more(kyma: Snapshot, endpoint: str) -> None:
    routes = [kyma.routes[endpoint][name] for name in OTHERS]
    assert len({source.provider.name for route in routes for source in route.pool}) >= 2


def test_the_aliases_are_the_documented_ones(kyma: Snapshot) -> None:
    assert dict(kyma.aliases) == ALIASES


def test_every_text_model_has_a_substitute_and_the_aggregator(kyma: Snapshot) -> None:
    assert set(kyma.fallbacks) == set(CATALOGUE)
    for model in text_models(kyma).values():
        assert [source.provider.name for source in model.reserve or model.pool] == ["openrouter"], model.id


def test_every_text_model_is_answered_by_more_hosts_than_one(kyma: Snapshot) -> None:
    for model in text_models(kyma).values():
        asked = [kyma.models[name] for name in (model.id, *kyma.fallbacks[model.id])]
        hosts = {source.provider.name for one in asked for source in (*one.pool, *one.reserve)}
        assert len(hosts - {"openrouter"}) >= 1, model.id


DELISTED = (
    *(f"accounts/fireworks/models/{name}" for name in (
        "qwen3p6-plus", "qwen3-coder-480b-a35b-instruct", "minimax-m2p5", "minimax-m2p7", "deepseek-v3p1", "deepseek-r1-0528",
        "llama-v3p3-70b-instruct", "kimi-k2p5", "kimi-k2p6", "glm-5p1", "glm-4p5-air",
    )),
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", "google/gemma-4-31B-it", "MiniMaxAI/MiniMax-M2.5", "MiniMaxAI/MiniMax-M2.7",
    "deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-R1", "moonshotai/Kimi-K2.5", "moonshotai/Kimi-K2.6", "zai-org/GLM-5.1",
    "llama-3.3-70b-versatile", "qwen3-coder-480b-a35b-instruct", "kimi-k2.5", "MiniMax-M2.5",
)  # fmt: skip


def test_no_source_names_a_model_that_its_host_has_dropped(kyma: Snapshot) -> None:
    named = {source.model for model in kyma.models.values() for source in (*model.pool, *model.reserve)}
    assert named.isdisjoint(DELISTED)


def test_each_source_of_a_text_model_has_its_state_beside_it() -> None:
    text = (CONFIG / "kyma.yaml").read_text(encoding="utf-8").partition("\nmodels:")[2].partition("image models")[0]
    sources = re.findall(r"^      - \{provider: .*$", text, re.MULTILINE)
    assert len(sources) > len(CATALOGUE)
    assert [line for line in sources if not re.search(r"\}  # \S.*", line)] == []


@pytest.mark.parametrize("model", CATALOGUE)
def test_a_substitute_takes_whatever_the_model_would_have_taken(kyma: Snapshot, model: str) -> None:
    for substitute in kyma.fallbacks[model]:
        assert CATALOGUE[substitute].context >= CATALOGUE[model].context
        assert CATALOGUE[substitute].images >= CATALOGUE[model].images


def test_the_shipped_configuration_changes_no_default(kyma: Snapshot) -> None:
    text = "providers: [{name: p, base_url: http://h, dialect: openai}]\nmodels: [{id: m, pool: [{provider: p, model: m}]}]\n"
    bare = load(text, {})
    for name in ("listen", "tls", "access_log", "drain", "cors_origins", "hosts", "max_tokens", "limits", "tiers"):
        assert getattr(kyma, name) == getattr(bare, name)
    assert kyma.models["glm-5.1"].pool[0].timeouts == bare.models["m"].pool[0].timeouts
    assert kyma.admin is not None
    assert bare.admin is not None
    assert kyma.admin.listen == bare.admin.listen


def test_the_demo_answers_without_a_key_in_both_dialects() -> None:
    demo = shipped("demo.yaml", keys=False)
    on = {model.id: model.pool[0] for model in demo.models.values() if not model.pool[0].provider.off}
    assert {name: (source.provider.name, source.provider.dialect) for name, source in on.items()} == {
        "simulated": ("simulated", "openai"), "simulated-claude": ("simulated-anthropic", "anthropic"),
        "simulated-image": ("simulated-queue", "fal_queue"),
    }  # fmt: skip
    assert {source.provider.origin.port for source in on.values()} == {9100}
    assert dict(demo.aliases) == {"default": "simulated"}
    assert (demo.models["simulated"].price.input, demo.models["simulated"].price.output) == (0, 0)


def test_the_demo_without_its_port_is_a_problem_that_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="KYMA_SIMULATED_PORT is not set"):
        load((CONFIG / "demo.yaml").read_text(encoding="utf-8"), {})
