"""Sources of images in each dialect, and image requests."""

from __future__ import annotations

from types import MappingProxyType

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.jobs.job import ImageRequest
from kyma_proxy.loading.compiling import load

URL, OTHER_URL, DATA_URL = "https://a.example/1.png", "https://a.example/2.png", "data:image/png;base64,iVBORw0KGgo="


def source(dialect: str, words: str = "{}", model: str = "owner/app/v1/edit") -> Source:
    """A source of this dialect; `words` is its section `image`, in YAML."""
    text = (
        f"providers: [{{name: art, base_url: https://art.example/base, dialect: {dialect}}}]\n"
        f"models: [{{id: m, output_modalities: [image], pool: [{{provider: art, model: {model}, image: {words}}}]}}]\n"
    )
    return load(text, MappingProxyType({})).models["m"].pool[0]


def request(
    n: int = 1, *, size: str | None = None, images: tuple[str, ...] = (), extra: tuple[tuple[str, bytes], ...] = (),
    response_format: str | None = None,
) -> ImageRequest:  # fmt: skip
    """A wish for a cat."""
    return ImageRequest("m", "a cat", n, size, images, extra, response_format)
