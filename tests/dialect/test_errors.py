"""Errors have the shape that each dialect's client libraries expect, whole or within a stream."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.dialect.sse import ends_between_events
from kyma_proxy.errors import GatewayError, Kind

OPENAI_STREAM = b'data: {"choices":[{"delta":{"content":"h\xc3\xa9"}}]}\n\ndata: {"choices":[]}\n\n'
ANTHROPIC_STREAM = b'event: ping\ndata: {"type":"ping"}\n\nevent: content_block_stop\ndata: {"type":"content_block_stop"}\n\n'
# kind, OpenAI's type, Anthropic's type
TYPES = {
    Kind.INVALID_JSON: ("invalid_request_error", "invalid_request_error"),
    Kind.INVALID_REQUEST: ("invalid_request_error", "invalid_request_error"),
    Kind.BAD_HTTP: ("invalid_request_error", "invalid_request_error"),
    Kind.CONTEXT_LENGTH_EXCEEDED: ("invalid_request_error", "invalid_request_error"),
    Kind.CONTENT_FILTERED: ("invalid_request_error", "invalid_request_error"),
    Kind.INVALID_IMAGE: ("invalid_request_error", "invalid_request_error"),
    Kind.UNSUPPORTED_PARAMETER: ("invalid_request_error", "invalid_request_error"),
    Kind.INVALID_API_KEY: ("invalid_request_error", "authentication_error"),
    Kind.INSUFFICIENT_CREDITS: ("insufficient_quota", "billing_error"),
    Kind.FORBIDDEN: ("invalid_request_error", "permission_error"),
    Kind.MODEL_NOT_FOUND: ("invalid_request_error", "not_found_error"),
    Kind.NOT_FOUND: ("invalid_request_error", "not_found_error"),
    Kind.METHOD_NOT_ALLOWED: ("invalid_request_error", "invalid_request_error"),
    Kind.REQUEST_TIMEOUT: ("invalid_request_error", "invalid_request_error"),
    Kind.CONFLICT: ("invalid_request_error", "invalid_request_error"),
    Kind.BODY_TOO_LARGE: ("invalid_request_error", "request_too_large"),
    Kind.URI_TOO_LONG: ("invalid_request_error", "invalid_request_error"),
    Kind.UNSUPPORTED_ENCODING: ("invalid_request_error", "invalid_request_error"),
    Kind.EXPECTATION_FAILED: ("invalid_request_error", "invalid_request_error"),
    Kind.HEAD_TOO_LARGE: ("invalid_request_error", "invalid_request_error"),
    Kind.RATE_LIMIT_EXCEEDED: ("rate_limit", "rate_limit_error"),
    Kind.PROVIDER_RATE_LIMITED: ("rate_limit_error", "rate_limit_error"),
    Kind.INTERNAL: ("server_error", "api_error"),
    Kind.PROVIDER_ERROR: ("server_error", "api_error"),
    Kind.NO_SOURCE_AVAILABLE: ("server_error", "overloaded_error"),
    Kind.ACCOUNTS_UNAVAILABLE: ("server_error", "overloaded_error"),
    Kind.PROVIDER_OVERLOADED: ("server_error", "overloaded_error"),
    Kind.OVERLOADED: ("server_error", "overloaded_error"),
    Kind.DRAINING: ("server_error", "overloaded_error"),
    Kind.PROVIDER_TIMEOUT: ("server_error", "timeout_error"),
    Kind.JOB_CANCELLED: ("invalid_request_error", "invalid_request_error"),
    Kind.JOB_LOST: ("server_error", "api_error"),
    Kind.JOB_EXPIRED: ("server_error", "api_error"),
}


def events(stream: bytes) -> list[tuple[str, str]]:
    """The events of a stream as a client reads them: type and data. (WHATWG HTML §9.2.6.)"""
    found, name, data = [], "", []
    for line in stream.decode().replace("\r\n", "\n").split("\n"):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif not line:
            if data:
                found.append((name, "\n".join(data)))
            name, data = "", []
    return found


@pytest.mark.parametrize("kind", Kind)
def test_an_openai_error_body_has_message_type_param_and_code(kind: Kind) -> None:
    error = GatewayError(kind, 'Words with "quotes", \n and é.', param="model")
    assert json.loads(OPENAI.error_body(error, "request-1")) == {
        "error": {"message": error.message, "type": TYPES[kind][0], "param": "model", "code": kind.code}
    }


@pytest.mark.parametrize("kind", Kind)
def test_an_anthropic_error_body_has_type_message_and_request_id(kind: Kind) -> None:
    error = GatewayError(kind, 'Words with "quotes", \n and é.', param="model")
    assert json.loads(ANTHROPIC.error_body(error, "request-1")) == {
        "type": "error",
        "error": {"type": TYPES[kind][1], "message": error.message},
        "request_id": "request-1",
    }


def test_param_is_null_if_no_member_is_at_fault() -> None:
    assert json.loads(OPENAI.error_body(GatewayError(Kind.INTERNAL, "Words."), "r"))["error"]["param"] is None


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(Kind), st.sampled_from([*DIALECTS.values()]))
def test_an_error_body_is_json_on_one_line_for_any_message(message: str, kind: Kind, dialect: Dialect) -> None:
    body = dialect.error_body(GatewayError(kind, message), "request-1")
    assert json.loads(body)["error"]["message"] == message
    assert not {b"\n", b"\r"} & {body[at : at + 1] for at in range(len(body))}


@pytest.mark.parametrize(("dialect", "stream"), [(OPENAI, OPENAI_STREAM), (ANTHROPIC, ANTHROPIC_STREAM)])
def test_an_error_event_can_be_read_wherever_the_stream_broke(dialect: Dialect, stream: bytes) -> None:
    error = GatewayError(Kind.PROVIDER_ERROR, "The provider stopped.")
    body = dialect.error_body(error, "request-1").decode()
    for stop in range(len(stream) + 1):
        if stream[:stop].decode(errors="ignore").encode() != stream[:stop]:
            continue  # half of a character
        event = dialect.error_event(error, "request-1", ends_between_events(stream[:stop]))
        name, data = events(stream[:stop] + event)[-1]
        assert data.endswith(body)
        assert name == ("error" if dialect is ANTHROPIC else "")


def test_an_openai_error_event_is_never_joined_to_an_unfinished_event() -> None:
    error = GatewayError(Kind.PROVIDER_ERROR, "The provider stopped.")
    for stop in range(len(OPENAI_STREAM) + 1):
        if stop not in range(38, 43):  # the two bytes of é
            broken = OPENAI_STREAM[:stop]
            last = events(broken.decode(errors="ignore").encode() + OPENAI.error_event(error, "r", ends_between_events(broken)))
            assert json.loads(last[-1][1])["error"]["code"] == "provider_error"


def test_the_registry_has_each_dialect_under_its_name() -> None:
    assert dict(DIALECTS) == {"openai": OPENAI, "anthropic": ANTHROPIC}
