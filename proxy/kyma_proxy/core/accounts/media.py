"""Finds the images, sounds and documents of a prompt, which count what they show and not their bytes. (Contract §7, §8.)

A caller must not have text counted as media by wrapping it. So a string counts only if a provider would take it for media: it
stands in a part of a message, the part's type declares an image, a sound, a video or a document, the media type fits, and it
looks like base64 of something that is no text. A provider refuses such a part if it holds anything else. The same words in a
tool's schema, in the arguments of a call or in a text are text.

Sources: OpenAI's content parts (https://platform.openai.com/docs/api-reference/chat/create, …/responses/create), Anthropic's
content blocks (https://platform.claude.com/docs/en/api/messages), OpenRouter's and vLLM's `audio_url` and `video_url`.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

MEDIA_TOKENS: Final = 1000
"""The least that one of them counts: the middle of what providers take for a picture of a megapixel (Gemini 258 to 1,290,
OpenAI 765, Anthropic 1,400)."""

# Base64 characters for a token: a large picture is scaled down; sound takes 10 to 32 tokens a second, and a compressed second
# may have 2 KB; a page of a document takes 1,500 to 3,000 tokens.
_IMAGE, _PLAIN_SOUND, _SOUND, _DOCUMENT = 512, 512, 128, 96
_DATA_URL: Final = re.compile(r"data:([a-z]+)/([a-z0-9.+-]{1,100})(?:;[a-z0-9=_.+-]{1,100}){0,4};base64,", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]{256}")
_PLAIN_FORMATS: Final = frozenset({"wav", "x-wav", "pcm16", "pcm", "aiff"})
_DOCUMENT_TYPES: Final = frozenset({"pdf", "x-pdf"})
_PREFIX_CHARACTERS: Final = 256
_MAGIC_CHARACTERS: Final = 48
_MAX_DEPTH: Final = 3
_SMALL_BYTES: Final = 2 * 2**20
_MAX_VALUES: Final = 500_000
"""A body of more values has no media: to parse it would take hundreds of megabytes."""
_printable: Final = frozenset({*range(0x20, 0x7F), 9, 10, 13})


class _Prompt(msgspec.Struct, gc=False):
    messages: Any = None
    input: Any = None


_prompt: Final = msgspec.json.Decoder(_Prompt).decode


def media_in(body: bytes, least: int) -> tuple[int, int]:
    """The bytes of the body that are media and no text, and the tokens that these count.

    Strings under `least` characters count as text.
    """
    if len(body) > _SMALL_BYTES and body.count(b",") + body.count(b"{") + body.count(b"[") > _MAX_VALUES:
        return 0, 0
    try:
        prompt = _prompt(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return 0, 0
    size = tokens = 0
    first = ""
    for text, kind, subtype in itertools.chain(_parts(prompt.messages, 0), _parts(prompt.input, 0)):
        found = _tokens(text, kind, subtype, least)
        if found:
            size += len(text)
            tokens += found
            first = first or text[:_PREFIX_CHARACTERS]
    if first.encode() not in body:  # PHP writes a slash as \/, which is one character everywhere
        size += len(body) - len(body.replace(b"\\/", b"/"))
    return size, tokens


def _parts(items: object, depth: int) -> Iterable[tuple[str, str, str]]:
    """Each declared piece of media below a list of messages or parts: its text, and its declared kind and format."""
    if not isinstance(items, list) or depth > _MAX_DEPTH:
        return
    for item in items:
        if not isinstance(item, dict):
            continue
        declared = _declared(item)
        if declared is not None:
            yield declared
        elif item.get("type") in (None, "message", "tool_result"):
            yield from _parts(item.get("content"), depth + 1)
        elif item.get("type") in ("function_call_output", "custom_tool_call_output"):
            yield from _parts(item.get("output"), depth + 1)


def _declared(part: dict[str, Any]) -> tuple[str, str, str] | None:
    """The text of a part that declares media, its kind (`image`, `audio`, `video` or `application`) and its format."""
    kind = part.get("type")
    if kind in ("image_url", "audio_url", "video_url"):
        url = part.get(kind)
        return _of_kind(_member(url, "url") if isinstance(url, dict) else url, kind[:5])
    if kind == "input_image":
        return _of_kind(part.get("image_url"), "image")
    if kind == "computer_call_output":
        return _of_kind(_member(part.get("output"), "image_url"), "image")
    if kind == "input_audio":
        sound = part.get("input_audio")
        text, form = _member(sound, "data"), _member(sound, "format")
        return (text, "audio", form.lower()) if isinstance(text, str) and isinstance(form, str) else None
    if kind in ("file", "input_file"):
        text = _member(part.get("file"), "file_data") if kind == "file" else part.get("file_data")
        name = _member(part.get("file"), "filename") if kind == "file" else part.get("filename")
        if isinstance(text, str) and not text.startswith("data:"):
            return (text, "application", "pdf") if isinstance(name, str) and name.lower().endswith(".pdf") else None
        return _of_url(text)
    if kind in ("image", "document"):
        source = part.get("source")
        text, media_type = _member(source, "data"), _member(source, "media_type")
        if _member(source, "type") != "base64" or not isinstance(text, str) or not isinstance(media_type, str):
            return None
        declared, _, form = media_type.lower().partition("/")
        return (text, declared, form) if declared == ("image" if kind == "image" else "application") else None
    return None


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _of_kind(url: object, kind: str) -> tuple[str, str, str] | None:
    found = _of_url(url)
    return found if found is not None and found[1] == kind else None


def _of_url(url: object) -> tuple[str, str, str] | None:
    match = _DATA_URL.match(url) if isinstance(url, str) else None
    if match is None or not isinstance(url, str):
        return None
    return url[match.end() :], match[1].lower(), match[2].lower()


def _tokens(text: str, kind: str, form: str, least: int) -> int:
    """The tokens of a piece of media; 0 if it counts as text."""
    if len(text) < least or not _looks_like_media(text):
        return 0
    if kind in ("image", "video"):
        rate = _IMAGE
    elif kind == "audio":
        rate = _PLAIN_SOUND if form in _PLAIN_FORMATS else _SOUND
    elif kind == "application" and form in _DOCUMENT_TYPES:
        rate = _DOCUMENT
    else:  # text in any of its formats: what it says is what counts
        return 0
    return max(MEDIA_TOKENS, len(text) // rate)


def _looks_like_media(text: str) -> bool:
    """True for base64 without spaces of what does not begin as text does; a PDF may."""
    if _BASE64.match(text) is None or " " in text:
        return False
    start = text[:_MAGIC_CHARACTERS].replace("-", "+").replace("_", "/")
    try:
        content = binascii.a2b_base64(start)
    except binascii.Error:
        return False
    return content.startswith(b"%PDF-") or not _printable.issuperset(content)
