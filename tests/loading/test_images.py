"""The `image` sections of models and sources have defaults, and their mistakes are reported with a path and a line."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from kyma_proxy.config.image_rules import ImageMembers, ImageRules
from kyma_proxy.config.image_size import dimensions
from kyma_proxy.config.problems import ConfigError, Problem
from kyma_proxy.config.snapshot import Model, Snapshot
from kyma_proxy.dialect.registry import IMAGE_DIALECTS
from kyma_proxy.loading.compiling import load
from tests.factories import messages

GOOD = """\
providers:
  - {name: art, base_url: https://art.example, dialect: openai_images}
  - {name: queue, base_url: https://queue.example, dialect: fal_queue, api_key: secret}
  - {name: chat, base_url: https://chat.example, dialect: openai}
models:
  - id: picture
    output_modalities: [image]
    input_modalities: [text]
    price: {image: 0.054}
    image: {}
    pool:
      - {provider: art, model: pic}
    reserve:
      - {provider: queue, model: owner/app/v1}
  - id: talk
    pool:
      - {provider: chat, model: t}
"""
"""What cases change: the model's `image` is line 10, its pool's source 12, its reserve's 14, and a text model's source 17."""

ART, QUEUE = "model: pic}", "model: owner/app/v1}"


def loaded(rules: str = "{}", art: str = "{}", queue: str = "{}") -> Snapshot:
    text = GOOD.replace("image: {}", f"image: {rules}")
    text = text.replace(ART, f"model: pic, image: {art}}}").replace(QUEUE, f"model: owner/app/v1, image: {queue}}}")
    return load(text, {})


def picture(rules: str = "{}", art: str = "{}", queue: str = "{}") -> Model:
    return loaded(rules, art, queue).models["picture"]


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as refused:
        load(text, {})
    return refused.value.problems


def with_rules(rules: str) -> str:
    return GOOD.replace("image: {}", f"image: {rules}")


def with_art(members: str) -> str:
    return GOOD.replace(ART, f"model: pic, image: {members}}}")


def with_queue(members: str, rules: str = "{}") -> str:
    return with_rules(rules).replace(QUEUE, f"model: owner/app/v1, image: {members}}}")


# ---- valid sections


def test_a_model_without_an_image_section_has_the_default_rules() -> None:
    assert picture().image == ImageRules(sizes=None, extra=(), most=4, most_input_images=1, needs_image=False)


def test_a_model_has_the_rules_of_its_image_section() -> None:
    written = '{sizes: [1024x1024, "512x512"], extra: [seed, style], most: 2, most_input_images: 16}'
    assert picture(written).image == ImageRules(
        sizes=("1024x1024", "512x512"), extra=("seed", "style"), most=2, most_input_images=16, needs_image=False
    )
    assert picture("{sizes: []}").image.sizes == ()


def test_a_model_that_needs_an_image_and_takes_images_is_valid() -> None:
    text = with_rules("{needs_image: true}").replace("input_modalities: [text]", "input_modalities: [text, image]")
    assert load(text, {}).models["picture"].image.needs_image


def test_a_source_without_an_image_section_has_the_members_of_its_dialect() -> None:
    model = picture()
    none: MappingProxyType[str, str] = MappingProxyType({})
    assert model.pool[0].image == ImageMembers(size="size", size_form="text", sizes=none, count="n", most=4, images="images")
    assert model.reserve[0].image == ImageMembers(
        size="image_size", size_form="object", sizes=none, count="num_images", most=4, images="image_url"
    )
    assert loaded().models["talk"].pool[0].image is None


@pytest.mark.parametrize(
    ("members", "size", "form"),
    [
        ("{}", "image_size", "object"),
        ("{size: image_size}", "image_size", "object"),
        ("{size: aspect_ratio}", "aspect_ratio", "text"),
        ("{size: dimensions, size_form: object}", "dimensions", "object"),
        ("{size_form: text}", "image_size", "text"),
        ("{size_form: pair}", "image_size", "pair"),
    ],
)
def test_a_size_member_with_another_name_takes_text_unless_size_form_says_otherwise(members: str, size: str, form: str) -> None:
    source = picture(queue=members).reserve[0]
    assert source.image is not None
    assert (source.image.size, source.image.size_form) == (size, form)


@pytest.mark.parametrize(
    ("members", "count", "most"),
    [
        ("{}", "num_images", 4), ("{most: 2}", "num_images", 2), ("{count: samples}", "samples", 4),
        ("{count: null}", None, 1), ("{count: null, most: 4}", None, 1),
    ],
)  # fmt: skip
def test_a_source_without_a_count_member_makes_one_image_at_a_time(members: str, count: str | None, most: int) -> None:
    source = picture(queue=members).reserve[0]
    assert source.image is not None
    assert (source.image.count, source.image.most) == (count, most)


def test_a_source_has_the_members_of_its_image_section() -> None:
    source = picture(art='{sizes: {1024x1024: "1:1"}, images: image_urls}').pool[0]
    assert source.image is not None
    assert (dict(source.image.sizes), source.image.images) == ({"1024x1024": "1:1"}, "image_urls")


@pytest.mark.parametrize(
    ("rules", "queue"),
    [
        ("{sizes: [1024x1024]}", "{}"),
        ('{sizes: ["16:9"]}', "{size: aspect_ratio}"),
        ('{sizes: ["16:9", 512x512]}', '{sizes: {"16:9": landscape}}'),
        ('{sizes: ["16:9"]}', "{size_form: text}"),
    ],
)
def test_a_size_that_the_source_can_express_in_any_way_is_valid(rules: str, queue: str) -> None:
    assert picture(rules, queue=queue).image.sizes


def test_image_routes_have_the_sources_of_image_models_only() -> None:
    routes = loaded().routes["images"]
    assert [source.key for source in (*routes["picture"].pool, *routes["picture"].reserve)] == ["art pic", "queue owner/app/v1"]
    assert routes["talk"].is_empty
    assert loaded().routes["chat"]["picture"].is_empty


def test_a_fal_queue_gets_its_key_in_its_own_scheme() -> None:
    assert b"authorization: Key secret\r\n" in loaded().providers["queue"].header_lines


def test_an_image_model_without_a_price_is_free_and_a_warning_says_so() -> None:
    text = GOOD.replace("{image: 0.054}", "{input: 1}") + "accounts: {required: true}\n"
    assert "model picture has no price for an image, so it is free; write 0 if that is meant" in messages(
        load(text, {}).warnings
    )


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ("1024x768", (1024, 768)), ("1x99999", (1, 99999)), ("0x1", None), ("01x1", None), ("1X1", None), ("1x", None),
        ("100000x1", None), ("1x1x1", None), ("1x1\n", None), ("\u0661x1", None), ("", None), ("16:9", None),
    ],
)  # fmt: skip
def test_only_a_width_and_a_height_have_dimensions(size: str, sides: tuple[int, int] | None) -> None:
    assert dimensions(size) == sides


# ---- mistakes

NO_NAME = "the name of a member, in small letters, digits and _, of at most 64 characters is expected here, not 'Seed'"
ONE_TO_FOUR = "a whole number from 1 to 4 is expected here, not"
NO_EFFECT = "has no effect, as output_modalities is not [image]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (with_rules("{siezs: []}"), Problem("models[0].image.siezs", 10, "unknown key; did you mean sizes?")),
        (with_art("{sise: size}"), Problem("models[0].pool[0].image.sise", 12, "unknown key; did you mean size?")),
        (with_rules("{extra: [Seed]}"), Problem("models[0].image.extra[0]", 10, NO_NAME)),
        (with_rules("{extra: [seed, images]}"), Problem(
            "models[0].image.extra[1]", 10, "images is set by the gateway itself; leave it out",
        )),
        (with_queue("{count: samples}", "{extra: [seed, samples]}"), Problem(
            "models[0].image.extra[1]", 10, "samples is set by the gateway itself; leave it out",
        )),
        (with_queue("{size: dimensions}", "{extra: [dimensions]}"), Problem(
            "models[0].image.extra[0]", 10, "dimensions is set by the gateway itself; leave it out",
        )),
        (with_rules('{sizes: [512x512, "16:9"]}'), Problem(
            "models[0].reserve[0]", 14, "needs image.sizes.16:9, as that is not a width and a height",
        )),
        (with_queue("{size_form: text}", '{sizes: ["1:1"]}').replace(ART, "model: pic, image: {size_form: pair}}"), Problem(
            "models[0].pool[0]", 12, "needs image.sizes.1:1, as that is not a width and a height",
        )),
        (with_rules("{needs_image: true}"), Problem(
            "models[0].input_modalities", 8, "needs `image`, as needs_image says that one must be sent",
        )),
        (GOOD + "    image: {sizes: [1x1]}\n", Problem("models[1].image", 18, NO_EFFECT)),
        (GOOD.replace("model: t}", "model: t, image: {size: x}}"), Problem("models[1].pool[0].image", 17, NO_EFFECT)),
        (with_queue("{size_form: square}"), Problem(
            "models[0].reserve[0].image.size_form", 14, "'square' is not known here; use one of text, object, pair",
        )),
        (with_art("{images: picture}"), Problem(
            "models[0].pool[0].image.images", 12, "'picture' is not known here; use one of image_url, image_urls, images",
        )),
        (with_rules("{most: 5}"), Problem("models[0].image.most", 10, f"{ONE_TO_FOUR} the number 5")),
        (with_rules("{most: 0}"), Problem("models[0].image.most", 10, f"{ONE_TO_FOUR} the number 0")),
        (with_rules("{most_input_images: 17}"), Problem(
            "models[0].image.most_input_images", 10, "a whole number from 1 to 16 is expected here, not the number 17",
        )),
        (with_art("{most: 5}"), Problem("models[0].pool[0].image.most", 12, f"{ONE_TO_FOUR} the number 5")),
        (with_rules("{sizes: [512 x 512]}"), Problem(
            "models[0].image.sizes[0]", 10,
            "a size such as 1024x1024 or 16:9 of at most 32 characters is expected here, not '512 x 512'",
        )),
        (with_rules("{sizes: 512x512}"), Problem(
            "models[0].image.sizes", 10, "a list is expected here: write it in brackets, such as [512x512]",
        )),
        (GOOD.replace("owner/app/v1", "app"), Problem(
            "models[0].reserve[0].model", 14,
            "must be a path for a fal_queue provider: owner/app, such as fal-ai/flux-pro/v1.1-ultra",
        )),
    ],
    ids=lambda case: f"{case.path}: {case.message[:30]}" if isinstance(case, Problem) else "",
)  # fmt: skip
def test_a_mistake_in_an_image_section_is_reported_with_its_path_and_line(text: str, problem: Problem) -> None:
    assert problems(text) == [problem]


@pytest.mark.parametrize("model", ["../admin", "a/../b", "a//b", "/a/b", "a/b/", "a/b?c=d", "a/b#c", "a/b c", "a/.", "a/%2e"])
def test_a_model_of_a_fal_queue_must_be_a_plain_path(model: str) -> None:
    assert [problem.path for problem in problems(GOOD.replace("owner/app/v1", f'"{model}"'))] == ["models[0].reserve[0].model"]


OWN = """
model prompt n num_images size image_size aspect_ratio width height image images image_url image_urls
response_format stream sync_mode idempotency_key extra user
"""


@pytest.mark.parametrize("name", OWN.split())
def test_an_extra_member_that_the_gateway_sets_itself_is_a_mistake(name: str) -> None:
    assert [problem.path for problem in problems(with_rules(f"{{extra: [{name}]}}"))] == ["models[0].image.extra[0]"]


def test_several_mistakes_in_image_sections_are_all_reported() -> None:
    text = with_queue("{size: 5}", '{sizes: ["1:1", "a b"], extra: [n, "A", prompt], needs_image: true}')
    assert [(problem.line, problem.path) for problem in problems(text)] == [
        (8, "models[0].input_modalities"),
        (10, "models[0].image.extra[0]"),
        (10, "models[0].image.extra[1]"),
        (10, "models[0].image.extra[2]"),
        (10, "models[0].image.sizes[1]"),
        (14, "models[0].reserve[0]"),
        (14, "models[0].reserve[0].image.size"),
    ]


def test_the_image_dialects_are_openai_images_and_fal_queue() -> None:
    assert sorted(IMAGE_DIALECTS) == ["fal_queue", "openai_images"]
