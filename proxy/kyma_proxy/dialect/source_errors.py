"""Reads the error of a source of another dialect: its kind, its message, and the numbers in it. (Contract §5.)

Each dialect says a kind in its own words, by which its clients act: they shorten a conversation that is too long, wait where
there are too many requests, and give up where nothing helps. `source_error_rules` has what providers say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from kyma_proxy.dialect.answers.errors import error_text
from kyma_proxy.dialect.answers.usage import lenient_json, repaired, token_count
from kyma_proxy.dialect.error_message import error_message_in, first_line
from kyma_proxy.dialect.source_error_rules import CODES, LATE_WORDINGS, VAGUE_CODES, WORDINGS, Wording, kind_of_status
from kyma_proxy.errors import Kind

_PARAMETERS: Final = ("param", "param_2", "param_3", "param_4", "param_5", "param_6")
_CLEAR: Final = frozenset({Kind.PROVIDER_RATE_LIMITED, Kind.NO_SOURCE_AVAILABLE, Kind.PROVIDER_OVERLOADED})
"""Kinds of a status that no wording changes: a limit of tokens a minute speaks of lengths as well."""
_STATUSES: Final = {
    Kind.CONTEXT_LENGTH_EXCEEDED: 400, Kind.CONTENT_FILTERED: 400, Kind.INVALID_IMAGE: 400, Kind.UNSUPPORTED_PARAMETER: 400,
    Kind.MODEL_NOT_FOUND: 404, Kind.BODY_TOO_LARGE: 413, Kind.NO_SOURCE_AVAILABLE: 503, Kind.PROVIDER_RATE_LIMITED: 429,
    Kind.PROVIDER_OVERLOADED: 503,
}  # fmt: skip
"""The statuses by which clients act; an error of another kind keeps its source's."""
_OPERATORS: Final = "The source does not accept the gateway's account or key; tell the gateway's operator."
_MIN_ROOM: Final = 4096
"""With less room for the answer it is the prompt that has to become shorter."""


class SourceError(NamedTuple):
    """The error of a source.

    `status` is the one for the caller. `message` is the source's, "" if it gave none. `param` is the member of the request that
    is at fault, if the source names one. `prompt`, `answer` and `context` are numbers of tokens, 0 if they are not known.
    """

    kind: Kind
    status: int
    message: str
    param: str | None = None
    prompt: int = 0
    answer: int = 0
    context: int = 0

    @property
    def words(self) -> str:
        """The source's message, or that it gave none."""
        return self.message or f"The source answered {self.status} without saying why."

    @property
    def is_prompt_too_long(self) -> bool:
        """True if the prompt alone, or with a short answer, takes more than the model has. The numbers must be known."""
        return self.prompt > self.context - _MIN_ROOM

    @property
    def wants_too_much(self) -> int:
        """The tokens that the request asks for, if it is known that they are more than the model has; else 0."""
        wanted = self.prompt if self.prompt > self.context else self.prompt + self.answer
        return wanted if self.prompt and 0 < self.context < wanted else 0


def read_source_error(status: int, body: bytes) -> SourceError:
    """Return the error that an answer with this status is."""
    value = decoded(body)
    return _read(status, value, error_message_in(value) or first_line(body))


def decoded(data: bytes) -> Any:
    """Return the JSON value of an error, None if it is none; without halves of characters, which can't be written again."""
    return lenient_json(repaired(data) or data)


def error_in_stream(error: object) -> SourceError:
    """Return the error that an event of a stream reports: its code or type may be a status."""
    status = 0
    if isinstance(error, dict):
        codes = (error.get("code"), error.get("status"))
        status = next((code for code in codes if type(code) is int and 400 <= code <= 599), 0)
    return _read(status, error, error_message_in(error))


def unreadable(message: str) -> SourceError:
    """Return the error for what a source sent and nobody can read."""
    return SourceError(Kind.PROVIDER_ERROR, Kind.PROVIDER_ERROR.status, message)


def _read(status: int, value: Any, message: str) -> SourceError:
    inner = _inner(value)
    codes = error_text(value).codes
    if inner is not None:
        codes = (*error_text(inner).codes, *codes)
        message = error_message_in(inner) or message
    known, wording = _kind_of(status, codes, message)
    kind = known or (kind_of_status(status) if status else Kind.PROVIDER_ERROR)
    status = _STATUSES.get(kind, status) or kind.status
    if kind is Kind.NO_SOURCE_AVAILABLE:  # the source may quote the credential, which belongs to the operator
        return SourceError(kind, status, _OPERATORS)
    if kind is Kind.CONTEXT_LENGTH_EXCEEDED:
        prompt, answer, context = _tokens(value, message, wording)
        return SourceError(kind, status, message, None, prompt, answer, context)
    return SourceError(kind, status, message, _parameter(value, message, wording))


def _kind_of(status: int, codes: Iterable[str], message: str) -> tuple[Kind | None, Wording | None]:
    """Return the kind that the codes, the wording or the status mean, and the wording if it has one of ours."""
    by_status = kind_of_status(status) if status else None
    by_code = next((CODES[code] for code in codes if code in CODES), by_status if by_status in _CLEAR else None)
    if by_code is not None and by_code not in (Kind.CONTEXT_LENGTH_EXCEEDED, Kind.UNSUPPORTED_PARAMETER):
        return by_code, None
    for wording in WORDINGS:
        if (by_code is None or by_code is wording.kind) and wording.pattern.search(message):
            return wording.kind, wording
    if by_code is None and (not status or status >= 500):
        for wording in LATE_WORDINGS:
            if wording.pattern.search(message):
                return wording.kind, wording
    vague = next((VAGUE_CODES[code] for code in codes if code in VAGUE_CODES), None)
    return by_code or (vague if by_status in (None, Kind.INVALID_REQUEST, Kind.PROVIDER_ERROR) else None), None


def _inner(value: Any) -> Any:
    """Return the provider's own error in that of OpenRouter, which has it as a text or an object; None if there is none."""
    error = value.get("error", value) if isinstance(value, dict) else None
    metadata = error.get("metadata") if isinstance(error, dict) else None
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return decoded(raw.encode(errors="replace")) or raw if isinstance(raw, str) and raw else raw or None


def _tokens(value: Any, message: str, wording: Wording | None) -> tuple[int, int, int]:
    """Return the tokens of the prompt, of the answer and of the context; 0 for what is not known."""
    found = {} if wording is None or not (match := wording.pattern.search(message)) else match.groupdict()
    prompt, answer, total, context = (int(found.get(name) or 0) for name in ("prompt", "answer", "total", "context"))
    error = value.get("error", value) if isinstance(value, dict) else None
    if isinstance(error, dict):  # llama.cpp has them as members
        prompt = prompt or token_count(error.get("n_prompt_tokens")) or 0
        context = context or token_count(error.get("n_ctx")) or 0
    return prompt, answer or max(0, total - prompt) if prompt else 0, context


def _parameter(value: Any, message: str, wording: Wording | None) -> str | None:
    error = value.get("error", value) if isinstance(value, dict) else None
    named = error.get("param") if isinstance(error, dict) else None
    if isinstance(named, str) and named:
        return named[:128]
    found = {} if wording is None or not (match := wording.pattern.search(message)) else match.groupdict()
    return next((found[name] for name in _PARAMETERS if found.get(name)), None)
