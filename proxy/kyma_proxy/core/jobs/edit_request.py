"""Makes a request for an image job of what the SDKs send to edit pictures: a form with files, or OpenAI's JSON with `images`.

The pictures of a form become data URLs, as an image job takes them; so do those of its mask. What a picture is, its first bytes
say: the type that a form names is often only guessed from the name of a file.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kyma_proxy.core.http.form import FormReader
from kyma_proxy.core.http.form_part import bad_form, boundary_of, read_part
from kyma_proxy.errors import GatewayError, Kind

_WHOLE_NUMBERS: Final = frozenset({"n", "output_compression", "partial_images", "seed"})
_TRUTHS: Final[Mapping[str, bool]] = MappingProxyType({"true": True, "false": False})
_PICTURES: Final = ("image", "image[]")
_MASK: Final = "mask"
_KINDS: Final = (
    (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF87a", "gif"), (b"GIF89a", "gif"),
)  # fmt: skip
_encode: Final = msgspec.json.encode
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_images: Final = msgspec.json.Decoder(list[dict[str, Any]] | None).decode


def edit_members(content_type: bytes | None, body: bytes) -> bytes:
    """The JSON body of a request for an image job. Raises GatewayError for a form that can't be read.

    A body that is no form is taken for JSON, in which pictures stand under `images` as objects with an `image_url`.
    """
    if content_type is None or not content_type.lower().lstrip().startswith(b"multipart/"):
        return _with_urls(body)
    boundary = boundary_of(content_type)
    form = FormReader(boundary)
    form.feed(body)
    form.finish()
    members: dict[str, Any] = {}
    pictures: list[str] = []
    # The reader has taken the form, so its boundary stands nowhere but between parts.
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = part[2:].partition(b"\r\n\r\n")
        read = read_part(head)
        name = read.name.decode("utf-8", "replace")
        if name in _PICTURES:
            pictures.append(_data_url(name, content))
        elif name == _MASK:
            members[_MASK] = {"image_url": _data_url(name, content)}
        elif read.is_file:
            raise _invalid(name, f"The file {name[:64]!r} is neither `image` nor `mask`")
        elif name in members:
            raise _invalid(name, f"The form has the field {name[:64]!r} twice; send it once")
        else:
            members[name] = _value(name, content)
    if pictures:
        members["image_urls"] = pictures
    return _encode(members)


def _with_urls(body: bytes) -> bytes:
    """A JSON body with its `images`, if it has any, as `image_urls`. What is no such body is refused later, as any other."""
    try:
        members = _members(body)
        images = _images(members.get("images", msgspec.Raw(b"null")))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body
    if not images or "image_urls" in members:
        return body
    urls = [image.get("image_url") for image in images]
    return _encode({name: value for name, value in members.items() if name != "images"} | {"image_urls": urls})


def _value(name: str, content: bytes) -> Any:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise bad_form(f"The field {name[:64]!r} of the form is not UTF-8") from None
    if name in _WHOLE_NUMBERS and text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    return _TRUTHS.get(text, text) if name == "stream" else text


def _data_url(name: str, content: bytes) -> str:
    kind = next((kind for magic, kind in _KINDS if content.startswith(magic)), None)
    if kind is None and content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise _invalid(name, f"`{name}` must be a picture: PNG, JPEG, WebP or GIF")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _invalid(param: str, message: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"{message}.", param=param if param.isidentifier() else None)
