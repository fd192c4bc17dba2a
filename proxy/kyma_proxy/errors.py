"""Every way in which a request can fail, as a table of kinds.

A kind fixes what both dialects say about a failure: status, OpenAI type and code, Anthropic type. The message is
the caller's, says what to do next, and never holds a prompt, an answer or a credential. Rendering to bytes is
`dialect`'s; raising is anyone's. (Contract §5.)
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Row(NamedTuple):
    """What a kind of failure is called on the wire."""

    status: int
    code: str
    openai_type: str
    anthropic_type: str


@enum.unique
class Kind(enum.Enum):
    """A kind of failure; its value is the row of words that callers see."""

    INVALID_JSON = Row(400, "invalid_json", "invalid_request_error", "invalid_request_error")
    INVALID_REQUEST = Row(400, "invalid_request", "invalid_request_error", "invalid_request_error")
    BAD_HTTP = Row(400, "bad_http", "invalid_request_error", "invalid_request_error")
    INVALID_API_KEY = Row(401, "invalid_api_key", "invalid_request_error", "authentication_error")
    INSUFFICIENT_CREDITS = Row(402, "insufficient_credits", "insufficient_quota", "billing_error")
    FORBIDDEN = Row(403, "forbidden", "invalid_request_error", "permission_error")
    MODEL_NOT_FOUND = Row(404, "model_not_found", "invalid_request_error", "not_found_error")
    NOT_FOUND = Row(404, "not_found", "invalid_request_error", "not_found_error")
    METHOD_NOT_ALLOWED = Row(405, "method_not_allowed", "invalid_request_error", "invalid_request_error")
    REQUEST_TIMEOUT = Row(408, "request_timeout", "invalid_request_error", "invalid_request_error")
    CONFLICT = Row(409, "conflict", "invalid_request_error", "invalid_request_error")
    BODY_TOO_LARGE = Row(413, "request_too_large", "invalid_request_error", "request_too_large")
    URI_TOO_LONG = Row(414, "uri_too_long", "invalid_request_error", "invalid_request_error")
    UNSUPPORTED_ENCODING = Row(415, "unsupported_encoding", "invalid_request_error", "invalid_request_error")
    EXPECTATION_FAILED = Row(417, "expectation_failed", "invalid_request_error", "invalid_request_error")
    HEAD_TOO_LARGE = Row(431, "request_head_too_large", "invalid_request_error", "invalid_request_error")
    RATE_LIMIT_EXCEEDED = Row(429, "rate_limit_exceeded", "rate_limit", "rate_limit_error")
    PROVIDER_RATE_LIMITED = Row(429, "provider_rate_limited", "rate_limit_error", "rate_limit_error")
    INTERNAL = Row(500, "internal_error", "server_error", "api_error")
    PROVIDER_ERROR = Row(502, "provider_error", "server_error", "api_error")
    NO_SOURCE_AVAILABLE = Row(503, "no_source_available", "server_error", "overloaded_error")
    ACCOUNTS_UNAVAILABLE = Row(503, "accounts_unavailable", "server_error", "overloaded_error")
    OVERLOADED = Row(503, "overloaded", "server_error", "overloaded_error")
    DRAINING = Row(503, "draining", "server_error", "overloaded_error")
    PROVIDER_TIMEOUT = Row(504, "provider_timeout", "server_error", "api_error")
    JOB_CANCELLED = Row(409, "job_cancelled", "invalid_request_error", "invalid_request_error")
    JOB_LOST = Row(503, "job_lost", "server_error", "api_error")
    JOB_EXPIRED = Row(504, "job_expired", "server_error", "api_error")

    @property
    def status(self) -> int:
        """The HTTP status that the caller gets."""
        return self.value.status

    @property
    def code(self) -> str:
        """The machine-readable word, the same in both dialects' logs and metrics."""
        return self.value.code


class GatewayError(Exception):
    """A failure that the caller is told about.

    `retry_after` is in whole seconds; `param` names the offending member of the request, when there is one.
    """

    def __init__(self, kind: Kind, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def fresh(self) -> GatewayError:
        """The same, without the frames that it has been through: to be kept, as those would keep the request's content."""
        return GatewayError(self.kind, self.message, param=self.param, retry_after=self.retry_after)


def accounts_unavailable() -> GatewayError:
    """What callers and operators are told while the accounts can't be read or written; to ask again is safe."""
    return GatewayError(
        Kind.ACCOUNTS_UNAVAILABLE, "The gateway can't keep its accounts just now; send the same again.", retry_after=1
    )


class StartError(Exception):
    """Something outside the program keeps it from starting; the message is one line that says what to do."""


class InUseError(StartError):
    """Another process has what this one needs, and may soon be done with it."""
