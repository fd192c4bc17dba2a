"""This file says what image models and their sources have where their configuration says nothing. (Contract §10.)"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config import document as doc
from kyma_proxy.config.snapshot import ImageRules, ImageWords, Model, Source

IMAGE_DIALECTS: Final = frozenset({"openai_images", "fal_queue"})
_OWN_MEMBERS: Final = frozenset({
    "model", "prompt", "n", "num_images", "size", "image_size", "aspect_ratio", "width", "height",
    "image", "images", "image_url", "image_urls", "mask",
    "response_format", "stream", "sync_mode", "idempotency_key", "extra", "user",
})  # fmt: skip
"""What no `extra` may set: the gateway says it itself, or it would change the form of the answer."""

_NO_EFFECT: Final = "has no effect, as output_modalities is not [image]"
_QUEUE_MODEL: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_DIMENSIONS: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_USUAL: Final = MappingProxyType({
    "openai_images": ImageWords(size="size", size_form="text", sizes={}, count="n", most=4, images="images"),
    "fal_queue": ImageWords(size="image_size", size_form="object", sizes={}, count="num_images", most=4, images="image_url"),
})  # fmt: skip


def rules_of(written: doc.ImageRules) -> ImageRules:
    """What a caller may ask for."""
    return ImageRules(
        sizes=None if written.sizes is None else _read(written.sizes),
        extra=_read(written.extra),
        most=written.most,
        most_input_images=written.most_input_images,
        needs_image=written.needs_image,
    )


def _read(names: tuple[object, ...]) -> tuple[str, ...]:
    """Those of a list that were read without a problem."""
    return tuple(name for name in names if isinstance(name, str))


def words_of(written: doc.ImageWords, dialect: str) -> ImageWords | None:
    """How a source of this dialect is told; None where the dialect is none for images."""
    usual = _USUAL.get(dialect)
    if usual is None:
        return None
    count = usual.count if isinstance(written.count, msgspec.UnsetType) else written.count
    return ImageWords(
        size=written.size or usual.size,
        size_form=written.size_form or (usual.size_form if written.size in (None, usual.size) else "text"),
        sizes=MappingProxyType(dict(written.sizes)),
        count=count,
        most=1 if count is None else written.most,
        images=written.images or usual.images,
    )


def dimensions(size: str) -> tuple[int, int] | None:
    """Width and height of a size such as 1024x768; None for what is no such size."""
    found = _DIMENSIONS.fullmatch(size)
    return None if found is None else (int(found[1]), int(found[2]))


def problems_of(rules: doc.ImageRules, written: Iterable[tuple[str, doc.Source]], model: Model) -> Iterator[tuple[str, str]]:
    """What is wrong with a model's `image`, and with how its sources (`written`, with their places) are told of it.

    Each is a place in the model, and what is wrong there.
    """
    if not model.is_image:
        if rules != doc.ImageRules():
            yield "image", _NO_EFFECT
        yield from ((f"{place}.image", _NO_EFFECT) for place, entry in written if entry.image != doc.ImageWords())
        return
    if rules.needs_image and "image" not in model.input_modalities:
        yield "input_modalities", "needs `image`, as needs_image says that one must be sent"
    known = {source.key: source for source in (*model.pool, *model.reserve)}
    taken = _OWN_MEMBERS.union(*(_members_of(source) for source in known.values()))
    for at, name in enumerate(rules.extra):
        if name in taken:
            yield f"image.extra[{at}]", f"{name} is what the gateway sets itself; leave it out"
    for place, entry in written:
        source = known.get(f"{entry.provider} {entry.model}")
        wrong = None if source is None else _unsayable_size(model.image, source)
        if wrong is not None:
            yield place, f"needs image.sizes.{wrong}, as that is no width and height"
        for size in entry.image.sizes:
            if model.image.sizes is not None and size not in model.image.sizes:
                yield f"{place}.image.sizes.{size}", "is none of the model's image.sizes"
        if source is not None and source.provider.dialect == "fal_queue" and not _QUEUE_MODEL.fullmatch(entry.model):
            yield f"{place}.model", "is a path at a fal_queue: owner/app, such as fal-ai/flux-pro/v1.1-ultra"


def _members_of(source: Source) -> frozenset[str]:
    """The members by which a source is told the size and how many images."""
    words = source.image
    return frozenset() if words is None else frozenset({words.size, words.count or words.size})


def _unsayable_size(rules: ImageRules, source: Source) -> str | None:
    """The first of a model's sizes that this source can't be told; None where it can be told all."""
    words = source.image
    if words is None or words.size_form == "text":
        return None
    return next((size for size in rules.sizes or () if size not in words.sizes and dimensions(size) is None), None)
