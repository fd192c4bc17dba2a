"""Many bodies are read a few at a time, in the order in which they came, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from kyma_proxy.net.downstream.intake import LARGE_PIECE_BYTES, Intake

PIECE = 256_000


class Socket:
    """A caller who always has more to send, as long as `left` lasts. What is read of all in one turn is in `turn`."""

    def __init__(self, intake: Intake, turn: list[int], left: int, *, is_heavy: bool = False, piece: int = PIECE) -> None:
        self.intake, self.turn, self.left, self.piece = intake, turn, left, piece
        self.is_heavy = is_heavy
        self.reads = True

    def hold_reading(self) -> None:
        self.reads = False

    def read_on(self) -> None:
        self.reads = True

    def poll(self) -> None:
        """As libuv does: read until it is told to stop, eight MiB at the most."""
        for _ in range(32):
            if not (self.reads and self.left):
                return
            size = min(self.left, self.piece)
            self.left -= size
            self.turn.append(size)
            if self.left:
                self.intake.took(self, size)


async def turns_of(sockets: list[Socket], turn: list[int]) -> list[list[int]]:
    """What is read in each turn until nobody has anything left."""
    turns = []
    while any(one.left for one in sockets):
        for one in sockets:
            one.poll()
        turns.append([*turn])
        turn.clear()
        await asyncio.sleep(0)
    return turns


@pytest.mark.parametrize("count", [1, 8, 100])
async def test_a_turn_reads_little_however_many_send(count: int) -> None:
    intake, turn = Intake(), list[int]()
    sockets = [Socket(intake, turn, 20 * PIECE) for _ in range(count)]
    first, *others = await turns_of(sockets, turn)
    assert len(first) == count if count < 5 else len(first) <= count
    assert max(map(len, others)) <= 4
    assert not intake.waiting


async def test_those_who_send_have_their_turns_one_after_the_other() -> None:
    intake, turn = Intake(), list[int]()
    sockets = [Socket(intake, turn, 20 * PIECE) for _ in range(12)]
    spread = []
    while any(one.left for one in sockets):
        for one in sockets:
            one.poll()
        spread.append(max(one.left for one in sockets) - min(one.left for one in sockets))
        await asyncio.sleep(0)
    assert max(spread) <= PIECE


async def test_one_only_is_read_in_a_turn_if_that_may_take_long() -> None:
    intake, turn = Intake(), list[int]()
    _, *others = await turns_of([Socket(intake, turn, 5 * PIECE, is_heavy=True) for _ in range(6)], turn)
    assert max(map(len, others)) == 1


async def test_small_pieces_of_very_many_wait_as_well() -> None:
    intake, turn = Intake(), list[int]()
    piece = LARGE_PIECE_BYTES - 1
    sockets = [Socket(intake, turn, 3 * piece, piece=piece) for _ in range(200)]
    turns = await turns_of(sockets, turn)
    assert max(map(sum, turns[1:])) <= 2 * 2**20
    assert sum(map(sum, turns)) == 200 * 3 * piece


async def test_a_small_piece_of_few_waits_for_nothing() -> None:
    intake, turn = Intake(), list[int]()
    socket = Socket(intake, turn, 1000, piece=100)
    await turns_of([socket], turn)
    assert socket.reads


async def test_a_connection_that_is_gone_has_no_turn() -> None:
    intake, turn = Intake(), list[int]()
    gone, other = (Socket(intake, turn, 3 * PIECE) for _ in range(2))
    gone.poll()
    intake.forget(gone)
    await turns_of([other], turn)
    assert not gone.reads
    assert not intake.waiting
