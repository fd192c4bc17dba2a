"""Large buffers are freed one in each turn of the loop, whoever leaves them behind at once."""

from __future__ import annotations

import asyncio
import weakref

from kyma_proxy.net.releases import Releases


class Buffer:
    """Something that can be seen to go."""


async def test_one_buffer_is_freed_in_each_turn_and_none_is_kept() -> None:
    releases = Releases()
    buffers = [Buffer() for _ in range(5)]
    alive = [weakref.ref(one) for one in buffers]
    for _ in range(5):
        releases.add(buffers.pop())
    left = []
    while releases.waiting:
        await asyncio.sleep(0)
        left.append(sum(one() is not None for one in alive))
    assert left == [4, 3, 2, 1, 0]
    releases.add(Buffer())
    await asyncio.sleep(0)
    assert not releases.waiting
