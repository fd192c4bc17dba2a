"""A failure of the gateway's own while an answer is read is logged, and not blamed on the provider."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from kyma_proxy.config.snapshot import Timeouts
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.upstream import connection as tested
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.response_handler import ResponseHandler
from tests.factories import source
from tests.upstream_stand_ins import NotingOwner, NotingTransport

pytestmark = pytest.mark.skipif(
    not str(tested.__file__).endswith(".py"), reason="a handler of the test's own can't inherit from a compiled one"
)


class Failing(ResponseHandler):
    """Fails in one of its callbacks."""

    def __init__(self, fails_in: str) -> None:
        self._fails_in = fails_in
        self.cuts: list[tuple[FailureKind, str, bool]] = []

    def _called(self, name: str) -> None:
        if name == self._fails_in:
            raise KeyError(f"a bug in {name}")

    def on_head(self, *_: Any) -> None:
        self._called("on_head")

    def on_body(self, piece: bytes) -> None:
        self._called("on_body")

    def on_end(self, *, is_certain: bool) -> None:
        self._called("on_end")

    def on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        self.cuts.append((kind, detail, nothing_came))


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret"


def asked(handler: ResponseHandler) -> tuple[UpstreamConnection, NotingTransport]:
    """A connection over which a request has gone out."""
    transport = NotingTransport()
    connection = UpstreamConnection(NotingOwner(), source("small").provider.origin, 60.0)
    connection.connection_made(cast("asyncio.Transport", transport))
    connection.send(handler, [b"request"], Timeouts(), None)
    return connection, transport


@pytest.mark.parametrize("callback", ["on_head", "on_body"])
def test_the_answer_is_cut_and_the_failure_logged(callback: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = Failing(callback)
    connection, transport = asked(handler)
    connection.data_received(ANSWER)
    assert handler.cuts == [(FailureKind.BROKEN, "the gateway failed", False)]
    assert transport.is_aborted
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("kyma-proxy", logging.ERROR)
    assert f"a bug in {callback}" in caplog.text
    assert "Traceback" in caplog.text
    assert "secret" not in caplog.text


def test_a_failure_after_the_end_is_left_to_the_loop() -> None:
    handler = Failing("on_end")
    connection, _ = asked(handler)
    with pytest.raises(KeyError, match="on_end"):
        connection.data_received(ANSWER)
    assert handler.cuts == []


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"])
def test_what_is_not_http_is_the_providers_failure(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    handler = Failing("")
    connection, _ = asked(handler)
    connection.data_received(answer)
    assert [(kind, detail) for kind, detail, _ in handler.cuts] == [(FailureKind.BROKEN, "its answer is not HTTP")]
    assert caplog.records == []


INTERIM = {
    "a length": b"HTTP/1.1 103 Early Hints\r\ncontent-length: 6\r\n\r\nsecret",
    "chunks": b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n",
    "a length that is the next answer's": b"HTTP/1.1 199 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER),
}


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
def test_an_interim_answer_with_a_body_is_not_http(interim: bytes, caplog: pytest.LogCaptureFixture) -> None:
    handler = Failing("")
    connection, transport = asked(handler)
    connection.data_received(interim + ANSWER)
    assert [(kind, detail) for kind, detail, _ in handler.cuts] == [(FailureKind.BROKEN, "its answer is not HTTP")]
    assert transport.is_aborted
    assert caplog.records == []


def test_an_interim_answer_that_says_that_it_has_no_body_is_passed_over() -> None:
    handler = Failing("on_end")
    connection, _ = asked(handler)
    connection.data_received(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(KeyError, match="on_end"):  # the answer behind it has come to its end
        connection.data_received(ANSWER)
    assert handler.cuts == []
