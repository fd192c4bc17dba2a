"""This file says what it takes to have images made by a provider, whatever it speaks. (Contract §10.)

A call is a whole HTTP exchange; its path follows the provider's base path. A provider answers with the images themselves, or
takes the job, names it, and is looked at until it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.config.images import dimensions
from kyma_proxy.config.snapshot import ImageMembers, Provider, Source
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.core.jobs.request import is_web_url
from kyma_proxy.dialect.error_message import MAX_QUOTED
from kyma_proxy.errors import GatewayError, Kind

Json = dict[str, Any]
_NOTHING: Final = msgspec.Raw()


class ProviderRequest(NamedTuple):
    """What a provider is asked; without a body where `body` is None."""

    method: str
    path: str
    body: bytes | None = None

    def request(self, provider: Provider) -> list[bytes | memoryview]:
        """The request to a provider, in pieces."""
        line = b"%b %b%b HTTP/1.1\r\n%b" % (self.method.encode(), provider.base_path, self.path.encode(), provider.header_lines)
        if self.body is None:
            return [line + b"\r\n"]
        return [b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (line, len(self.body)), self.body]


class Unsupported(GatewayError):
    """A source can't be told what is wanted; another may."""

    def __init__(self, why: str, param: str | None = None) -> None:
        super().__init__(Kind.INVALID_REQUEST, f"No source of the model can make this: {why}.", param=param)


class ImageDialect(NamedTuple):
    """How image jobs are spoken of in one dialect. What reads an answer raises ValueError where that is not as promised."""

    asks: Callable[[ImageRequest, Source], ProviderRequest]
    """Begins a job. Raises Unsayable."""
    pictures: Callable[[bytes], list[Picture]]
    """The images in an answer; those that are none are left out."""
    message: Callable[[bytes], str | None]
    """Why a provider refuses, in its words."""
    queue: ImageQueue | None = None
    """None where the answer to the first call has the images."""


class ImageQueue(NamedTuple):
    """The further calls of a provider that works on a job by itself; `str` is its name for the job."""

    name: Callable[[bytes], str]
    """From the answer to the first call."""
    looks: Callable[[Source, str], ProviderRequest]
    is_done: Callable[[bytes], bool]
    """From the answer to a look."""
    fetches: Callable[[Source, str], ProviderRequest]
    cancels: Callable[[Source, str], ProviderRequest]


def said(request: ImageRequest, source: Source) -> Json:
    """The members that are common to all sources, in this one's words. Raises Unsayable."""
    words = source.image
    if words is None:
        raise Unsupported("it makes no images")
    out: Json = {name: msgspec.Raw(value) for name, value in request.extra}
    out["prompt"] = request.prompt
    if request.size is not None:
        out |= _size(request.size, words)
    if request.n > words.most:
        raise Unsupported(f"it makes {words.most} at once", "n")
    if words.count is not None and request.n != 1:
        out[words.count] = request.n
    if request.images:
        out |= _images(request.images, words)
    return out


def _size(size: str, words: ImageMembers) -> Json:
    spelled = words.sizes.get(size)
    if spelled is not None:
        return {words.size: spelled}
    if words.size_form == "text":
        return {words.size: size}
    sides = dimensions(size)
    if sides is None:
        raise Unsupported(f"it has no size {size}", "size")
    width, height = sides
    pair = {"width": width, "height": height}
    return pair if words.size_form == "pair" else {words.size: pair}


def _images(images: tuple[str, ...], words: ImageMembers) -> Json:
    if words.images == "images":
        return {"images": [{"image_url": url} for url in images]}
    if words.images == "image_urls":
        return {"image_urls": list(images)}
    if len(images) > 1:
        raise Unsupported("it takes one picture to begin with", "image_urls")
    return {"image_url": images[0]}


def picture(url: str | None, b64_json: msgspec.Raw = _NOTHING) -> Picture | None:
    """An image as a provider tells it; None for what is none."""
    if url is not None and is_web_url(url):
        return Picture(url=url)
    text = bytes(b64_json)
    return Picture(b64_json=text) if len(text) > len('""') and text.startswith(b'"') and text.isascii() else None


def quoted(message: object) -> str | None:
    """A provider's words, as far as they can be shown."""
    if not isinstance(message, str) or not message.strip():
        return None
    return " ".join(message.split())[:MAX_QUOTED]
