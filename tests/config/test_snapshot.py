"""A configuration compiles into a snapshot: names resolved, bytes ready to send, and immutable."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest

from kyma_proxy.config.snapshot import NANO, Snapshot, Timeouts
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.tiers import SHIPPED_TIERS
from tests.factories import SEVERAL as GOOD
from tests.factories import SEVERAL_KEYS as KEYS
from tests.factories import messages


def compiled(text: str = GOOD, environment: dict[str, str] = KEYS) -> Snapshot:
    return load(text, environment)


def provider(members: str) -> str:
    """The good text with members added to its first provider."""
    return GOOD.replace("dialect: openai,", f"dialect: openai, {members},")


def tier_line(tier: int, min_purchased: float) -> str:
    return f"  - {{tier: {tier}, min_purchased: {min_purchased}, rpm: 1, per_model_rpm: 1, tpm: 1, max_request_tokens: 1}}\n"


def test_a_provider_without_its_key_is_off_and_the_configuration_is_valid() -> None:
    snapshot = compiled(environment={"ONE_KEY": ""})
    assert messages(snapshot.warnings) == (
        "provider one is off: the environment variable ONE_KEY is not set",
        "provider art is off: the environment variable ART_KEY is not set",
        "model small has no source: all its providers are off",
        "model picture has no source: all its providers are off",
    )
    assert [one.off is None for one in snapshot.providers.values()] == [False, True, False]
    assert b"authorization" not in snapshot.providers["one"].header_lines


def test_an_admin_token_whose_variable_is_not_set_turns_the_admin_api_off() -> None:
    snapshot = compiled(GOOD + "admin: {token: ${T}}\n")
    assert snapshot.admin is not None
    assert snapshot.admin.token is None
    assert messages(snapshot.warnings) == ("the admin API is off: the environment variable T is not set",)


def test_a_providers_address_and_credential_are_ready_to_send() -> None:
    one, two, art = compiled(
        provider("headers: {X-Team: blue}").replace("anthropic}", "anthropic, api_key: k}")
    ).providers.values()
    assert (one.origin.scheme, one.origin.host, one.origin.port, one.base_path) == ("https", "one.example", 8443, b"/v1")
    assert (two.origin.port, two.base_path) == (80, b"/v1")
    assert one.header_lines == (
        b"host: one.example:8443\r\naccept-encoding: identity\r\nx-team: blue\r\nauthorization: Bearer hunter2\r\n"
    )
    assert two.header_lines.endswith(b"x-api-key: k\r\n")
    assert art.header_lines.endswith(b"authorization: Key hunter3\r\n")
    assert one.own_names == {b"x-team", b"authorization"}
    assert one.own_and_foreign_names == one.own_names | DIALECTS["anthropic"].own_fields
    assert two.default_fields == DIALECTS["anthropic"].default_fields


def test_a_field_that_a_provider_sets_itself_has_no_default() -> None:
    changed = GOOD.replace("dialect: anthropic}", "dialect: anthropic, headers: {Anthropic-Version: 2024-01-01}}")
    assert changed != GOOD
    assert compiled(changed).providers["two"].default_fields == ()


def test_a_model_is_what_its_entry_says() -> None:
    model = compiled(GOOD.replace("id: large", "id: large\n    created: 2026-04-02\n    name: Large")).models["large"]
    assert (model.id, model.name, model.created, model.is_image, model.policy) == (
        "large",
        "Large",
        1775088000,
        False,
        "weighted",
    )
    assert (model.price.input, model.price.output, model.price.cached_input) == (680_000_000, 4_050_000_000, 68_000_000)
    assert model.supports_caching
    assert [(source.provider.name, source.model, source.model_json, source.weight) for source in model.pool] == [
        ("one", "large-1", b'"large-1"', 3.0), ("two", "LARGE", b'"LARGE"', 1.0),
    ]  # fmt: skip
    assert compiled().models["picture"].is_image


def test_the_innermost_level_decides_each_timeout() -> None:
    text = provider("timeouts: {connect: 5s, total: 9s}").replace(
        "small-1", "small-1, timeouts: {connect: 1s, first_byte: null}"
    )
    snapshot = compiled(text + "defaults: {timeouts: {idle: 7s, total: 8s}}\n")
    assert snapshot.models["small"].pool[0].timeouts == Timeouts(connect=1.0, first_byte=None, idle=7.0, total=9.0)
    assert snapshot.models["large"].pool[1].timeouts == Timeouts(connect=2.0, first_byte=60.0, idle=7.0, total=8.0)


def test_the_max_tokens_field_of_a_source_overrides_that_of_its_provider() -> None:
    text = provider("max_tokens_field: max_completion_tokens").replace("small-1", "small-1, max_tokens_field: max_tokens")
    models = compiled(text).models
    assert models["small"].pool[0].max_tokens_field == "max_tokens"
    assert [source.max_tokens_field for source in models["large"].pool] == ["max_completion_tokens", None]


def test_the_reasoning_field_of_a_source_overrides_that_of_its_provider() -> None:
    text = provider("reasoning_field: none").replace("small-1", "small-1, reasoning_field: reasoning")
    models = compiled(text).models
    assert models["small"].pool[0].reasoning_field == "reasoning"
    assert [source.reasoning_field for source in models["large"].pool] == [None, "reasoning_content"]


def test_the_tiers_are_the_configured_ones_or_the_shipped_ones() -> None:
    assert compiled().tiers == SHIPPED_TIERS
    tiers = compiled(GOOD + "tiers:\n" + tier_line(0, 0) + tier_line(1, 2.5)).tiers
    assert [(tier.name, tier.min_purchased) for tier in tiers] == [("Tier 0", 0), ("Tier 1", 2_500_000_000)]


def test_the_shipped_tiers_are_the_documented_ones() -> None:
    assert [
        (one.min_purchased // NANO, one.rpm, one.per_model_rpm, one.tpm, one.max_request_tokens) for one in SHIPPED_TIERS
    ] == [
        (0, 30, 25, 200_000, 200_000),
        (10, 60, 40, 500_000, 500_000),
        (50, 120, 80, 2_000_000, 1_000_000),
        (250, 200, 150, 5_000_000, 3_000_000),
        (1000, 300, 200, 10_000_000, 10_000_000),
    ]
    assert [(one.image_concurrent, one.image_queue) for one in SHIPPED_TIERS] == [
        (2, 6),
        (10, 30),
        (20, 60),
        (28, 84),
        (38, 114),
    ]


@pytest.mark.parametrize("section", ["providers", "models", "aliases", "fallbacks"])
def test_the_snapshots_tables_cannot_be_changed(section: str) -> None:
    table = getattr(compiled(GOOD + "aliases: {fast: small}\nfallbacks: {small: [large]}\n"), section)
    assert isinstance(table, MappingProxyType)
    with pytest.raises(TypeError):
        table["small"] = None  # type: ignore[index]


def test_nothing_in_the_snapshot_can_be_changed() -> None:
    snapshot = compiled(GOOD + "admin: {}\ntls: {certificate: c, key: k}\nfallbacks: {small: [large]}\n")
    source = snapshot.models["large"].pool[0]
    parts = (
        snapshot,
        snapshot.limits,
        snapshot.tls,
        snapshot.admin,
        snapshot.tiers[0],
        source.provider,
        source,
        source.timeouts,
    )
    for part in (*parts, snapshot.models["large"], snapshot.models["large"].price):
        assert dataclasses.is_dataclass(part)
        for field in dataclasses.fields(part):
            with pytest.raises(AttributeError):
                setattr(part, field.name, None)
    assert isinstance(snapshot.fallbacks["small"], tuple)
    assert isinstance(snapshot.tiers, tuple)
    assert isinstance(snapshot.cors_origins, frozenset)


def test_the_version_depends_on_the_text_alone() -> None:
    assert compiled().version == compiled().version != compiled(GOOD + "drain: 1s\n").version
