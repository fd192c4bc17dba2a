"""Reads and validates a request for images. (Contract §10.)

A model's `image.extra` names the members that it takes besides the common ones. Callers send them under `extra`, or at the top
level as the OpenAI SDK does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from kyma_proxy.config.addresses import is_host
from kyma_proxy.config.snapshot import Route, Snapshot
from kyma_proxy.core.http.body import check_once, read_routing_fields
from kyma_proxy.core.http.endpoints import IMAGE_JOBS
from kyma_proxy.core.jobs.job import ImageRequest
from kyma_proxy.core.routing.resolve import route_of
from kyma_proxy.errors import GatewayError, Kind

MAX_PROMPT_CHARACTERS: Final = 32_000
"""The limit for any model; each has its own."""
MAX_IMAGES: Final = 4
MAX_KEY_CHARACTERS: Final = 128
_MAX_URL_CHARACTERS: Final = 4096
_SIZE: Final = re.compile(r"[1-9][0-9]{0,4}[x:][1-9][0-9]{0,4}")
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_DATA_URL: Final = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,[A-Za-z0-9+/]")
_COMMON: Final = frozenset({
    "model", "prompt", "n", "size", "image_url", "image_urls", "idempotency_key", "extra", "response_format", "user", "stream",
})  # fmt: skip
_AUTOMATIC: Final = frozenset({"background", "moderation", "quality"})
"""Members of OpenAI's API whose value `auto` means the same as none.
Source: https://platform.openai.com/docs/api-reference/images/create"""
_NULL: Final = b"null"
_Members = dict[str, msgspec.Raw]
_members: Final = msgspec.json.Decoder(_Members).decode
_text: Final = msgspec.json.Decoder(str).decode
_whole: Final = msgspec.json.Decoder(int).decode
_texts: Final = msgspec.json.Decoder(list[str]).decode


class ImageJobRequest(msgspec.Struct, frozen=True, gc=False):
    """A valid request: its route, the alias by which it named the model (None if by id), and its idempotency key."""

    request: ImageRequest
    route: Route
    alias: str | None
    idempotency_key: str | None


def read_image_request(body: bytes, snapshot: Snapshot, key_header: str | None) -> ImageJobRequest:
    """The request in a body; `key_header` is the value of the header `Idempotency-Key`. Raises GatewayError."""
    fields = read_routing_fields(body)
    members = _without_nulls(_members(body))
    route, is_alias = route_of(snapshot, IMAGE_JOBS, fields.model)
    model = route.model
    if not model.is_image:
        raise _invalid("model", f"{model.id} is a text model and makes no images; ask it at /v1/chat/completions")
    if bytes(members.get("stream", b"false")) != b"false":
        raise _invalid("stream", "Images don't stream; leave `stream` out, or poll the job")
    request = ImageRequest(
        model=model.id,
        prompt=_prompt(members, model.id, model.image.max_prompt),
        n=_n(members, model.id, model.image.most),
        size=_size(members, model.id, model.image.sizes),
        images=_images(members, route),
        extra=_extra(members, model.id, model.image.extra),
        response_format=_response_format(members),
    )
    return ImageJobRequest(request, route, fields.model if is_alias else None, _idempotency_key(members, key_header))


def _invalid(param: str, message: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"{message}.", param=param)


def _without_nulls(members: _Members) -> _Members:
    """The members that are not null: null means the same as absent."""
    return {name: value for name, value in members.items() if bytes(value) != _NULL}


