"""Lists every way in which a request can fail, as a table of kinds.

A kind fixes the status and the code of a failure; each dialect has its own word for its type. The message says what to do next,
and never holds a prompt, an answer or a credential. `dialect` renders it; anybody may raise it. (Contract §5.)
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Row(NamedTuple):
    """The HTTP status of a kind of failure, and its machine-readable word."""

    status: int
    code: str


@enum.unique
class Kind(enum.Enum):
    """A kind of failure."""

    INVALID_JSON = Row(400, "invalid_json")
    INVALID_REQUEST = Row(400, "invalid_request")
    BAD_HTTP = Row(400, "bad_http")
    CONTEXT_LENGTH_EXCEEDED = Row(400, "context_length_exceeded")
    CONTENT_FILTERED = Row(400, "content_filter")
    INVALID_IMAGE = Row(400, "invalid_image")
    UNSUPPORTED_PARAMETER = Row(400, "unsupported_parameter")
    INVALID_API_KEY = Row(401, "invalid_api_key")
    INSUFFICIENT_CREDITS = Row(402, "insufficient_credits")
    FORBIDDEN = Row(403, "forbidden")
    MODEL_NOT_FOUND = Row(404, "model_not_found")
    NOT_FOUND = Row(404, "not_found")
    METHOD_NOT_ALLOWED = Row(405, "method_not_allowed")
    REQUEST_TIMEOUT = Row(408, "request_timeout")
    CONFLICT = Row(409, "conflict")
    BODY_TOO_LARGE = Row(413, "request_too_large")
    URI_TOO_LONG = Row(414, "uri_too_long")
    UNSUPPORTED_ENCODING = Row(415, "unsupported_encoding")
    EXPECTATION_FAILED = Row(417, "expectation_failed")
    HEAD_TOO_LARGE = Row(431, "request_head_too_large")
    RATE_LIMIT_EXCEEDED = Row(429, "rate_limit_exceeded")
    PROVIDER_RATE_LIMITED = Row(429, "provider_rate_limited")
    INTERNAL = Row(500, "internal_error")
    PROVIDER_ERROR = Row(502, "provider_error")
    NO_SOURCE_AVAILABLE = Row(503, "no_source_available")
    ACCOUNTS_UNAVAILABLE = Row(503, "accounts_unavailable")
    OVERLOADED = Row(503, "overloaded")
    PROVIDER_OVERLOADED = Row(503, "server_is_overloaded")
    DRAINING = Row(503, "draining")
    PROVIDER_TIMEOUT = Row(504, "provider_timeout")
    JOB_CANCELLED = Row(409, "job_cancelled")
    JOB_LOST = Row(503, "job_lost")
    JOB_EXPIRED = Row(504, "job_expired")

    @property
    def status(self) -> int:
        """The HTTP status that the caller gets."""
        return self.value.status

    @property
    def code(self) -> str:
        """The machine-readable word, the same in all dialects, logs and metrics."""
        return self.value.code


class GatewayError(Exception):
    """A failure that the caller is told about.

    `retry_after` is in whole seconds; `param` names the offending member of the request, when there is one; `allowed` are the
    methods of the path, if the request's is none of them.
    """

    def __init__(self, kind: Kind, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.allowed: tuple[str, ...] = ()

    def fresh(self) -> GatewayError:
        """The same, without the frames that it has been through: to be kept, as those would keep the request's content."""
        return GatewayError(self.kind, self.message, param=self.param, retry_after=self.retry_after)


def internal_error() -> GatewayError:
    """The error for a caller whose request failed inside the gateway."""
    return GatewayError(Kind.INTERNAL, "The gateway failed; its log has the request id.")


def draining() -> GatewayError:
    """The error for callers whose request can't be served, or ended, before the gateway shuts down."""
    return GatewayError(Kind.DRAINING, "The gateway is shutting down; send the request again.")


def accounts_unavailable() -> GatewayError:
    """The error while the accounts can't be read or written; a retry is safe."""
    return GatewayError(
        Kind.ACCOUNTS_UNAVAILABLE, "The gateway can't write its accounts just now; send the request again.", retry_after=1
    )


class StartError(Exception):
    """Something outside the program keeps it from starting; the message is one line that says what to do."""


class InUseError(StartError):
    """Another process has what this one needs, and may soon be done with it."""
