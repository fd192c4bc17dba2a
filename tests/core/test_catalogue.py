"""The public pages about the configuration have the documented shape, and are made once."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.catalogue import Catalogue, Page, make_catalogue, make_page
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.loading.tiers import SHIPPED_TIERS
from tests.factories import DEFAULT, default_snapshot, snapshot

FIELDS = ("ts", "request_id")


def catalogue(of: Snapshot | None = None) -> Catalogue:
    return made(of or default_snapshot())[1]


def made(of: Snapshot) -> tuple[int, Catalogue]:
    """The number of steps that it takes to make the catalogue, and the catalogue."""
    steps, number = make_catalogue(of, FIELDS, RELAYED.values()), 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return number, stop.value
        number += 1


def read(page: Page) -> Any:
    return msgspec.json.decode(page.body)


def page_of(model: str) -> Page:
    """The page of a model that exists."""
    page = catalogue().model(model)
    assert page is not None
    return page


def test_the_list_of_models_has_their_aliases() -> None:
    document = read(catalogue().models)
    assert list(document) == ["object", "data", "aliases"]
    assert document["object"] == "list"
    assert [model["id"] for model in document["data"]] == ["small", "sonnet", "picture"]
    assert document["aliases"] == {"fast": "small"}


def test_a_model_page_shows_its_configuration() -> None:
    assert read(page_of("small")) == {
        "id": "small",
        "object": "model",
        "created": 1775088000,
        "owned_by": "Alpha",
        "name": "Small",
        "context_window": 131072,
        "max_output_tokens": 8192,
        "gateway_output_limit": None,
        "max_tokens_passthrough": True,
        "supports_tools": True,
        "supports_caching": True,
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "release_stage": "stable",
        "pricing": {"mode": "per_token", "input": 0.68, "output": 4.05, "cached_input": 0.068},
    }


def test_a_model_page_and_the_list_are_the_same() -> None:
    assert [read(page_of(name)) for name in default_snapshot().models] == read(catalogue().models)["data"]


def test_an_image_model_is_priced_per_image() -> None:
    assert read(page_of("picture"))["pricing"] == {"mode": "per_image", "per_image_usd": 0.054}


def test_an_unknown_value_is_null_and_never_zero() -> None:
    model = read(page_of("sonnet"))
    assert (model["context_window"], model["max_output_tokens"]) == (None, None)
    assert model["pricing"] == {"mode": "per_token", "input": None, "output": None, "cached_input": None}


def test_the_gateway_has_no_limit_of_its_own_on_output() -> None:
    pages = catalogue()
    for document in (*read(pages.models)["data"], read(pages.capabilities)):
        assert document["gateway_output_limit"] is None
        assert document["max_tokens_passthrough"] is True


def test_prices_are_sorted_by_id_and_counted() -> None:
    page = catalogue().pricing
    assert page.max_age == 60
    assert read(page) == {
        "object": "pricing.catalog",
        "text_count": 2,
        "media_count": 1,
        "text": [
            {"id": "small", "name": "Small", "input_per_1m": 0.68, "output_per_1m": 4.05, "cached_input_per_1m": 0.068},
            {"id": "sonnet", "name": "sonnet", "input_per_1m": None, "output_per_1m": None, "cached_input_per_1m": None},
        ],
        "media": [
            {"id": "picture", "name": "picture", "modality": "image", "pricing_mode": "per_image", "usd_per_call": 0.054}
        ],
    }
    swapped = DEFAULT.replace("id: sonnet", "id: a-sonnet")
    assert [entry["id"] for entry in read(catalogue(snapshot(swapped)).pricing)["text"]] == ["a-sonnet", "small"]


def test_the_tiers_are_the_configured_ones() -> None:
    page = catalogue().tiers
    assert page.max_age == 300
    document = read(page)
    assert document["object"] == "tier.matrix"
    assert document["tiers"][1] == {
        "tier": 1,
        "name": SHIPPED_TIERS[1].name,
        "min_deposit": 10.0,
        "rpm": 60,
        "per_model_rpm": 40,
        "tpm": 500_000,
        "max_single_request": 500_000,
        "image_concurrent": 10,
        "image_queue_depth_cap": 30,
    }
    assert [(tier["tier"], tier["min_deposit"], tier["rpm"]) for tier in document["tiers"]] == [
        (0, 0, 30), (1, 10, 60), (2, 50, 120), (3, 250, 200), (4, 1000, 300),
    ]  # fmt: skip


IMAGE_MEMBERS = {"id", "sizes", "most_images", "needs_image_url", "most_input_images", "extra"}


def test_the_capabilities_name_the_defaults_the_endpoints_and_the_logged_fields() -> None:
    document = read(catalogue().capabilities)
    assert document["default_max_tokens"] == 4096
    assert document["dialects"] == ["anthropic", "openai"]
    assert [entry["path"].encode() for entry in document["endpoints"]] == [
        *(path for path in RELAYED if path.startswith(b"/v1/")),
        b"/v1/images/generations",
        b"/v1/images/edits",
    ]
    assert document["images"] == {
        "expires_after_s": 300,
        "statuses": ["pending", "processing", "succeeded", "failed", "refunded", "expired"],
        "note": document["images"]["note"],
        "models": [entry for entry in document["images"]["models"] if set(entry) == IMAGE_MEMBERS],
    }
    assert list(document["fallback"]["layers"]) == ["1", "2", "3"]
    assert document["fallback"]["headers"] == ["x-kyma-fallback", "x-kyma-fallback-layer"]
    assert set(document["headers"]) == {
        *document["fallback"]["headers"], "x-request-id", "x-kyma-model", "x-kyma-alias", "x-kyma-dropped", "x-kyma-estimated",
    }  # fmt: skip
    assert "never stored" in document["privacy"]["statement"]
    assert document["privacy"]["logged_fields"] == [*FIELDS]


def test_a_default_that_is_switched_off_is_null() -> None:
    off = snapshot(DEFAULT + "defaults: {max_tokens: null}\n")
    assert read(catalogue(off).capabilities)["default_max_tokens"] is None


@pytest.mark.parametrize("name", ["models", "pricing", "tiers", "capabilities"])
def test_the_same_configuration_has_the_same_etag_and_another_has_another(name: str) -> None:
    first, again = catalogue(snapshot()), catalogue(snapshot())
    assert getattr(first, name) == getattr(again, name)
    changed = (DEFAULT + "defaults: {max_tokens: 5}\n").replace("4.05", "4.06").replace("fast", "quick")
    tier = "tiers: [{tier: 0, min_purchased: 0, rpm: 1, per_model_rpm: 1, tpm: 1, max_request_tokens: 1}]\n"
    assert getattr(catalogue(snapshot(changed + tier)), name).etag != getattr(first, name).etag


def test_an_etag_is_quoted_and_only_as_good_as_the_bytes() -> None:
    assert make_page({"a": 1}).etag == make_page({"a": 1}, max_age=5).etag != make_page({"a": 2}).etag
    assert make_page({}).etag.startswith('"')
    assert make_page({}).etag.endswith('"')
    assert make_page({}).max_age is None


def test_aliases_can_be_looked_up() -> None:
    assert page_of("fast") == page_of("small")


def test_no_credential_is_on_any_page() -> None:
    pages = catalogue()
    for page in (pages.models, pages.pricing, pages.tiers, pages.capabilities, *map(page_of, default_snapshot().models)):
        assert b"secret-of" not in page.body
        assert b"example" not in page.body


@pytest.mark.parametrize("number", [0, 1, 2000])
def test_it_is_made_in_a_step_for_each_model_and_is_what_one_step_would_make(number: int) -> None:
    models = "".join(f"  - {{id: m-{at}, pool: [{{provider: alpha, model: real-{at}}}]}}\n" for at in range(number))
    of = snapshot(DEFAULT.replace("models:\n", f"models:\n{models}"))
    steps, result = made(of)
    assert steps >= 2 * len(of.models)
    for page in (result.models, result.pricing, result.tiers, result.capabilities):
        assert page.body == orjson.dumps(orjson.loads(page.body))
        assert page.etag == make_page(orjson.loads(page.body)).etag
    assert [model["id"] for model in read(result.models)["data"]] == list(of.models)