def _string(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    value = members.get(name)
    if value is None:
        return None
    try:
        return _text(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _invalid(name, f"`{name}` must be a string") from None


def _prompt(members: _Members, model: str, most: int) -> str:
    prompt = _string(members, "prompt")
    if prompt is None or not prompt.strip():
        raise _invalid("prompt", "`prompt` is missing; describe the picture")
    if len(prompt) > most:
        raise _invalid("prompt", f"`prompt` has {len(prompt)} characters; {model} takes {most}")
    return prompt


def _n(members: _Members, model: str, max_n: int) -> int:
    try:
        n = _whole(members.get("n", b"1"))
    except msgspec.MsgspecError:
        n = 0
    if not 1 <= n <= MAX_IMAGES:
        raise _invalid("n", f"`n` must be a whole number from 1 to {MAX_IMAGES}")
    if n > max_n:
        raise _invalid("n", f"{model} makes {max_n} at once; send `n` as {max_n} or less, or several requests")
    return n


def _size(members: _Members, model: str, sizes: tuple[str, ...] | None) -> str | None:
    size = _string(members, "size")
    if size is None or size == "auto":
        return None
    if sizes is not None and size not in sizes:
        advice = f"it has {', '.join(sizes)}" if sizes else "leave `size` out"
        raise _invalid("size", f"{model} does not have the size {size[:32]!r}; {advice}")
    if sizes is None and not _SIZE.fullmatch(size):
        raise _invalid("size", "`size` must be a width and a height such as 1024x1024, or a ratio such as 16:9")
    return size


def _images(members: _Members, route: Route) -> tuple[str, ...]:
    model = route.model
    one = _string(members, "image_url")
    images = [one] if one is not None else []
    if "image_urls" in members:
        try:
            images += _texts(members["image_urls"])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise _invalid("image_urls", "`image_urls` must be a list of strings") from None
    name = "image_urls" if one is None and images else "image_url"
    if not images and model.image.needs_image:
        raise _invalid("image_url", f"{model.id} edits a picture; send it as `image_url`, a URL or a data URL")
    if images and "image" not in model.input_modalities:
        raise _invalid(name, f"{model.id} takes no input picture; leave `{name}` out")
    if len(images) > model.image.most_input_images:
        raise _invalid("image_urls", f"{model.id} takes {model.image.most_input_images} input picture(s)")
    if not all(is_web_url(url) or (url.isascii() and _DATA_URL.match(url)) for url in images):
        raise _invalid(name, f"`{name}` must be an http(s) URL, or a data URL of an image in base64")
    return tuple(images)


def is_web_url(text: str) -> bool:
    """True if this is an absolute http(s) URL with a host and without user or password."""
    if len(text) > _MAX_URL_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return url.scheme in ("http", "https") and is_host(url.hostname or "") and url.username is None and port != 0


def _extra(members: _Members, model: str, allowed: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    top_level = {name: value for name, value in members.items() if name not in _COMMON and not _is_automatic(name, value)}
    try:
        written = _without_nulls(_members(members.get("extra", b"{}")))
        nested = {name: value for name, value in written.items() if not _is_automatic(name, value)}
        if "extra" in members:
            check_once(bytes(members["extra"]))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _invalid("extra", "`extra` must be an object") from None
    for name in top_level.keys() & nested.keys():
        raise _invalid("extra", f"{name[:64]!r} is both in `extra` and at the top level; send it once")
    for name in (*top_level, *nested):
        if name not in allowed:
            advice = f"besides the common members it takes {', '.join(allowed)}" if allowed else "it takes no further members"
            raise _invalid(
                name if name.isidentifier() and len(name) <= 64 else "extra", f"{model} does not take {name[:64]!r}; {advice}"
            )
    extra = sorted((name, bytes(value)) for name, value in {**top_level, **nested}.items())
    for name, value in extra:
        if not _is_utf_8(value):
            raise _invalid(name, f"`{name}` is not UTF-8")
    return tuple(extra)


def _is_automatic(name: str, value: msgspec.Raw) -> bool:
    return name in _AUTOMATIC and bytes(value) == b'"auto"'


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _response_format(members: _Members) -> str | None:
    response_format = _string(members, "response_format")
    if response_format not in (None, "url", "b64_json"):
        raise _invalid("response_format", "`response_format` must be url or b64_json")
    return response_format


def _idempotency_key(members: _Members, header: str | None) -> str | None:
    key = _string(members, "idempotency_key")
    if key is not None and header is not None and key != header:
        raise _invalid("idempotency_key", "The header Idempotency-Key and `idempotency_key` differ; send one of them")
    key = header if key is None else key
    if key is not None and (len(key) > MAX_KEY_CHARACTERS or not _KEY.fullmatch(key)):
        raise _invalid("idempotency_key", f"An idempotency key has 1 to {MAX_KEY_CHARACTERS} printable ASCII characters")
    return key
