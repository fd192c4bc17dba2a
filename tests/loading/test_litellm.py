"""A LiteLLM proxy's configuration is converted as far as it can be said, what can't is named, and no key is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from kyma_proxy.config.snapshot import NANO, Snapshot
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.known_providers import read_known_providers
from kyma_proxy.loading.litellm import Converted, NotLiteLLM, convert

KNOWN = read_known_providers((Path(__file__).parents[2] / "config" / "kyma.yaml").read_text(encoding="utf-8"))
VARIABLES = (
    "AZURE_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY", "BASE", "OTHER_KEY",
)  # fmt: skip
ENVIRONMENT = dict.fromkeys(VARIABLES, "http://a-secret-value")


def converted(models: str, more: str = "") -> tuple[Converted, Snapshot]:
    """The conversion of these entries of model_list, and what it configures."""
    made = convert(f"model_list:\n{models}{more}", KNOWN)
    return made, load(made.text, ENVIRONMENT)


def one(name: str, params: str, more: str = "") -> str:
    return f"  - model_name: '{name}'\n    litellm_params: {{{params}}}\n{more}"


@pytest.mark.parametrize(
    ("params", "provider", "url", "model", "key"),
    [
        ("model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY", "openai", "https://api.openai.com/v1", "gpt-4o", True),
        ("model: gpt-4o", "openai", "https://api.openai.com/v1", "gpt-4o", True),
        ("model: claude-3-haiku", "anthropic", "https://api.anthropic.com/v1", "claude-3-haiku", True),
        ("model: groq/openai/gpt-oss", "groq", "https://api.groq.com/openai/v1", "openai/gpt-oss", True),
        ("model: mistral/mistral-large", "mistral", "https://api.mistral.ai/v1", "mistral-large", True),
        ("model: ollama/llama3, api_base: 'http://localhost:11434'", "ollama", "http://localhost:11434/v1", "llama3", False),
        ("model: hosted_vllm/x/y, api_base: 'http://vllm:8000/v1'", "hosted-vllm", "http://vllm:8000/v1", "x/y", False),
        ("model: openai/x/y, api_base: 'http://vllm:8000/v1', api_key: none", "vllm", "http://vllm:8000/v1", "x/y", False),
        ("model: openai/x, api_base: os.environ/BASE, api_key: os.environ/OTHER_KEY", None, "http://a-secret-value", "x", True),
    ],
)
def test_a_deployment_becomes_a_source(params: str, provider: str | None, url: str, model: str, key: bool) -> None:
    made, snapshot = converted(one("m", params))
    (source,) = snapshot.models["m"].pool
    origin = source.provider.origin
    assert f"{origin.scheme}://{origin.authority}{source.provider.base_path.decode()}" == url
    assert source.model == model
    assert (b"http://a-secret-value" in source.provider.secrets) == key
    assert made.notes == ()
    assert provider in (None, source.provider.name)


def test_an_azure_deployment_is_asked_at_its_own_path() -> None:
    _, snapshot = converted(
        one("gpt", "model: azure/my-gpt, api_base: 'https://r.openai.azure.com/', api_key: os.environ/AZURE_KEY")
    )
    (source,) = snapshot.models["gpt"].pool
    target = source.provider.targets[b"/chat/completions"]
    assert target == b"/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    assert b"api-key: http://a-secret-value\r\n" in source.provider.header_lines


def test_deployments_of_one_name_are_a_pool_by_their_rates_and_later_orders_the_reserve() -> None:
    made, snapshot = converted(
        one("m", "model: openai/a, rpm: 60") + one("m", "model: groq/b, rpm: 6") + one("m", "model: openai/c, order: 2")
    )
    model = snapshot.models["m"]
    assert [(source.provider.name, source.model, source.weight) for source in model.pool] == [
        ("openai", "a", 60),
        ("groq", "b", 6),
    ]
    assert [source.model for source in model.reserve] == ["c"]
    assert made.notes == ("model m: rpm is the weight of its source here, and no limit",)


def test_wildcards_are_patterns() -> None:
    models = one("*", "model: 'openai/*'") + one("anthropic/*", "model: 'anthropic/*'")
    _, snapshot = converted(models, "litellm_settings: {fallbacks: [{'*': ['*', m]}]}\n")
    assert [(one.model.id, one.model.pool[0].provider.name, one.model.pool[0].model) for one in snapshot.patterns] == [
        ("anthropic/*", "anthropic", "*"),
        ("*", "openai", "*"),
    ]


def test_aliases_fallbacks_and_prices_are_carried_over() -> None:
    cost = "    model_info: {input_cost_per_token: 0.0000025, output_cost_per_token: 0.00001}\n"
    made, snapshot = converted(
        one("a", "model: openai/a", cost) + one("b", "model: openai/b") + one("c", "model: openai/c"),
        "router_settings: {model_group_alias: {x: a, y: {model: b, hidden: true}}, fallbacks: [{a: [b, c]}]}\n"
        "litellm_settings: {default_fallbacks: [c], drop_params: true, num_retries: 3}\n",
    )
    assert dict(snapshot.aliases) == {"x": "a", "y": "b"}
    assert dict(snapshot.fallbacks) == {"a": ("b", "c"), "b": ("c",)}
    assert (snapshot.models["a"].price.input, snapshot.models["a"].price.output) == (25 * NANO // 10, 10 * NANO)
    assert made.notes == ()


@pytest.mark.parametrize(
    ("models", "more", "note"),
    [
        (one("m", "model: bedrock/anthropic.claude"), "", "model m is left out: bedrock/ has no counterpart here"),
        (one("m", "model: azure/x"), "", "model m is left out: azure/"),
        (one("m", "model: openai/dall-e-3", "    model_info: {mode: image_generation}\n"), "", "its mode is image_generation"),
        (one("two words", "model: openai/x"), "", "model 'two words' is left out"),
        (one("m", "model: 'openai/*'"), "", "needs a model_name that ends with `*` too"),
        ("  - 7\n", "", "an entry of model_list without model_name"),
        (
            one("m", "model: openai/x, temperature: 0, max_tokens: 5"),
            "",
            "max_tokens, temperature of its litellm_params is not",
        ),
        (one("m", "model: openai/x, timeout: 5"), "", "its timeout is the wait for an answer's first byte"),
        (one("m", "model: openai/x"), "litellm_settings: {callbacks: [prometheus]}\n", "litellm_settings.callbacks is not"),
        (one("m", "model: openai/x"), "router_settings: {model_group_alias: {m: m}}\n", "alias m is left out"),
        (one("m", "model: openai/x"), "general_settings: {master_key: sk-1}\n", "here no key is needed, or each caller has"),
        (one("m", "model: openai/x"), "environment_variables: {REDIS_HOST: x}\n", "environment_variables.REDIS_HOST is not"),
    ],
)
def test_what_can_not_be_carried_over_is_in_a_note_and_a_comment(models: str, more: str, note: str) -> None:
    made = convert(f"model_list:\n{one('kept', 'model: openai/kept')}{models}{more}", KNOWN)
    assert [note in line for line in made.notes] == [True]
    assert f"#   - {made.notes[0]}" in made.text
    assert "kept" in load(made.text, ENVIRONMENT).models


def test_no_key_is_copied_and_none_goes_to_another_server() -> None:
    made, snapshot = converted(
        one("a", "model: openai/a, api_key: sk-written-in-the-file")
        + one("b", "model: openai/b, api_base: 'https://elsewhere.example/v1', api_key: sk-written-in-the-file")
    )
    assert "sk-written" not in made.text
    assert [note.partition(": ")[2] for note in made.notes] == [
        "the key in the file is not copied; set OPENAI_API_KEY in the environment",
        "the key in the file is not copied; give its provider an api_key",
    ]
    assert snapshot.providers["elsewhere.example"].secrets == ()


def test_a_note_is_one_comment_whatever_is_in_it() -> None:
    made = convert(
        'model_list: [{model_name: "a\\nlisten: x", litellm_params: {model: x}}, {model_name: b, litellm_params: {model: x}}]',
        KNOWN,
    )
    assert load(made.text, ENVIRONMENT).models.keys() == {"b"}


@pytest.mark.parametrize(
    "text", ["", "[]", "a: b", "model_list: 1", "model_list: [", "\x00", "model_list: !!python/object:x {}"]
)
def test_what_is_no_configuration_of_litellm_is_refused(text: str) -> None:
    with pytest.raises(NotLiteLLM):
        convert(text, KNOWN)
