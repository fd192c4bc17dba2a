"""Says the errors of sources in the words of OpenAI's dialect: codes, and the wording by which some clients act. (Contract §5.)

https://platform.openai.com/docs/guides/error-codes has the codes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.dialect.openai import error_type
from kyma_proxy.dialect.source_errors import SourceError, read_source_error
from kyma_proxy.dialect.translation import TranslatedAnswer
from kyma_proxy.errors import Kind

_OVERFLOW: Final = "maximum context length"
_CODES: Final = {Kind.PROVIDER_RATE_LIMITED: "rate_limit_exceeded"}
_encode: Final = msgspec.json.encode


def translate_error(status: int, body: bytes) -> TranslatedAnswer:
    """Translate a source's error, whatever its body. OpenAI's client libraries do not know 529; it becomes 503."""
    error = read_source_error(status, body)
    return TranslatedAnswer(error.status, _encode({"error": error_object(error)}))


def error_object(error: SourceError) -> dict[str, object]:
    """Return an error object of OpenAI's dialect."""
    kind = error.kind
    param = "messages" if kind is Kind.CONTEXT_LENGTH_EXCEEDED else error.param
    return {"message": message_of(error), "type": error_type(kind), "param": param, "code": _CODES.get(kind, kind.code)}


def message_of(error: SourceError) -> str:
    """Return the message for a caller: the source's, or OpenAI's own words for a prompt that is too long."""
    if error.kind is not Kind.CONTEXT_LENGTH_EXCEEDED or _OVERFLOW in error.message:
        return error.words
    wanted = error.wants_too_much
    if not wanted:
        return f"This model's {_OVERFLOW} is exceeded: {error.words}"
    begin = f"This model's {_OVERFLOW} is {error.context} tokens. However,"
    if wanted == error.prompt:
        return f"{begin} your messages resulted in {error.prompt} tokens. Please reduce the length of the messages."
    parts = f"{error.prompt} in the messages, {error.answer} in the completion"
    return f"{begin} you requested {wanted} tokens ({parts}). Please reduce the length of the messages or completion."
