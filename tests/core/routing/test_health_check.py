"""Sources that nobody asks get a health check if the operator wants that, and no others."""

from __future__ import annotations

import msgspec
import pytest

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.health_check import check_verdict, due_for_check
from kyma_proxy.dialect.health_check import check_request
from tests.factories import snapshot

TEXT = """\
defaults: {probe_after: 10m}
providers:
  - {name: a, base_url: http://a.example/v1, dialect: openai, api_key: secret, max_tokens_field: max_completion_tokens}
  - {name: b, base_url: http://b.example/v1, dialect: anthropic, api_key: secret}
  - {name: off, base_url: http://off.example, dialect: openai, api_key: "${NOT_SET}"}
  - {name: images, base_url: http://i.example, dialect: openai_images}
models:
  - {id: m, pool: [{provider: a, model: m1}, {provider: off, model: m2}], reserve: [{provider: b, model: m3}]}
  - {id: n, pool: [{provider: a, model: m1}]}
  - {id: i, output_modalities: [image], pool: [{provider: images, model: i1}]}
"""


def due(table: BreakerTable, now: float, text: str = TEXT) -> list[str]:
    return [source.key for source in due_for_check(snapshot(text), table, now, started=0.0)]


def test_a_source_that_was_not_asked_for_long_is_due_once() -> None:
    table = BreakerTable()
    assert due(table, 599.0) == []
    assert due(table, 600.0) == ["a m1", "b m3"]
    table.at("a m1", "embeddings").acquire(100.0)  # at whichever endpoint
    assert due(table, 600.0) == ["b m3"]
    assert due(table, 700.0) == ["a m1", "b m3"]


def test_a_source_with_an_open_breaker_gets_no_check() -> None:
    table = BreakerTable()
    for _ in range(2):
        table.at("a m1", "chat").record_failure(600.0, AttemptFailure(FailureKind.CONNECT, "a", "refused"), lambda: 0.0)
    assert due(table, 600.0) == ["b m3"]
    assert due(table, 610.0) == ["a m1", "b m3"]


def test_there_are_no_checks_unless_the_operator_says_so() -> None:
    assert due(BreakerTable(), 1e9, TEXT.replace("defaults: {probe_after: 10m}\n", "")) == []


def sent(source: Source) -> bytes:
    return b"".join(check_request(source))


def test_a_check_is_an_ordinary_request_for_one_token() -> None:
    models = snapshot(TEXT).models["m"]
    head, _, body = sent(models.pool[0]).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"authorization: Bearer secret" in head
    assert b"content-length: %d" % len(body) in head
    assert msgspec.json.decode(body) == {
        "model": "m1", "max_completion_tokens": 1, "messages": [{"role": "user", "content": "ping"}],
    }  # fmt: skip
    head, _, body = sent(models.reserve[0]).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert b"anthropic-version: " in head
    assert msgspec.json.decode(body)["max_tokens"] == 1


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (400, True), (422, True), (401, False), (503, False)])
def test_a_refusal_of_the_check_itself_means_that_the_source_is_there(status: int, is_well: bool) -> None:
    assert (check_verdict(status, {}, "a", 0.0) is None) is is_well


def test_retry_after_in_the_answer_to_a_check_counts() -> None:
    failed = check_verdict(429, {b"retry-after": b"100"}, "a", 0.0)
    assert failed is not None
    assert failed.retry_after == 100
