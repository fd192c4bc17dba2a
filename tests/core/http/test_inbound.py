"""A caller's headers are found in any spelling, and its request id is repeated only if it is safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http.inbound import header, request_id
from kyma_proxy.dialect.registry import RELAYED


@pytest.mark.parametrize("name", [b"retry-after", b"Retry-After", b"RETRY-AFTER"])
def test_a_header_is_found_however_it_is_spelled(name: bytes) -> None:
    assert header([(b"x-other", b"1"), (name, b"5")], b"retry-after") == b"5"


def test_the_first_of_several_headers_counts_and_a_missing_one_is_none() -> None:
    assert header([(b"A", b"1"), (b"a", b"2")], b"a") == b"1"
    assert header([(b"ab", b"1"), (b"b", b"2")], b"a") is None
    assert header([], b"a") is None


@pytest.mark.parametrize("given_id", ["a", "req_1.2-3", "A" * 128])
def test_a_safe_request_id_is_kept(given_id: str) -> None:
    assert request_id(given_id.encode(), "fresh") == given_id


@pytest.mark.parametrize("given_id", [b"", b"A" * 129, b"a b", b"a\n", b"a\r\nx: y", b"\xc3\xa9", b"a/b", b'"a"'])
def test_an_unsafe_request_id_is_replaced(given_id: bytes) -> None:
    assert request_id(given_id, "fresh") == "fresh"


@given(st.binary(max_size=140))
def test_a_repeated_request_id_is_always_safe_in_a_header_and_in_a_log(given_id: bytes) -> None:
    used = request_id(given_id, "fresh")
    assert used.isascii()
    assert used.isprintable()
    assert 1 <= len(used) <= 128


def test_a_request_without_an_id_gets_one() -> None:
    assert request_id(None, "fresh") == "fresh"


def test_the_relayed_endpoints_are_those_of_both_dialects() -> None:
    assert {path: (one.dialect, one.takes_max_tokens) for path, one in RELAYED.items()} == {
        b"/v1/chat/completions": ("openai", True),
        b"/v1/completions": ("openai", True),
        b"/v1/responses": ("openai", False),
        b"/v1/embeddings": ("openai", False),
        b"/v1/audio/transcriptions": ("openai", False),
        b"/v1/audio/translations": ("openai", False),
        b"/v1/audio/speech": ("openai", False),
        b"/v1/moderations": ("openai", False),
        b"/v1/rerank": ("openai", False),
        b"/v2/rerank": ("openai", False),
        b"/v1/messages": ("anthropic", True),
        b"/v1/messages/count_tokens": ("anthropic", False),
    }
    assert all(path in (b"/v1" + one.path, one.also_at) for path, one in RELAYED.items())
    assert all(one.path == b"/" + one.name.encode() for one in RELAYED.values())
