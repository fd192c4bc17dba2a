"""A form that is passed on while it comes goes out whole and in order, whatever its pieces, and however slow a source is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.http.form import FormReader
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.upload import Upload
from kyma_proxy.net.upstream.outflow import LargeRequest, Outflow
from kyma_proxy.net.upstream.timers import AnswerTimers
from tests.forms import BOUNDARY, end, field, file

SOUND = bytes(range(256)) * 8
FORM = field("model", b"m") + file(SOUND) + end()
BEGUN = len(field("model", b"m")) + 4 + len(BOUNDARY)  # the model is known once the boundary behind it has come


class Sink(asyncio.Transport):
    """Takes what is written; while it is `slow` it has enough after each write."""

    def __init__(self, *, is_slow: bool = False) -> None:
        super().__init__()
        self.is_slow = is_slow
        self.taken = b""
        self.request: LargeRequest | None = None

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.taken += b"".join(list_of_data)
        if self.is_slow and self.request is not None:
            self.request.pause()

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class Stage:
    """An upload between a caller, who is held and let go, and a sink."""

    def __init__(self, begun: int, *, is_slow: bool = False) -> None:
        form = FormReader(BOUNDARY)
        form.feed(FORM[:begun])
        self.held = 0
        self.errors: list[GatewayError] = []
        self.upload = Upload(form, len(FORM), self._hold, self._let_go)
        self.upload.on_error = self.errors.append
        self.sink = Sink(is_slow=is_slow)
        self.begun = begun

    def _hold(self) -> None:
        self.held += 1

    def _let_go(self) -> None:
        self.held -= 1

    def connect(self) -> None:
        self.sink.request = LargeRequest(Outflow(), self.sink, [FORM[: self.begun]], AnswerTimers())
        self.upload.attach(self.sink.request)
        self.sink.request.go_on()

    async def drained(self) -> None:
        request = self.sink.request
        assert request is not None
        for _ in range(100):
            await asyncio.sleep(0)
            request.resume()
            if request.is_sent:
                return


def pieces(begun: int, cuts: list[int]) -> list[bytes]:
    ends = sorted({*(one for one in cuts if begun < one < len(FORM)), len(FORM)})
    starts = [begun, *ends[:-1]]
    return [FORM[start:stop] for start, stop in zip(starts, ends, strict=True)]


@settings(deadline=None, max_examples=60)
@given(st.integers(BEGUN, len(FORM) - 1), st.lists(st.integers(0, len(FORM)), max_size=10), st.integers(0, 10), st.booleans())
def test_every_piece_goes_out_in_its_order(begun: int, cuts: list[int], connected_at: int, is_slow: bool) -> None:
    async def run() -> None:
        stage = Stage(begun, is_slow=is_slow)
        for at, piece in enumerate(pieces(begun, cuts)):
            if at == connected_at:
                stage.connect()
            stage.upload.add(piece)
        if stage.sink.request is None:
            stage.connect()
        await stage.drained()
        assert stage.sink.taken == FORM
        assert stage.upload.is_complete
        assert (stage.held, stage.errors) == (0, [])

    asyncio.run(run())


@pytest.mark.parametrize("cut", range(BEGUN, len(FORM) - 1, 97))
async def test_the_last_piece_of_a_bad_form_never_goes_out(cut: int) -> None:
    stage = Stage(BEGUN)
    stage.connect()
    stage.upload.add(FORM[BEGUN:cut])
    stage.upload.add(FORM[cut:-3] + b"bad")
    await stage.drained()
    assert len(stage.sink.taken) < len(FORM)
    assert [error.kind for error in stage.errors] == [Kind.INVALID_REQUEST]
    stage.upload.add(b"more")
    stage.upload.fail(GatewayError(Kind.REQUEST_TIMEOUT, "late"))
    assert len(stage.errors) == 1


async def test_the_source_has_its_time_only_while_it_is_waited_for() -> None:
    stage = Stage(BEGUN)
    stage.connect()
    timers: Any = stage.sink.request and stage.sink.request.timers
    assert timers.is_sending  # all that has come is written, and the caller's turn
    stage.sink.is_slow = True
    stage.upload.add(FORM[BEGUN : BEGUN + 100])
    assert not timers.is_sending
    await stage.drained()
    assert timers.is_sending
    stage.sink.is_slow = False
    stage.upload.add(FORM[BEGUN + 100 :])
    await stage.drained()
    assert not timers.is_sending
