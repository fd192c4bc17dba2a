"""Reads the body of a provider's error: its codes, and the beginning of its message. (Contract §9.)"""

from __future__ import annotations

from typing import Any, Final

from kyma_proxy.core.routing.operators_errors import ErrorText
from kyma_proxy.dialect.answers.usage import lenient_json
from kyma_proxy.dialect.error_message import error_message_in

_CODE_MEMBERS: Final = ("code", "type", "status", "reason")
_MAX_DETAILS: Final = 8


def read_error(body: bytes) -> ErrorText:
    """Read the body of an error, in any of the usual forms; it says nothing if it can't be read."""
    return error_text(lenient_json(body))


def error_text(value: Any) -> ErrorText:
    """The codes and the message of a decoded error."""
    if isinstance(value, list) and value:  # Gemini's compatible endpoint
        value = value[0]
    codes: list[str] = []
    if isinstance(value, dict):
        _add_codes(codes, value)
        error = value.get("error")
        if isinstance(error, dict):
            _add_codes(codes, error)
            inner = error.get("innererror")  # Azure
            if isinstance(inner, dict):
                _add_codes(codes, inner)
            details = error.get("details")  # Google's `ErrorInfo` has the reason
            for detail in details[:_MAX_DETAILS] if isinstance(details, list) else ():
                if isinstance(detail, dict):
                    _add_codes(codes, detail)
    return ErrorText(tuple(codes), error_message_in(value))


def _add_codes(codes: list[str], value: dict[str, Any]) -> None:
    for name in _CODE_MEMBERS:
        code = value.get(name)
        if isinstance(code, str | int) and not isinstance(code, bool):
            codes.append(str(code))
