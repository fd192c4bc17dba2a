"""A body is put together as it comes: nothing of it is lost, and it takes no more memory than has come."""

from __future__ import annotations

import resource
import sys

import pytest

from kyma_proxy.core.http.body_buffer import BodyBuffer

MIB = 2**20


@pytest.mark.parametrize("announced", [0, 1, 5 * MIB + 7, 6 * MIB, 40 * MIB])
@pytest.mark.parametrize("piece", [70_001, MIB, 3 * MIB])
def test_all_pieces_are_there_in_their_order(announced: int, piece: int) -> None:
    body = bytes(range(251)) * (6 * MIB // 251)
    buffer = BodyBuffer(announced)
    for at in range(0, len(body), piece):
        buffer.write(body[at : at + piece])
    assert buffer.whole() == body


def test_who_announces_a_length_is_never_copied_and_others_seldom() -> None:
    known, unknown = BodyBuffer(32 * MIB), BodyBuffer(0)
    copies = [0, 0]
    for _ in range(32):
        for at, buffer in enumerate((known, unknown)):
            copies[at] += not buffer.has_room(MIB)
            buffer.write(b"a" * MIB)
    assert copies == [0, 5]


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the memory in use differs")
def test_a_length_that_is_announced_takes_no_memory_yet() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buffers = [BodyBuffer(256 * MIB) for _ in range(8)]
    for buffer in buffers:
        buffer.write(b"a" * MIB)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 * 1024
