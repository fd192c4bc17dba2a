"""This file estimates how many tokens a request will take, before anyone has counted them. (Contract §7, §8.)

About one token per 4 bytes of the body's text. An image, a sound or a document in it is one long string of base64, for which
a provider counts by what it shows and not by its bytes: each such string counts MEDIA_TOKENS. That is the middle of what
they take for a picture of a megapixel (Gemini 258 to 1,290, OpenAI 765, Anthropic 1,400). A large one counts more, a token for
each 512 bytes: a text in disguise shall not be free, and in the end the fact takes the estimate's place.

Only a string that would count more as text is worth a look, and strides of that length find every one: most bytes of a
long prompt are never touched, and there is no body that makes it slow.
"""

from __future__ import annotations

import re
from typing import Final

BYTES_PER_TOKEN: Final = 4
MEDIA_TOKENS: Final = 1000
MAX_OUTPUT_TOKENS: Final = 4096
_STRIDE: Final = MEDIA_TOKENS * BYTES_PER_TOKEN
_MAX_DIGITS: Final = 18
_MAX_COPIES: Final = 128
_MEDIA_BYTES_PER_TOKEN: Final = 512
_MEDIA_URL: Final = re.compile(rb'data:[^,"]{0,256};base64,[A-Za-z0-9+/=_\\-]{256}')  # PHP writes a slash as \/
_MEDIA: Final = re.compile(rb"[A-Za-z0-9+/=_\\-]{256}")
_MEMBER: Final = re.compile(rb'"(?:file_)?data"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}"\Z')
_LONGEST_MEMBER: Final = 32


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
    """Whether these bytes without a quote, at least a stride, are a `data:` URL, or a member named `data` or `file_data`.

    Their beginning must be base64, and all of them without a space, as no long text is.
    """
    if _MEDIA_URL.match(body, start, end) is not None:
        if start < 2 or body[start - 2 : start - 1] == b"\\":  # that quote is part of a text, which only shows such an URL
            return False
    elif _MEDIA.match(body, start, end) is None or _MEMBER.search(body, max(0, start - _LONGEST_MEMBER), start) is None:
        return False
    return body.find(b" ", start, end) < 0


def likely_output(max_tokens: tuple[bytes, ...], copies: tuple[bytes, ...], default: int | None) -> int:
    """How many tokens of output are held for a request: what it asks for, or gets by default, and 4096 an answer at most. (§8)

    `max_tokens` and `copies` are texts of JSON values, as the caller wrote them. Which of several a provider obeys nobody can
    tell, so the largest counts; and one that is no positive integer counts as the most.
    """
    asked = default or MAX_OUTPUT_TOKENS
    if max_tokens:
        asked = max([_positive(written, MAX_OUTPUT_TOKENS) for written in max_tokens])
    answers = max([_positive(written, 1) for written in copies]) if copies else 1
    return min(asked, MAX_OUTPUT_TOKENS) * min(answers, _MAX_COPIES)


def _positive(written: bytes, otherwise: int) -> int:
    return (int(written[:_MAX_DIGITS]) or otherwise) if written.isdigit() else otherwise
