"""Sets how the process deals with memory, once: the C library's allocator and Python's garbage collector."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # the numbers of <malloc.h>
_M_MMAP_THRESHOLD: Final = -3
_MAX_HEAP_BLOCK_BYTES: Final = 4 * 2**20
_MAX_FREE_HEAP_BYTES: Final = 32 * 2**20
_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container finds its own limit: cgroup v2, v1."""


def size_bytes(limits: tuple[str, ...] = _CGROUP_LIMITS) -> int:
    """The memory that the process may use: the machine's, or less if its control group has less."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in limits:
        with contextlib.suppress(OSError, ValueError):  # no such file, or `max`
            size = min(size, int(Path(path).read_text(encoding="ascii")))
    return size


def resident_bytes() -> int:
    """The memory that the process has now; 0 if the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Take blocks of up to 4 MiB from the heap, and return the heap's free end only if it is larger than 32 MiB.

    The GNU C library would map a block of a prompt's size anew each time, and each of its pages would be a fault: more than
    half of the cost of a prompt of 1 MB. Larger blocks are still mapped, and returned at once: in the heap a small block above
    them could keep them for ever. If the C library has no such settings, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _MAX_HEAP_BLOCK_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _MAX_FREE_HEAP_BYTES)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector while many lasting objects are created: it would look at all of them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def freeze_collector() -> None:
    """Exempt everything that is alive now from collection: it lives as long as the process.

    Relayed requests leave no cycles behind, and others small ones, so the collector also runs less often; a run costs a pause.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
