"""Patterns in `models`, and `provider` in place of a pool: what is accepted, what is refused, and what they cost."""

from __future__ import annotations

import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.routing.patterns import model_of, pattern_of, pattern_route
from tests.factories import snapshot

PROVIDERS = """\
providers:
  - {name: one, base_url: "https://one.example/v1", dialect: openai}
  - {name: art, base_url: "https://art.example", dialect: fal_queue}
models:
"""
PAID = "accounts: {required: true}\n"


@pytest.mark.parametrize(
    ("models", "path", "words"),
    [
        ("  - {id: m}\n", "models[0]", "pool is missing; `provider: NAME` will do"),
        ("  - {id: m, provider: one, pool: [{provider: one, model: m}]}\n", "models[0].provider", "leave it or `pool` out"),
        ("  - {id: '*', provider: onne}\n", "models[0].provider", "there is no provider onne; did you mean one?"),
        ("  - {id: 'a*b', provider: one}\n", "models[0].id", ""),
        ("  - {id: '**', provider: one}\n", "models[0].id", ""),
        ("  - {id: m, provider: one, prices: {m: {input: 1}}}\n", "models[0].prices", "a single model has a `price`"),
        ("  - {id: m, pool: [{provider: one, model: 'x*'}]}\n", "models[0].pool[0].model", "this id is no pattern"),
        ("  - {id: '*', provider: art}\n", "models[0]", "this model needs openai or anthropic"),
        (
            "  - {id: '*', output_modalities: [image], pool: [{provider: art, model: x}]}\n",
            "models[0].output_modalities",
            "give each an entry of its own",
        ),
        ("  - {id: 'a/*', provider: one, prices: {b: {input: 1}}}\n", "models[0].prices.b", "is no id that a/* stands for"),
        ("  - {id: '*', provider: one}\n  - {id: '*', provider: one}\n", "models[1].id", "* is there twice"),
        ("  - {id: '*', provider: one}\nfallbacks: {'b*': [m]}\n", "fallbacks.b*", "there is no model b*"),
        ("  - {id: 'a/*', provider: one}\naliases: {x: b}\n", "aliases.x", "there is no model b"),
        (f"  - {{id: '*', provider: one}}\n{PAID}", "models[0].price", "callers pay, so the models need prices"),
        (f"  - {{id: '*', provider: one, price: {{input: 1}}}}\n{PAID}", "models[0].price", "callers pay"),
    ],
)
def test_a_mistake_in_a_pattern_is_told_with_its_place(models: str, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        snapshot(PROVIDERS + models)
    problems = [problem for problem in raised.value.problems if problem.path == path]
    assert [words in problem.message for problem in problems] == [True]
    assert problems[0].line >= 5


def test_a_provider_in_place_of_a_pool_is_a_pool_of_one_source() -> None:
    short = snapshot(f"{PROVIDERS}  - {{id: vendor/m, provider: one}}\n")
    long = snapshot(f"{PROVIDERS}  - {{id: vendor/m, pool: [{{provider: one, model: vendor/m}}]}}\n")
    assert short.models["vendor/m"].pool == long.models["vendor/m"].pool


PRICED = f"""{PROVIDERS}\
  - id: "*"
    provider: one
    price: {{input: 9, output: 9}}
    prices: {{gpt-4o: {{input: 1, output: 2}}, gpt-4o-mini*: {{input: 3, output: 4}}, gpt-*: {{input: 5, output: 6}}}}
"""


@pytest.mark.parametrize(
    ("name", "usd"), [("gpt-4o", 1), ("gpt-4o-mini", 3), ("gpt-4o-mini-2026", 3), ("gpt-4o-x", 5), ("o3", 9), ("gpt", 9)]
)
def test_the_price_that_is_nearest_counts(name: str, usd: int) -> None:
    paid = snapshot(PRICED + PAID)
    pattern = pattern_of(paid, name)
    assert pattern is not None
    model = model_of(pattern, name, needs_price=True)
    assert model is not None
    assert model.price.input == usd * NANO


def test_a_model_without_a_price_is_not_there_for_callers_who_pay() -> None:
    paid = snapshot(PRICED.replace("    price: {input: 9, output: 9}\n", "") + PAID)
    assert pattern_route(paid, "chat", "gpt-5") is not None
    assert pattern_route(paid, "chat", "o3") is None
    free = snapshot(PRICED.replace("    price: {input: 9, output: 9}\n", ""))
    assert pattern_route(free, "chat", "o3") is not None
