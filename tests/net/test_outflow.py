"""Large requests are sent in portions, a few in each turn of the loop, whole and in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from kyma_proxy.net.upstream.outflow import PORTION_BYTES, LargeRequest, Outflow
from kyma_proxy.net.upstream.timers import AnswerTimers
from tests.waiting import until


class Socket(asyncio.Transport):
    """Takes what is written, and has enough after each portion if it `is_slow`."""

    def __init__(self, turn: list[int], *, is_slow: bool = False) -> None:
        super().__init__()
        self.turn, self.is_slow = turn, is_slow
        self.request: LargeRequest | None = None
        self.taken: list[bytes] = []
        self.is_closed = False

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        portion = b"".join(list_of_data)
        self.taken.append(portion)
        self.turn.append(len(portion))
        if self.is_slow and self.request is not None:
            self.request.pause()

    def is_closing(self) -> bool:
        return self.is_closed


def pieces_of(size: int) -> list[bytes | memoryview]:
    """A head, and a body as it is when the name of its model was replaced."""
    body = bytes(range(251)) * (size // 251)
    return [b"head", memoryview(body)[:10], b"model", memoryview(body)[17:], b""]


def begin(outflow: Outflow, socket: Socket, size: int = 3 * 2**20) -> bytes:
    """Begin to send a request; returns all of it."""
    pieces = pieces_of(size)
    socket.request = LargeRequest(outflow, socket, pieces, AnswerTimers())
    socket.request.go_on()
    return b"".join(pieces)


async def has_taken(socket: Socket, count: int) -> None:
    await until(lambda: len(socket.taken) == count)


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_a_turn_sends_little_however_many_there_are(count: int) -> None:
    outflow, turn = Outflow(), list[int]()
    sockets = [Socket(turn) for _ in range(count)]
    whole = [begin(outflow, socket) for socket in sockets]
    turn.clear()
    turns = []
    while not all(socket.request is not None and socket.request.is_sent for socket in sockets):
        await asyncio.sleep(0)
        turns.append([*turn])
        turn.clear()
    assert max(map(len, turns)) <= 4
    assert max(map(max, filter(None, turns))) <= PORTION_BYTES
    assert [b"".join(socket.taken) for socket in sockets] == whole


async def test_a_provider_that_reads_slowly_is_waited_for_and_holds_up_no_other() -> None:
    outflow, turn = Outflow(), list[int]()
    slow, fast = Socket(turn, is_slow=True), Socket(turn)
    whole = begin(outflow, slow)
    begin(outflow, fast)
    await until(lambda: fast.request is not None and fast.request.is_sent)
    assert len(slow.taken) == 1
    count = 1
    while slow.request is not None and not slow.request.is_sent:
        slow.request.resume()
        count += 1
        await has_taken(slow, count)
    assert b"".join(slow.taken) == whole


@pytest.mark.parametrize("is_closed", [False, True])
async def test_of_a_request_that_is_dropped_nothing_more_is_sent(is_closed: bool) -> None:
    outflow, turn = Outflow(), list[int]()
    socket, other = Socket(turn), Socket(turn)
    begin(outflow, socket)
    begin(outflow, other)
    assert socket.request is not None
    if is_closed:
        socket.is_closed = True
    else:
        socket.request.drop()
    socket.request.resume()
    await until(lambda: other.request is not None and other.request.is_sent)
    assert len(socket.taken) == 1
    assert not socket.request.is_sent
