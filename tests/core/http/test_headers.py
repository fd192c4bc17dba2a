"""Every header that crosses the gateway, in either direction, is decided here."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.http.headers import AnswerHead, encode_answer_head, encode_request_head
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.dialect.registry import RELAYED
from tests.factories import inbound, source

PASSES_TO_PROVIDER = (
    "accept", "content-type", "user-agent", "anthropic-beta", "anthropic-version", "openai-beta", "openai-organization",
    "x-stainless-lang", "x-stainless-retry-count", "idempotency-key", "traceparent", "tracestate", "x-request-id", "priority",
    "content-encoding", "x-unheard-of", "http-referer", "x-title", "keep-alive-not", "x-forward", "prefer",
)  # fmt: skip
STAYS_BEFORE_PROVIDER = (
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie",
    "host", "content-length", "accept-encoding", "expect", "http2-settings",
    "forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-forwarded-for", "x-forwarded-proto",
    "x-kyma-model", "x-kyma-request-id", "access-control-request-headers",
    "origin", "referer", "sec-fetch-site", "sec-fetch-mode", "sec-ch-ua", "sec-gpc",
    "content_length", "transfer_encoding", "x_api_key", "x_unheard_of", "anthropic_beta", "_", "accept_", "x-forwarded_for",
)  # fmt: skip
PASSES_TO_CALLER = ("content-type", "date", "openai-processing-ms", "request-id", "cf-ray", "retry-after")
STAYS_BEFORE_CALLER = (
    "connection",
    "set-cookie",
    "x-request-id",
    "openai-organization",
    "x-ratelimit-limit",
    "x-unheard-of",
    "x_date",
)
CASES = (str.lower, str.upper, str.title, str.swapcase)


def sent(given: Headers, to: Source | None = None, *, query: bytes = b"", path: bytes = b"/v1/chat/completions") -> list[bytes]:
    """The lines of the head that a provider gets."""
    head = encode_request_head(inbound(headers=given, query=query, path=path), RELAYED[path].path, to or source("small"), 7)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def answered(
    given: Headers,
    added: bytes = b"",
    *,
    chunked: bool = False,
    close: bool = False,
    by: Source | None = None,
    status: int = 200,
) -> list[bytes]:  # fmt: skip
    """The lines of the head that a caller gets."""
    head = encode_answer_head(AnswerHead(status, b"OK", given, {}), by or source("small"), added, chunked=chunked, close=close)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def field(name: str, value: bytes = b"value") -> tuple[bytes, bytes]:
    return name.encode(), value


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PASSES_TO_PROVIDER)
def test_end_to_end_fields_reach_the_provider_as_they_are_spelled(name: str, case: type[str]) -> None:
    assert b"%b: value" % case(name).encode() in sent([field(case(name))])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", STAYS_BEFORE_PROVIDER)
def test_credentials_and_hop_by_hop_fields_do_not_reach_the_provider(name: str, case: type[str]) -> None:
    assert sent([field(case(name), b"callers-own")]) == sent([])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PASSES_TO_CALLER)
def test_end_to_end_fields_reach_the_caller_as_they_are_spelled(name: str, case: type[str]) -> None:
    assert b"%b: value" % case(name).encode() in answered([field(case(name))])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", STAYS_BEFORE_CALLER)
def test_the_operators_and_hop_by_hop_fields_do_not_reach_the_caller(name: str, case: type[str]) -> None:
    assert answered([field(case(name), b"operators-own")]) == answered([])


def test_a_request_is_made_of_the_target_the_providers_own_lines_the_callers_and_the_length() -> None:
    assert sent([field("Accept", b"*/*"), field("Authorization", b"Bearer ky-1"), field("Host", b"gateway")]) == [
        b"POST /v1/chat/completions HTTP/1.1",
        b"host: alpha.example",
        b"accept-encoding: identity",
        b"authorization: Bearer secret-of-alpha",
        b"Accept: */*",
        b"content-length: 7",
    ]


def test_a_configured_field_wins_over_the_callers() -> None:
    lines = sent([field("OPENAI-Beta", b"callers"), field("x-team", b"red"), field("X-Other", b"1")], source("small", 1))
    assert [line for line in lines if b"eta: " in line.lower() or b"team" in line.lower()] == [
        b"openai-beta: configured", b"x-team: blue",
    ]  # fmt: skip
    assert b"X-Other: 1" in lines


def test_a_provider_without_a_credential_gets_none() -> None:
    lines = sent([field("authorization", b"Bearer ky-1"), field("x-api-key", b"ky-1")], source("small", 1))
    assert not any(b"ky-1" in line for line in lines)


@given(st.sampled_from(["authorization", "x-api-key", "proxy-authorization", "cookie", "api-key"]), st.data())
def test_a_credential_never_passes_either_way_however_its_name_is_spelled(name: str, data: st.DataObject) -> None:
    spelled = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in name)
    for model in ("small", "sonnet"):
        assert not any(b"ky-secret" in line for line in sent([field(spelled, b"Bearer ky-secret")], source(model)))
    assert not any(b"secret-of" in line for line in answered([field("set-cookie", b"secret-of-alpha")]))


@pytest.mark.parametrize("named", [b"X-Private", b"close, x-private", b"x-other ,\tX-PRIVATE", b"keep-alive,,x-private"])
def test_fields_that_connection_names_are_hop_by_hop_in_both_directions(named: bytes) -> None:
    given = [field("X-Private"), field("Connection", named), field("Keep-Alive", b"x-public"), field("X-Public")]
    by = replace(source("small"), pass_headers=(b"x-p*",))
    for lines in (sent(given), answered(given, by=by)):
        assert b"X-Public: value" in lines
        assert not any(line.lower().startswith(b"x-private") for line in lines)


def test_two_connection_fields_are_both_obeyed() -> None:
    given = [field("Connection", b"x-one"), field("X-One"), field("connection", b"x-two"), field("X-Two"), field("X-Three")]
    by = replace(source("small"), pass_headers=(b"x-*",))
    assert answered(given, by=by) == [b"HTTP/1.1 200 OK", b"X-Three: value"]


def test_a_claim_of_connection_on_the_gateways_own_fields_has_no_effect() -> None:
    assert sent([field("Connection", b"authorization, host, content-length, openai-beta")]) == sent([])


@pytest.mark.parametrize(("given", "expected"), [
    ([], [b"anthropic-version: 2023-06-01"]),
    ([("Anthropic-Version", b"2024-01-01")], [b"Anthropic-Version: 2024-01-01"]),
])  # fmt: skip
def test_anthropics_version_is_the_callers_or_the_one_that_the_api_began_with(
    given: list[tuple[str, bytes]], expected: list[bytes]
) -> None:
    lines = sent([field(*one) for one in given], source("sonnet"), path=b"/v1/messages")
    assert [line for line in lines if line.lower().startswith(b"anthropic-version")] == expected
    assert b"x-api-key: secret-of-claude" in lines


def test_no_other_dialect_is_given_a_version() -> None:
    assert not any(line.startswith(b"anthropic") for line in sent([]))


def test_the_query_is_kept_and_the_path_follows_the_providers_base() -> None:
    assert sent([], query=b"beta=true&x=%20")[0] == b"POST /v1/chat/completions?beta=true&x=%20 HTTP/1.1"
    assert sent([], source("small", 1))[0] == b"POST /chat/completions HTTP/1.1"
    assert sent([], source("sonnet"), path=b"/v1/messages/count_tokens")[0] == b"POST /v1/messages/count_tokens HTTP/1.1"


def test_repeated_fields_stay_repeated_and_in_order() -> None:
    given = [field("Vary", b"a"), field("CF-Ray", b"1"), field("vary", b"b")]
    assert answered(given) == [b"HTTP/1.1 200 OK", b"Vary: a", b"CF-Ray: 1", b"vary: b"]


def test_framing_is_the_gateways_own() -> None:
    given = [field("Content-Length", b"5"), field("Transfer-Encoding", b"chunked"), field("Connection", b"close")]
    assert answered(given) == [b"HTTP/1.1 200 OK"]
    assert answered(given, b"x-kyma-model: small\r\n", chunked=True, close=True) == [
        b"HTTP/1.1 200 OK", b"x-kyma-model: small", b"transfer-encoding: chunked", b"connection: close",
    ]  # fmt: skip


def test_the_memory_of_names_is_bounded_and_a_full_one_still_judges_right() -> None:
    def see_many_names(first: int) -> None:
        for at in range(first, first + 5000):
            given = [field(f"Content-Name-{at}"), field("Set-Cookie"), field(f"X-Kyma-{at}")]
            assert answered(given) == [b"HTTP/1.1 200 OK", b"Content-Name-%d: value" % at]

    see_many_names(0)
    tracemalloc.start()
    try:
        see_many_names(5000)
        assert tracemalloc.get_traced_memory()[0] < 100_000  # 20 bytes a name: none is kept
    finally:
        tracemalloc.stop()


def test_the_rules_of_former_configurations_are_forgotten() -> None:
    def send_to_many_providers(first: int) -> None:
        for at in range(first, first + 2000):
            provider = replace(source("small").provider, own_names=frozenset({b"x-own-%d" % at}))
            lines = sent([field(f"X-Own-{at}"), field("X-Other")], replace(source("small"), provider=provider))
            assert b"X-Other: value" in lines
            assert b"X-Own-%d: value" % at not in lines

    tracemalloc.start()
    try:
        send_to_many_providers(0)
        before = tracemalloc.get_traced_memory()[0]
        send_to_many_providers(2000)
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000  # 500 bytes a rule: none is kept
    finally:
        tracemalloc.stop()


def test_nothing_that_a_provider_names_removes_the_length() -> None:
    given = [field("Content-Length", b"5"), field("Connection", b"content-length")]
    answer = AnswerHead(200, b"OK", given, {b"content-length": b"5"})
    head = encode_answer_head(answer, source("small"), b"", chunked=False, close=False)
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("quoted", [b"%b", b"Bearer %b", b'bad key "%b" sent'])
@pytest.mark.parametrize("name", ["server", "request-id", "warning", "x-passed"])
def test_a_value_that_quotes_the_providers_credential_reaches_no_caller(name: str, quoted: bytes, status: int) -> None:
    by = replace(source("small"), pass_headers=(b"x-passed",))
    given = [field(name, quoted % b"secret-of-alpha"), field(name, b"secret-of-another"), field("date")]
    expected = [b"%b: secret-of-another" % name.encode(), b"date: value"]
    assert answered(given, by=by, status=status)[1:] == expected


def test_a_reason_phrase_that_quotes_the_credential_is_left_out() -> None:
    head = AnswerHead(400, b"No key secret-of-alpha", [], {})
    assert encode_answer_head(head, source("small"), b"", chunked=False, close=False) == b"HTTP/1.1 400 \r\n\r\n"


@pytest.mark.parametrize("reason", [b"\0", b"a\x1b[31mb", b"\x07", b"O\x7f", b"\x01\x02", b"a\nb", b"a\rb"])
def test_a_reason_phrase_that_holds_control_characters_is_left_out(reason: bytes) -> None:
    head = AnswerHead(400, reason, [], {})
    assert encode_answer_head(head, source("small"), b"", chunked=False, close=False) == b"HTTP/1.1 400 \r\n\r\n"


@pytest.mark.parametrize("reason", [b"", b"OK", b"I'm a teapot", b"a\tb", b"N\xc3\xa3o", b"\xe9t\xe9"])
def test_any_other_reason_phrase_passes(reason: bytes) -> None:
    head = AnswerHead(400, reason, [], {})
    assert encode_answer_head(head, source("small"), b"", chunked=False, close=False) == b"HTTP/1.1 400 %b\r\n\r\n" % reason


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("length", [{}, {b"content-length": b"0"}, {b"content-length": b"5"}])
def test_an_answer_that_can_have_no_body_has_no_framing(length: dict[bytes, bytes], chunked: bool) -> None:
    head = AnswerHead(204, b"No Content", [*length.items()], length)
    assert encode_answer_head(head, source("small"), b"", chunked=chunked, close=False) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_the_fields_that_a_source_names_pass_from_this_source_alone() -> None:
    by = replace(source("small"), pass_headers=(b"openai-organization", b"x-team-*"))
    given = [field("OpenAI-Organization"), field("X-Team-A"), field("X-Other"), field("Set-Cookie")]
    assert answered(given, by=by)[1:] == [b"OpenAI-Organization: value", b"X-Team-A: value"]
    assert answered(given)[1:] == []
