"""Says the errors of sources in the words of Anthropic's dialect, by which its clients act. (Contract §5.)

An agent shortens its conversation if it reads "prompt is too long", and asks for a shorter answer if it reads that prompt and
`max_tokens` together exceed the limit: https://docs.claude.com/en/api/errors and the sources of Claude Code.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.dialect.anthropic import ANTHROPIC, error_type
from kyma_proxy.dialect.source_errors import SourceError, read_source_error
from kyma_proxy.dialect.translation import TranslatedAnswer
from kyma_proxy.errors import Kind

_PREFIXES: Final = {
    Kind.CONTENT_FILTERED: "Output blocked by content filtering policy", Kind.INVALID_IMAGE: "Could not process image",
    Kind.BODY_TOO_LARGE: "Request exceeds the maximum size",
}  # fmt: skip
"""The beginnings of messages by which clients tell kinds apart that have one type."""
_encode: Final = msgspec.json.encode


def translate_error(status: int, body: bytes, request_id: str) -> TranslatedAnswer:
    """Translate a source's error; without a request id if that is ""."""
    error = read_source_error(status, body)
    return TranslatedAnswer(ANTHROPIC.statuses.get(error.kind, error.status), error_body(error, request_id))


def error_body(error: SourceError, request_id: str) -> bytes:
    """Return the body of an error, or the data of an error event."""
    document: dict[str, object] = {"type": "error", "error": {"type": error_type(error.kind), "message": _message(error)}}
    return _encode(document | {"request_id": request_id} if request_id else document)


def _message(error: SourceError) -> str:
    if error.kind is Kind.CONTEXT_LENGTH_EXCEEDED:
        return _too_long(error)
    message = error.words
    prefix = _PREFIXES.get(error.kind)
    return message if prefix is None or prefix.lower() in message.lower() else f"{prefix}: {message}"


def _too_long(error: SourceError) -> str:
    wanted = error.wants_too_much
    if not wanted:
        return error.message if error.message.startswith("prompt is too long") else f"prompt is too long: {error.words}"
    if error.is_prompt_too_long:
        return f"prompt is too long: {wanted} tokens > {error.context} maximum"
    numbers = f"{error.prompt} + {error.answer} > {error.context}"
    advice = "decrease input length or `max_tokens` and try again"
    return f"input length and `max_tokens` exceed context limit: {numbers}, {advice}"
