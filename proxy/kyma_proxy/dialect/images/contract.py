"""Declares what the gateway needs of a dialect of image providers. (Contract §10.)

Each request is one HTTP exchange; its path follows the provider's base path. A provider answers with the images themselves, or
accepts the job, returns its id, and is polled until the job is done.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.config.image_rules import ImageMembers
from kyma_proxy.config.image_size import dimensions
from kyma_proxy.config.snapshot import Provider, Source
from kyma_proxy.core.jobs.job import ImageRequest, Picture
from kyma_proxy.core.jobs.request import is_web_url
from kyma_proxy.dialect.error_message import MAX_QUOTED
from kyma_proxy.errors import GatewayError, Kind

Json = dict[str, Any]
_ABSENT: Final = msgspec.Raw()
Fields = Mapping[bytes, bytes]
"""The header fields of an answer; names in lower case."""


class QueueStage(enum.Enum):
    """The stage of a job in a provider's queue."""

    WAITS = "waits"
    WORKS = "works"
    DONE = "done"
    FAILED = "failed"  # it is over, and its result says why there are no images


class ProviderRequest(NamedTuple):
    """A request to a provider; without a body if `body` is None.

    `field` is a header field of its own, such as `x-name: value`, which the provider's configured ones replace.
    """

    method: str
    path: str
    body: bytes | None = None
    field: bytes = b""

    def request(self, provider: Provider) -> list[bytes | memoryview]:
        """Return the bytes of the request, in pieces."""
        target = provider.base_path + self.path.encode()
        if provider.query:
            target = b"%b%b%b" % (target, b"&" if b"?" in target else b"?", provider.query)
        line = b"%b %b HTTP/1.1\r\n%b" % (self.method.encode(), target, provider.header_lines)
        name, colon, _ = self.field.partition(b":")
        if colon and b"\r\n%b:" % name not in b"\r\n" + provider.header_lines.lower():
            line += self.field + b"\r\n"
        if self.body is None:
            return [line + b"\r\n"]
        return [b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (line, len(self.body)), self.body]


class Unsupported(GatewayError):
    """A source can't express a request; another source may."""

    def __init__(self, why: str, param: str | None = None) -> None:
        super().__init__(Kind.INVALID_REQUEST, f"No source of the model can make this: {why}.", param=param)
        self.why = f"was not asked, as it can't make this: {why}."


class ImageDialect(NamedTuple):
    """One HTTP API for images. Functions that read an answer raise ValueError if it is malformed."""

    name: str
    credential: Callable[[str], tuple[str, str]]
    """Returns the header field, name and value, that carries a provider's API key."""
    members: ImageMembers
    """The names of the members of its requests, for a source whose configuration gives none."""
    model_mistake: Callable[[str], str | None]
    """Returns what is wrong with a provider's model id; None if nothing is."""
    submit: Callable[[ImageRequest, Source], ProviderRequest]
    """Returns the request that starts a job. Raises Unsupported."""
    images: Callable[[bytes], list[Picture]]
    """Returns the images in an answer, without malformed ones."""
    message: Callable[[bytes], str | None]
    """Returns the message of a provider's error; None if it has none."""
    queue: ImageQueue | None = None
    """None if the answer to `submit` has the images."""
    passing_failure: Callable[[Fields, bytes], str | None] = lambda fields, body: None
    """Returns the provider's word for an error that another source need not have, whatever the status; None for any other."""


class ImageQueue(NamedTuple):
    """The further requests of a provider that queues jobs; each takes the provider's id of the job."""

    job_id: Callable[[bytes], str]
    """Reads the job's id in the answer to `submit`."""
    status: Callable[[Source, str], ProviderRequest]
    stage: Callable[[bytes], QueueStage]
    """Reads the answer to `status`."""
    result: Callable[[Source, str], ProviderRequest]
    is_result: Callable[[Fields, bytes], bool]
    """True if an error is the stored result of the job, which stays what it is, and not a trouble of the queue."""
    cancel: Callable[[Source, str], ProviderRequest]
    is_withdrawn: Callable[[int, bytes], bool]
    """True if the answer to `cancel`, by status and body, says that the job was taken out of the queue before it began."""


def common_members(request: ImageRequest, source: Source) -> Json:
    """Return the members that all dialects share, under this source's names. Raises Unsupported."""
    members = source.image
    if members is None:
        raise Unsupported("it makes no images")
    out: Json = {name: msgspec.Raw(value) for name, value in request.extra}
    out["prompt"] = request.prompt
    if request.size is not None:
        out |= _size(request.size, members)
    if members.count is not None and request.n != 1:
        out[members.count] = request.n
    if request.images:
        out |= _input_images(request.images, members)
    return out


def _size(size: str, members: ImageMembers) -> Json:
    spelling = members.sizes.get(size)
    if spelling is not None:
        return {members.size: spelling}
    if members.size_form == "text":
        return {members.size: size}
    sides = dimensions(size)
    if sides is None:
        raise Unsupported(f"it has no size {size}", "size")
    width, height = sides
    pair = {"width": width, "height": height}
    return pair if members.size_form == "pair" else {members.size: pair}


def _input_images(images: tuple[str, ...], members: ImageMembers) -> Json:
    if members.images == "images":
        return {"images": [{"image_url": url} for url in images]}
    if members.images == "image_urls":
        return {"image_urls": list(images)}
    if len(images) > 1:
        raise Unsupported("it takes one input image", "image_urls")
    return {"image_url": images[0]}


def read_image(url: str | None, b64_json: msgspec.Raw = _ABSENT) -> Picture | None:
    """Return an image of a provider's answer; None if it is malformed."""
    if url is not None and is_web_url(url):
        return Picture(url=url)
    text = bytes(b64_json)
    return Picture(b64_json=text) if len(text) > len('""') and text.startswith(b'"') and text.isascii() else None


def truncated(message: object) -> str | None:
    """Return a provider's message on one line, truncated; None if it is no text."""
    if not isinstance(message, str) or not message.strip():
        return None
    return " ".join(message.split())[:MAX_QUOTED]
