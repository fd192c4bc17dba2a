"""This file tells the process once how to deal with memory: the C library's allocator, and Python's collector."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # the numbers of <malloc.h>
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 32 * 2**20


def keep_freed_memory() -> None:
    """Keep up to 32 MiB of freed memory instead of giving it back to the system after each prompt.

    The GNU library maps a large block afresh, and then each of its pages is a fault; of a prompt of 1 MB that is the larger
    half of the price. Where the C library has no such settings, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def settle() -> None:
    """What is alive now lives as long as the process: the collector need not look at it again.

    Requests leave no cycles behind, so it may also look less often; a look costs a pause.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
