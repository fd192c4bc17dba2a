"""Estimates how many tokens a request will take, before a provider has counted them. (Contract §7, §8.)

Text counts about one token per 4 bytes of the body. An image, a sound or a document is one long string of base64; providers
count what it shows and not its bytes, so each such string counts MEDIA_TOKENS. That is the middle of what they take for a
picture of a megapixel (Gemini 258 to 1,290, OpenAI 765, Anthropic 1,400). A large one counts more, a token for each 512 bytes,
so that text disguised as media is not free. In the end the reported usage replaces the estimate.

Only a string that would count more as text matters. The search steps over the body in strides of that length and finds every
such string: it never touches most bytes of a long prompt, and no body makes it slow.
"""

from __future__ import annotations

import re
from typing import Final

BYTES_PER_TOKEN: Final = 4
MEDIA_TOKENS: Final = 1000
_STRIDE: Final = MEDIA_TOKENS * BYTES_PER_TOKEN
_MAX_DIGITS: Final = 18
_MAX_COPIES: Final = 128
_MEDIA_BYTES_PER_TOKEN: Final = 512
_MEDIA_URL: Final = re.compile(rb'data:[^,"]{0,256};base64,[A-Za-z0-9+/=_\\-]{256}')  # PHP writes a slash as \/
_MEDIA: Final = re.compile(rb"[A-Za-z0-9+/=_\\-]{256}")
_MEMBER: Final = re.compile(rb'"(?:file_)?data"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}"\Z')
_MAX_MEMBER_BYTES: Final = 32


def estimated_prompt_tokens(body: bytes) -> int:
    """About how many tokens the prompt in this body has."""
    size = len(body)
    position = media = media_bytes = 0
    while position + _STRIDE <= size:
        quote = body.rfind(b'"', position, position + _STRIDE)
        if quote >= 0:
            position = quote + 1
            continue
        end = body.find(b'"', position + _STRIDE)
        if end < 0:
            break
        if _is_media(body, position, end):
            media += max(MEDIA_TOKENS, (end - position) // _MEDIA_BYTES_PER_TOKEN)
            media_bytes += end - position
        position = end + 1
    return -(-(size - media_bytes) // BYTES_PER_TOKEN) + media


def _is_media(body: bytes, start: int, end: int) -> bool:
    """True if these bytes, at least a stride without a quote, are a `data:` URL or the value of `data` or `file_data`.

    They must begin with base64 and hold no space, which no long text does without.
    """
    if _MEDIA_URL.match(body, start, end) is not None:
        if start < 2 or body[start - 2 : start - 1] == b"\\":  # the quote is escaped: a text that quotes such a URL
            return False
    elif _MEDIA.match(body, start, end) is None or _MEMBER.search(body, max(0, start - _MAX_MEMBER_BYTES), start) is None:
        return False
    return body.find(b" ", start, end) < 0


def most_output(max_tokens: tuple[bytes, ...], inserted: int | None, bound: int | None, unknown: int) -> int:
    """The tokens of output that one answer may have. (Contract §8.)

    `max_tokens` are the texts of JSON values, as the caller wrote them, and `inserted` is what the gateway inserts where there
    are none. Which of several values a provider obeys is not known, so the largest counts; one that is not a positive integer
    sets no limit. `bound` is the most that the model can say. Where nothing limits the answer, it is thought to have `unknown`
    tokens.
    """
    unlimited = unknown if bound is None else bound
    if max_tokens:
        tokens = max([_positive(text, unlimited) for text in max_tokens])
    else:
        tokens = unlimited if inserted is None else inserted
    return tokens if bound is None else min(tokens, bound)


def answers_asked(copies: tuple[bytes, ...]) -> int:
    """The number of answers that a request wants; `copies` are the texts of JSON values, of which the largest counts."""
    return min(max([_positive(text, 1) for text in copies]), _MAX_COPIES) if copies else 1


def _positive(text: bytes, otherwise: int) -> int:
    return (int(text[:_MAX_DIGITS]) or otherwise) if text.isdigit() else otherwise
