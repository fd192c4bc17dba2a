"""The gateway's own answers are complete HTTP messages with the headers that every answer has."""

from __future__ import annotations

import pytest

from kyma_proxy.core.http.answers import cors_lines, error_lines, json_answer, listed
from kyma_proxy.errors import GatewayError, Kind


def test_an_answer_is_a_head_and_a_body_of_the_named_length() -> None:
    assert json_answer(404, b'{"a":1}', b"x-request-id: 1\r\n", close=False) == (
        b'HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 7\r\nx-request-id: 1\r\n\r\n{"a":1}'
    )


def test_an_answer_before_a_close_says_connection_close() -> None:
    assert b"\r\nconnection: close\r\n\r\n" in json_answer(400, b"{}", b"", close=True)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_error_has_a_status_line(kind: Kind) -> None:
    assert json_answer(kind.status, b"{}", b"", close=False).startswith(b"HTTP/1.1 %d " % kind.status)
    assert 400 <= kind.status < 600


def test_a_status_without_a_name_still_has_a_status_line() -> None:
    assert json_answer(529, b"{}", b"", close=False).startswith(b"HTTP/1.1 529 Error\r\n")


def test_an_error_has_the_request_id_and_retry_after_if_it_is_known() -> None:
    assert error_lines(GatewayError(Kind.OVERLOADED, "Later."), "request-1") == b"x-request-id: request-1\r\n"
    hinted = GatewayError(Kind.PROVIDER_RATE_LIMITED, "Later.", retry_after=7)
    assert error_lines(hinted, "request-1") == b"x-request-id: request-1\r\nretry-after: 7\r\n"
    assert error_lines(hinted, "a", b"request-id") == b"x-request-id: a\r\nrequest-id: a\r\nretry-after: 7\r\n"
    assert b"retry-after: 0\r\n" in error_lines(GatewayError(Kind.PROVIDER_RATE_LIMITED, "Now.", retry_after=0), "r")


@pytest.mark.parametrize(("names", "told"), [
    (("seed", "messages[0].name"), b"seed, messages[0].name"), (("a prompt", "seed"), b"seed, ..."), (("",), b"..."),
    (("x" * 81,), b"..."), (("a\r\nb",), b"..."), ((), b""), (("a",) * 20, b", ".join([b"a"] * 20)),
    (("a",) * 21, b", ".join([*[b"a"] * 20, b"..."])), (("?", *("a",) * 20), b", ".join([*[b"a"] * 20, b"..."])),
])  # fmt: skip
def test_a_list_of_dropped_members_holds_names_and_is_never_empty(names: tuple[str, ...], told: bytes) -> None:
    assert listed(names) == told


def test_a_page_that_may_read_the_answer_may_read_the_gateways_headers_too() -> None:
    lines = cors_lines(b"https://app.example")
    assert lines.startswith(b"access-control-allow-origin: https://app.example\r\nvary: origin\r\n")
    assert b"access-control-expose-headers: x-request-id, x-kyma-model, x-kyma-alias, x-kyma-fallback" in lines
    assert lines.endswith(b"\r\n")
