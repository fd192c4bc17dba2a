"""A variant of an image is held and charged at its own price, the same at both moments, and callers can read it before."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.core.jobs.price import image_price
from kyma_proxy.loading.compiling import load
from tests.dialect.images.material import request
from tests.jobs.image_gateway import OPENAI, URL, image_gateway, images_answer, play, submitted_and_ended

BY = ", by: {seed: {'7': 0.07, 8*: 0.08}, size: {512x512: 0.02}, seed+size: {9+512x512: 0.2}}"


@pytest.mark.parametrize(("members", "price"), [
    ({}, 0.05),
    ({"seed": 7}, 0.07),
    ({"seed": "7"}, 0.07),
    ({"seed": 81}, 0.08),
    ({"seed": 9}, 0.05),
    ({"size": "512x512"}, 0.02),
    ({"size": "512x512", "seed": 7}, 0.07),
    ({"size": "512x512", "extra": {"seed": 9}}, 0.2),
    ({"size": "1024x1024", "seed": 9}, 0.05),
])  # fmt: skip
async def test_the_same_price_is_held_and_charged(tmp_path: Path, members: dict[str, object], price: float) -> None:
    async with image_gateway(tmp_path, OPENAI, price=BY) as (images, provider):
        play(provider, images_answer(URL, URL))
        caller = await images.caller()
        job = await submitted_and_ended(caller, n=2, **members)
        assert (job["status"], job["estimated_cost"], job["charged_amount"]) == ("succeeded", 2 * price, 2 * price)
        held, given_back, charged = await images.ledger(caller)
        assert (held[1], given_back[1], charged[1]) == pytest.approx((-2 * price, 2 * price, -2 * price))


async def test_the_prices_of_variants_are_published(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, price=BY) as (images, _):
        caller = await images.caller()
        by = {"seed": {"7": 0.07, "8*": 0.08}, "size": {"512x512": 0.02}, "seed+size": {"9+512x512": 0.2}}
        pricing = (await caller.ask("GET", "/v1/pricing")).json
        assert [one.get("by") for one in pricing["media"]] == [None, by]
        assert (await caller.ask("GET", "/v1/models/pic")).json["pricing"]["by"] == by


def _load(price: str, modality: str = "image", dialect: str = "openai_images") -> object:
    image = ", image: {extra: [style]}" if modality == "image" else ""
    text = (
        f"providers: [{{name: p, base_url: https://p.example/v1, dialect: {dialect}}}]\n"
        f"models: [{{id: m, output_modalities: [{modality}], price: {price}, pool: [{{provider: p, model: x}}]{image}}}]"
    )
    return load(text, MappingProxyType({}))


@pytest.mark.parametrize(("price", "message"), [
    ("{image: 1, by: {color: {red: 2}}}", "color is no member that callers can send"),
    ("{image: 1, by: {style+size: {vector: 2}}}", "needs as many values"),
    ("{by: {style: {vector: 2}}}", "is needed beside `by`"),
])  # fmt: skip
def test_a_price_that_no_request_could_have_is_an_error(price: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _load(price)


def test_prices_of_variants_are_for_images_only() -> None:
    with pytest.raises(ConfigError, match="has no effect"):
        _load("{image: 1, by: {size: {1x1: 2}}}", "text", "openai")


@pytest.mark.parametrize(("style", "usd"), [
    (b'"vector_illustration"', 0.108), (b'"vector_illustration/line_art"', 0.108), (rb'"vector\u005fillustration"', 0.108),
    (b'"realistic_image"', 0.054), (b"[1]", 0.054), (b'{"a":1}', 0.054),
])  # fmt: skip
def test_a_vector_of_the_shipped_catalogue_costs_twice_as_much(style: bytes, usd: float) -> None:
    text = (Path(__file__).parents[2] / "config" / "kyma.yaml").read_text()
    price = load(text, MappingProxyType({"RECRAFT_API_TOKEN": "t"})).models["recraft-v3"].price
    assert image_price(price, request(extra=(("style", style),))) == round(usd * 1e9)
