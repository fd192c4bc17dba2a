"""Says the errors of sources in the words of Responses: a chat's before the answer, and own codes within it. (Contract §5.)

Agents act on the code of a failed response: they shorten the conversation, wait, ask again, or give up. `invalid_prompt` is the
one with which they do not ask again. (The sources of Codex; `ResponseError` in OpenAI's reference.)
"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.dialect.openai_to_anthropic.errors import error_object, message_of
from kyma_proxy.dialect.source_errors import SourceError, error_in_stream, read_source_error
from kyma_proxy.dialect.translation import TranslatedAnswer
from kyma_proxy.errors import Kind

_CODES: Final = {
    Kind.CONTEXT_LENGTH_EXCEEDED: "context_length_exceeded", Kind.PROVIDER_RATE_LIMITED: "rate_limit_exceeded",
    Kind.PROVIDER_OVERLOADED: "server_is_overloaded", Kind.INVALID_IMAGE: "invalid_image",
}  # fmt: skip
_SERVERS: Final = 500
_encode: Final = msgspec.json.encode


def translate_error(status: int, body: bytes) -> TranslatedAnswer:
    """Translate an error of a source that speaks chat completions."""
    error = read_source_error(status, body)
    document = error_object(error)
    if error.kind is Kind.CONTEXT_LENGTH_EXCEEDED:
        document["param"] = "input"
    return TranslatedAnswer(error.status, _encode({"error": document}))


def failure_object(error: object) -> bytes:
    """Return the `error` of a failed response, for an error in a source's stream."""
    return failure_of(error_in_stream(error))


def failure_of(error: SourceError) -> bytes:
    """Return the `error` of a failed response."""
    code = _CODES.get(error.kind) or ("invalid_prompt" if error.kind.status < _SERVERS else "server_error")
    return _encode({"code": code, "message": message_of(error)})
