"""Estimates how many tokens a request will take, before a provider has counted them. (Contract §7, §8.)

Text counts about one token per 4 bytes of the body. Images, sounds and documents, which are long strings of base64, count what
they show; see `media`. In the end the reported usage replaces the estimate.

Only a string that would count more as text matters. The search steps over the body in strides of that length and looks at every
such string: it never touches most bytes of a long prompt, and no body makes it slow. Only if one of them may be media is the
rest of the body parsed.
"""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from kyma_proxy.core.accounts.media import MAX_PIECES, MEDIA_TOKENS, Piece, media_in
from kyma_proxy.errors import GatewayError, Kind

BYTES_PER_TOKEN: Final = 4
_STRIDE: Final = MEDIA_TOKENS * BYTES_PER_TOKEN
_MAX_DIGITS: Final = 18
_ZERO: Final = 0x30
MAX_COPIES: Final = 128
"""The most answers to one prompt: OpenAI's bound."""
_MAX_COPIES_BYTES: Final = 64
_MAX_PROMPTS: Final = 10_000
_TOKEN: Final = re.compile(rb"[ \t\r\n]*+[-\d]")
_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MEDIA: Final = re.compile(
    rb"(?:data:[^,\"]{0,256};base64,)?[A-Za-z0-9+/=_\\-]{256}", re.IGNORECASE
)  # PHP writes a slash as \/
_MEMBER: Final = re.compile(rb'"(?:(?:image_|audio_|video_)?url|(?:file_)?data)"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}"\Z')
_MAX_MEMBER_BYTES: Final = 32
_BACKSLASH: Final = 0x5C


def estimated_prompt_tokens(body: bytes) -> int:
    """About how many tokens the prompt in this body has."""
    size = len(body)
    position = 0
    pieces: list[Piece] = []
    while position + _STRIDE <= size:
        quote = body.rfind(b'"', position, position + _STRIDE)
        if quote >= 0:
            position = quote + 1
            continue
        end = body.find(b'"', position + _STRIDE)
        if end < 0:
            break
        if len(pieces) < MAX_PIECES and _may_be_media(body, position, end):
            pieces.append(Piece(position, end))
        position = end + 1
    if not pieces:
        return -(-size // BYTES_PER_TOKEN)
    media_bytes, tokens = media_in(body, pieces)
    return -(-(size - media_bytes) // BYTES_PER_TOKEN) + tokens


def _may_be_media(body: bytes, start: int, end: int) -> bool:
    """True if these bytes, at least a stride without a quote, are base64 in a member that media stands in."""
    if _MEDIA.match(body, start, end) is None or body[end - 1] == _BACKSLASH:
        return False
    return _MEMBER.search(body, max(0, start - _MAX_MEMBER_BYTES), start) is not None


def most_output(max_tokens: tuple[bytes, ...], inserted: int | None, bound: int | None, unknown: int) -> int:
    """The tokens of output that one answer may have. (Contract §8.)

    `max_tokens` are the texts of JSON values, as the caller wrote them, and `inserted` is what the gateway inserts where there
    are none. Which of several values a provider obeys is not known, so the largest counts; one that is not a positive integer
    may set no limit. `bound` is the most that the model can say. Where nothing limits the answer, it is thought to have
    `unknown` tokens.
    """
    unlimited = unknown if bound is None else bound
    if len(max_tokens) == 1:
        tokens = _positive(max_tokens[0], unlimited)
    elif max_tokens:
        tokens = max([_positive(text, unlimited) for text in max_tokens])
    else:
        tokens = unlimited if inserted is None else inserted
    return tokens if bound is None else min(tokens, bound)


def answers_asked(copies: tuple[bytes, ...]) -> int:
    """The number of answers that a request wants; `copies` are the texts of JSON values, of which the largest counts.

    Some providers take `"5"` and `5.0` for 5. What is no number at all counts as many, as what it means is not known.
    """
    return max([_answers(text) for text in copies]) if copies else 1


def check_copies(name: str, text: bytes) -> None:
    """Raises GatewayError if a member with a number of answers has one that no provider gives; nothing could hold its cost."""
    if text == b"null" or (text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_COPIES):
        return
    try:
        number = float(text.strip(b'"')) if len(text) <= _MAX_COPIES_BYTES else math.inf
    except ValueError:
        return  # it is no number, and counts as many
    if not 1 <= number <= MAX_COPIES:
        raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` must be a whole number from 1 to {MAX_COPIES}.", param=name)


def prompts_asked(written: bytes) -> int:
    """The number of prompts in a `prompt` of `completions`, each of which is answered: texts, or lists of tokens.

    A list of numbers is one prompt. Of a very long list, at least as many are counted as it has.
    """
    if not written.startswith(b"[") or _TOKEN.match(written, 1) is not None:
        return 1
    most = written.count(b'"') // 2 + written.count(b"[") - 1
    if most > _MAX_PROMPTS:
        return most
    try:
        return len(_items(written)) or 1
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return most or 1


def _answers(text: bytes) -> int:
    if text.isdigit():
        return int(text[:_MAX_DIGITS]) or 1
    if text == b"null":
        return 1
    if len(text) > _MAX_DIGITS:  # a part of `0.0000000000000000001e25` is another number
        return MAX_COPIES
    try:
        return max(1, math.ceil(float(text.strip(b'"'))))
    except (ValueError, OverflowError):
        return MAX_COPIES


def _positive(text: bytes, otherwise: int) -> int:
    """A limit as the caller wrote it. Some providers take `"5"` and `5.0` for 5; to others it is none."""
    if text.isdigit():
        number = 0
        for digit in text[:_MAX_DIGITS]:  # a call of int() takes several times as long
            number = number * 10 + digit - _ZERO
        return number or otherwise
    try:
        return max(otherwise, math.ceil(float(text.strip(b'"')[:_MAX_DIGITS])))
    except (ValueError, OverflowError):
        return otherwise
