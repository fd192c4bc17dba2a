"""Finds the images, sounds and documents of a prompt, which count what they show and not their bytes. (Contract §7, §8.)

A caller must not have text counted as media by wrapping it. So a string counts only if a provider would take it for media: it
stands in a part of a message, the part's type declares an image, a sound, a video or a document, the media type fits, and it
looks like base64 of something that is no text. A provider refuses such a part if it holds anything else. The same words in a
tool's schema, in the arguments of a call or in a text are text.

A prompt of 30 MB is never decoded. Every string that is long enough is cut out of the body first, and only its beginning is
left, with its number behind a byte that JSON can't have. What remains is small, or it has too much text to be looked into.

Sources: OpenAI's content parts (https://platform.openai.com/docs/api-reference/chat/create, …/responses/create), Anthropic's
content blocks (https://platform.claude.com/docs/en/api/messages), OpenRouter's and vLLM's `audio_url` and `video_url`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

MEDIA_TOKENS: Final = 1000
"""The least that one of them counts: the middle of what providers take for a picture of a megapixel (Gemini 258 to 1,290,
OpenAI 765, Anthropic 1,400)."""

# Base64 characters for a token: a large picture is scaled down; sound takes 10 to 32 tokens a second, and a compressed second
# may have 2 KB; a page of a document takes 1,500 to 3,000 tokens.
_IMAGE, _PLAIN_SOUND, _SOUND, _DOCUMENT = 512, 512, 128, 96
_DATA_URL: Final = re.compile(r"data:([a-z]+)/([a-z0-9.+-]{1,100})(?:;[a-z0-9=_.+-]{1,100}){0,4};base64,", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]{256,}")
_BASE64_FOLLOWS: Final = b";base64,"
_PLAIN_FORMATS: Final = frozenset({"wav", "x-wav", "pcm16", "pcm", "aiff"})
_DOCUMENT_TYPES: Final = frozenset({"pdf", "x-pdf"})
_HEAD_BYTES: Final = 2048
_MAGIC_CHARACTERS: Final = 48
_MAX_DEPTH: Final = 3
MAX_PIECES: Final = 1000
"""So many strings of a body may be media; providers take no more, and to look at each takes time."""
_KEPT_BYTES: Final = 320
"""More than the beginning of a data URL takes."""
_MAX_TEXT_BYTES: Final = 4 * 2**20
_MAX_COMMAS: Final = 200_000
_MAX_ITEMS: Final = 20_000
_MARK: Final = b"\xff"
_CUT: Final = re.compile(rb'"([^"]*)\xff(\d+)"')
_printable: Final = frozenset({*range(0x20, 0x7F), 9, 10, 13})
_NOTHING: Final = Raw(b"")


class _Prompt(msgspec.Struct, gc=False):
    messages: Raw = _NOTHING
    input: Raw = _NOTHING


class _Item(msgspec.Struct, gc=False):
    """A message, or a part of one."""

    type: Raw = _NOTHING
    content: Raw = _NOTHING
    output: Raw = _NOTHING
    image_url: Raw = _NOTHING
    audio_url: Raw = _NOTHING
    video_url: Raw = _NOTHING
    input_audio: Raw = _NOTHING
    file: Raw = _NOTHING
    file_data: Raw = _NOTHING
    filename: Raw = _NOTHING
    source: Raw = _NOTHING


class _Holder(msgspec.Struct, gc=False):
    """The object within a part that holds the media."""

    type: Raw = _NOTHING
    url: Raw = _NOTHING
    image_url: Raw = _NOTHING
    data: Raw = _NOTHING
    format: Raw = _NOTHING
    file_data: Raw = _NOTHING
    filename: Raw = _NOTHING
    media_type: Raw = _NOTHING


_prompt: Final = msgspec.json.Decoder(_Prompt).decode
_items: Final = msgspec.json.Decoder(list[Raw]).decode
_item: Final = msgspec.json.Decoder(_Item).decode
_holder: Final = msgspec.json.Decoder(_Holder).decode
_text: Final = msgspec.json.Decoder(str).decode
_EMPTY: Final = _Holder()
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Piece(NamedTuple):
    """The place of a long string in the body, without its quotes."""

    start: int
    end: int


class _Media(NamedTuple):
    """A declared piece of media: its place, its kind (`image`, `audio`, `video` or `application`) and its format."""

    start: int
    end: int
    kind: str
    form: str


def media_in(body: bytes, pieces: list[Piece]) -> tuple[int, int]:
    """The bytes of the body that are media and no text, and the tokens that these count.

    Only the given pieces may be media: long strings without a quote, in the order of the body.
    """
    if _MARK in body:  # it is no JSON
        return 0, 0
    outline = _outline(body, pieces)
    if len(outline) > _MAX_TEXT_BYTES or outline.count(b",") > _MAX_COMMAS:
        return 0, 0
    size = tokens = 0
    finder = _Finder(pieces)
    try:
        prompt = _prompt(outline)
        for media in (*finder.in_list(prompt.messages, 0), *finder.in_list(prompt.input, 0)):
            found = _tokens(body, media)
            if found:
                size += media.end - media.start
                tokens += found
    except _UNREADABLE:
        return 0, 0
    return size, tokens


def _outline(body: bytes, pieces: list[Piece]) -> bytes:
    """The body with the number of each piece in place of all but its beginning."""
    parts: list[bytes] = []
    position = size = 0
    for number, (start, end) in enumerate(pieces):
        kept = body[position : start + _KEPT_BYTES]
        size += len(kept)
        if size > _MAX_TEXT_BYTES:
            break
        parts += (kept, b"\xff%d" % number)
        position = end
    return b"".join((*parts, body[position : position + 2 * _MAX_TEXT_BYTES]))


class _Finder:
    """Finds what messages and parts declare to be media, in a body whose long strings are cut out."""

    __slots__ = ("_items_left", "_pieces")

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self._items_left = _MAX_ITEMS

    def in_list(self, raw: Raw, depth: int) -> Iterable[_Media]:
        """Each declared piece of media below a list of messages or parts. Raises what msgspec raises."""
        if depth > _MAX_DEPTH or bytes(memoryview(raw)[:1]) != b"[":
            return
        items = _items(raw)
        self._items_left -= len(items)
        if self._items_left < 0:
            return
        for one in items:
            written = bytes(one)
            if _MARK not in written or not written.startswith(b"{"):
                continue
            item = _item(written)
            kind = _string(item.type)
            declared = self._declared(item, kind)
            if declared is not None:
                yield declared
            elif kind in (None, "message", "tool_result"):
                yield from self.in_list(item.content, depth + 1)
            elif kind in ("function_call_output", "custom_tool_call_output"):
                yield from self.in_list(item.output, depth + 1)

    def _declared(self, item: _Item, kind: str | None) -> _Media | None:
        if kind in ("image_url", "audio_url", "video_url"):
            url = item.image_url if kind == "image_url" else item.audio_url if kind == "audio_url" else item.video_url
            return self._of_url(url if _starts(url, b'"') else _held(url).url, kind[:5])
        if kind == "input_image":
            return self._of_url(item.image_url, "image")
        if kind == "computer_call_output":
            return self._of_url(_held(item.output).image_url, "image")
        if kind == "input_audio":
            sound = _held(item.input_audio)
            form = _string(sound.format)
            return None if form is None else self._of_base64(sound.data, "audio", form.lower())
        if kind in ("file", "input_file"):
            file = _held(item.file) if kind == "file" else item
            if not _starts(file.file_data, b'"data:'):
                name = _string(file.filename)
                is_pdf = name is not None and name.lower().endswith(".pdf")
                return self._of_base64(file.file_data, "application", "pdf") if is_pdf else None
            return self._of_url(file.file_data, None)
        if kind in ("image", "document"):
            source = _held(item.source)
            media_type = _string(source.media_type)
            if _string(source.type) != "base64" or media_type is None:
                return None
            declared, _, form = media_type.lower().partition("/")
            is_fit = declared == ("image" if kind == "image" else "application")
            return self._of_base64(source.data, declared, form) if is_fit else None
        return None

    def _of_url(self, raw: Raw, kind: str | None) -> _Media | None:
        """The media in a data URL, if it is of this kind; of any if that is None."""
        match = _CUT.fullmatch(raw)
        if match is None:
            return None
        scheme, found, _ = match[1].partition(_BASE64_FOLLOWS)
        url = _DATA_URL.fullmatch(_text(b'"%b%b"' % (scheme, found)))
        if url is None or (kind is not None and url[1].lower() != kind):
            return None
        piece = self._pieces[int(match[2])]
        return _Media(piece.start + len(scheme) + len(found), piece.end, url[1].lower(), url[2].lower())

    def _of_base64(self, raw: Raw, kind: str, form: str) -> _Media | None:
        match = _CUT.fullmatch(raw)
        if match is None:
            return None
        piece = self._pieces[int(match[2])]
        return _Media(piece.start, piece.end, kind, form)


def _starts(raw: Raw, start: bytes) -> bool:
    return bytes(memoryview(raw)[: len(start)]) == start


def _string(raw: Raw) -> str | None:
    """A short string; "" for any other value, None for none."""
    written = bytes(raw)
    if not written or written == b"null":
        return None
    return _text(written) if written.startswith(b'"') and _MARK not in written else ""


def _held(raw: Raw) -> _Holder:
    return _holder(raw) if _starts(raw, b"{") else _EMPTY


def _tokens(body: bytes, media: _Media) -> int:
    """The tokens of a piece of media; 0 if it counts as text."""
    if not _looks_like_media(body, media.start, media.end):
        return 0
    if media.kind in ("image", "video"):
        rate = _IMAGE
    elif media.kind == "audio":
        rate = _PLAIN_SOUND if media.form in _PLAIN_FORMATS else _SOUND
    elif media.kind == "application" and media.form in _DOCUMENT_TYPES:
        rate = _DOCUMENT
    else:  # text in any of its formats: what it says is what counts
        return 0
    return max(MEDIA_TOKENS, (media.end - media.start) // rate)


def _looks_like_media(body: bytes, start: int, end: int) -> bool:
    """True for base64 without spaces of what does not begin as text does; a PDF may."""
    written = body[start : min(end, start + _HEAD_BYTES)]
    escape = written.rfind(b"\\", max(0, len(written) - 6))
    try:
        text = _text(b'"%b"' % (written if escape < 0 else written[:escape]))  # some escape slashes, and plus signs
        if _BASE64.fullmatch(text) is None or body.find(b" ", start, end) >= 0:
            return False
        content = binascii.a2b_base64(text[:_MAGIC_CHARACTERS].replace("-", "+").replace("_", "/"))
    except (*_UNREADABLE, binascii.Error):
        return False
    return content.startswith(b"%PDF-") or not _printable.issuperset(content)
