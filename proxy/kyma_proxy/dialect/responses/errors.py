"""Translates errors of sources for callers of Responses, whose errors have the shape of a chat's. (Contract §5.)"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kyma_proxy.dialect.answers.usage import lenient_json
from kyma_proxy.dialect.error_message import error_message_in, first_line
from kyma_proxy.dialect.openai import error_type
from kyma_proxy.dialect.translation import TranslatedAnswer
from kyma_proxy.errors import Kind

_encode: Final = msgspec.json.encode


def translate_error(status: int, body: bytes) -> TranslatedAnswer:
    """Translate an error of a source that speaks chat completions. One that has the usual shape stays as it is."""
    value: Any = lenient_json(body)
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return TranslatedAnswer(status, body)
    message = error_message_in(value) or first_line(body) or f"The source answered {status} without saying why."
    kind = error_type(Kind.PROVIDER_ERROR if status >= 500 else Kind.INVALID_REQUEST)
    return TranslatedAnswer(status, _encode({"error": {"message": message, "type": kind, "param": None, "code": None}}))
