"""Refuses images for models that see none, where another model's source could not. (Contract §2.)"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.config.snapshot import Model
from kyma_proxy.errors import GatewayError, Kind

_TRANSLATED_IMAGES: Final = (b'{"type":"image_url"', b'{"type":"image"')
"""How an image begins in a translated request; within a text the quotes would be escaped."""
_WRITTEN_IMAGE: Final = re.compile(rb'"type"[ \t\r\n]*:[ \t\r\n]*"(?:image|image_url|input_image)"')
"""How callers write that something is an image."""


def refuse_translated_images(translated: bytes, model: Model) -> None:
    """Raises GatewayError if a translated request holds an image and the model sees none."""
    if not sees_images(model) and any(mark in translated for mark in _TRANSLATED_IMAGES):
        raise _sees_none(model)


def refuse_images(body: bytes, substitute: Model) -> None:
    """Raises GatewayError if a caller's request holds an image and the model that would substitute another sees none.

    A caller who asks for a model by its name gets what its source says; nobody has asked for the substitute.
    """
    if not sees_images(substitute) and _WRITTEN_IMAGE.search(body) is not None:
        raise _sees_none(substitute)


def sees_images(model: Model) -> bool:
    """True if the model takes images."""
    return "image" in model.input_modalities


def _sees_none(model: Model) -> GatewayError:
    return GatewayError(
        Kind.INVALID_REQUEST,
        f"{model.id} takes no images; GET /v1/models says which models do (`input_modalities`).",
        param="messages",
    )
