"""This file tells the process once how to deal with memory: the C library's allocator, and Python's collector."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # the numbers of <malloc.h>
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_KEPT_BYTES: Final = 4 * 2**20
_MAX_KEPT_BYTES: Final = 32 * 2**20


def keep_freed_memory() -> None:
    """Take blocks of up to 4 MiB from the heap, and give back its free end only when that is larger than 32 MiB.

    The GNU library would map a block of a prompt's size afresh each time, and then each of its pages is a fault; of a prompt of
    1 MB that is the larger half of the price. Larger ones are still mapped, and given back at once: in the heap a small block
    above them could pin them for good. Where the C library has no such settings, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _MAX_KEPT_BYTES)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Let the collector not look while much is made that stays: it would look at all of it again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def settle() -> None:
    """What is alive now lives as long as the process: the collector need not look at it again.

    Requests leave no cycles behind, so it may also look less often; a look costs a pause.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
