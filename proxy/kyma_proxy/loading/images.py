"""Compiles and checks the `image` sections of models and sources, with their defaults. (Contract §10.)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config.image_rules import ImageMembers, ImageRules
from kyma_proxy.config.image_size import dimensions
from kyma_proxy.config.snapshot import Model, Source
from kyma_proxy.dialect.registry import IMAGE_DIALECTS
from kyma_proxy.loading import document as doc

_OWN_MEMBERS: Final = frozenset({
    "model", "prompt", "n", "num_images", "size", "image_size", "aspect_ratio", "width", "height",
    "image", "images", "image_url", "image_urls",
    "response_format", "stream", "sync_mode", "idempotency_key", "extra", "user",
})  # fmt: skip
"""The members that `extra` may not name: the gateway sets them itself, or they would change the form of the answer."""

_NO_EFFECT: Final = "has no effect, as output_modalities is not [image]"


def compile_image_rules(written: doc.ImageRules) -> ImageRules:
    """The requests that an image model allows."""
    return ImageRules(
        sizes=None if written.sizes is None else _read(written.sizes),
        extra=_read(written.extra),
        most=written.most,
        most_input_images=written.most_input_images,
        needs_image=written.needs_image,
        max_prompt=written.max_prompt,
    )


def _read(names: tuple[object, ...]) -> tuple[str, ...]:
    """The entries of a list that were read without a problem."""
    return tuple(name for name in names if isinstance(name, str))


def compile_image_members(written: doc.ImageMembers, dialect: str) -> ImageMembers | None:
    """The names of the members of a source's requests; None if the source's dialect is not for images."""
    spoken = IMAGE_DIALECTS.get(dialect)
    if spoken is None:
        return None
    default = spoken.members
    count = default.count if isinstance(written.count, msgspec.UnsetType) else written.count
    return ImageMembers(
        size=written.size or default.size,
        size_form=written.size_form or (default.size_form if written.size in (None, default.size) else "text"),
        sizes=MappingProxyType(dict(written.sizes)),
        count=count,
        most=1 if count is None else written.most,
        images=written.images or default.images,
        leave_queue_after=written.leave_queue_after,
    )


def find_image_problems(
    rules: doc.ImageRules, written: Iterable[tuple[str, doc.Source]], model: Model
) -> Iterator[tuple[str, str]]:
    """The mistakes in a model's `image` section and in those of its sources (`written`, each with its path in the model).

    Each mistake is a path in the model and a message.
    """
    if not model.is_image:
        if rules != doc.ImageRules():
            yield "image", _NO_EFFECT
        yield from ((f"{place}.image", _NO_EFFECT) for place, entry in written if entry.image != doc.ImageMembers())
        return
    if rules.needs_image and "image" not in model.input_modalities:
        yield "input_modalities", "needs `image`, as needs_image says that one must be sent"
    sources = {source.key: source for source in (*model.pool, *model.reserve)}
    reserved = _OWN_MEMBERS.union(*(_members_of(source) for source in sources.values()))
    for at, name in enumerate(rules.extra):
        if name in reserved:
            yield f"image.extra[{at}]", f"{name} is set by the gateway itself; leave it out"
    for place, entry in written:
        source = sources.get(f"{entry.provider} {entry.model}")
        size_without_name = None if source is None else _unsupported_size(model.image, source)
        if size_without_name is not None:
            yield place, f"needs image.sizes.{size_without_name}, as that is not a width and a height"
        for size in entry.image.sizes:
            if model.image.sizes is not None and size not in model.image.sizes:
                yield f"{place}.image.sizes.{size}", "is none of the model's image.sizes"
        spoken = None if source is None else IMAGE_DIALECTS.get(source.provider.dialect)
        mistake = None if spoken is None else spoken.model_mistake(entry.model)
        if mistake is not None:
            yield f"{place}.model", mistake


def _members_of(source: Source) -> frozenset[str]:
    """The members of a source's requests that hold the size and the number of images."""
    members = source.image
    return frozenset() if members is None else frozenset({members.size, members.count or members.size})


def _unsupported_size(rules: ImageRules, source: Source) -> str | None:
    """The first of a model's sizes that can't be expressed in this source's requests; None if all can."""
    members = source.image
    if members is None or members.size_form == "text":
        return None
    return next((size for size in rules.sizes or () if size not in members.sizes and dimensions(size) is None), None)
