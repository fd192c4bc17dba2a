"""Refuses images for models without image input, if the source itself could not refuse them. (Contract §2.)"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.config.snapshot import Model, Source
from kyma_proxy.errors import GatewayError, Kind

_TRANSLATED_IMAGES: Final = (b'{"type":"image_url"', b'{"type":"image"')
"""The start of an image in a translated request; within a text the quotes would be escaped."""
_WRITTEN_IMAGE: Final = re.compile(rb'"type"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}"(?:image|image_url|input_image)"')
"""The type of an image part, as callers write it. With more white space than anybody writes it would take long to search."""


def refuse_translated_images(translated: bytes, model: Model, source: Source) -> None:
    """Raise GatewayError if a translated request has an image and the model takes none, or not at this source."""
    if not (sees_images(model) and can_see(source)) and has_translated_images(translated):
        raise no_image_input(model.id)


def has_translated_images(translated: bytes) -> bool:
    """True if a translated request has an image."""
    return any(mark in translated for mark in _TRANSLATED_IMAGES)


def refuse_images(body: bytes, substitute: Model) -> None:
    """Raise GatewayError if a caller's request has an image and the substitute model takes none.

    If the caller names a model, its source decides about images; but the caller did not choose the substitute.
    """
    if not sees_images(substitute) and _WRITTEN_IMAGE.search(body) is not None:
        raise no_image_input(substitute.id)


def sees_images(model: Model) -> bool:
    """True if the model takes images."""
    return "image" in model.input_modalities


def can_see(source: Source) -> bool:
    """True unless a source takes no images though its model does."""
    return source.supports.images is not False


def no_image_input(model_id: str) -> GatewayError:
    """The error for a request with an image, for a model that takes none."""
    return GatewayError(
        Kind.INVALID_REQUEST,
        f"{model_id} takes no images; GET /v1/models says which models do (`input_modalities`).",
        param="messages",
    )
