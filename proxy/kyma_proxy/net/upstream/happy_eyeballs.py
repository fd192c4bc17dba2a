"""Connects to the first of a server's addresses that answers: happy eyeballs (RFC 8305).

The next address is tried when one fails, or has not answered after a while. The usual library keeps the errors of such a race
in cycles with its frames and sockets, which only the garbage collector frees; here an address that fails is a number.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""As `getaddrinfo` has it: family, type, protocol, canonical name, address."""
_NO_NUMBER: Final = 0


async def connect_first(infos: Sequence[AddressInfo], delay_s: float) -> socket.socket:
    """A socket that is connected to the first address that answers; each but the first has `delay_s` for itself.

    Raises OSError: that of the addresses if they have failed alike. Cancelling closes what is open.
    """
    if len(infos) == 1:
        return await _connected(infos[0])
    waiting = deque(_by_turns(infos))
    racing: set[asyncio.Task[socket.socket | int]] = set()
    numbers: set[int] = set()
    winner: socket.socket | None = None
    try:
        while winner is None and (waiting or racing):
            if waiting:
                racing.add(asyncio.create_task(_tried(waiting.popleft())))
            ended, racing = await asyncio.wait(
                racing, timeout=delay_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                result = task.result()
                if isinstance(result, int):
                    numbers.add(result)
                elif winner is None:
                    winner = result
                else:
                    result.close()
    finally:
        for task in racing:
            task.cancel()
            task.add_done_callback(_close_loser)
    if winner is not None:
        return winner
    number = numbers.pop() if len(numbers) == 1 else _NO_NUMBER
    if number == _NO_NUMBER:
        raise OSError("its addresses can't be reached, each for a reason of its own")
    raise OSError(number, os.strerror(number))


def _by_turns(infos: Sequence[AddressInfo]) -> list[AddressInfo]:
    """The addresses with their families by turns, the first one's first. (RFC 8305 §4)"""
    families: dict[int, list[AddressInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    return [info for turn in itertools.zip_longest(*families.values()) for info in turn if info is not None]


async def _tried(info: AddressInfo) -> socket.socket | int:
    """The connected socket, or the number of the system's error."""
    try:
        return await _connected(info)
    except OSError as error:
        return error.errno or _NO_NUMBER
    except RuntimeError:  # uvloop raises it for some addresses
        return _NO_NUMBER


async def _connected(info: AddressInfo) -> socket.socket:
    family, kind, protocol, _, address = info
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _close_loser(task: asyncio.Task[socket.socket | int]) -> None:
    if not task.cancelled():
        result = task.result()
        if not isinstance(result, int):
            result.close()
