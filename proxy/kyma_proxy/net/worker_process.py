"""Runs in a process of its own, beside the gateway, and calls functions with large bodies: one after the other.

It has no configuration, no credentials and no access to the network. It ends with the gateway, however that ends, and not
before: signals for the whole group of processes are the gateway's business. Its memory is bounded, and nothing of it is dumped.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import select
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from kyma_proxy.errors import GatewayError

Function = Callable[[Any, bytes], tuple[Any, bytes]]
"""Takes an argument and a body, returns a result and a body. The argument and the result can be pickled."""
REFUSED: Final = "refused"
RETURNED: Final = "returned"
NO_MEMORY: Final = "no memory"
FAILED: Final = "failed"
_IGNORED_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def serve(descriptor: int, memory_bytes: int) -> None:
    """Answer requests on an inherited socket until its other end is closed, with so much memory beyond what Python takes."""
    for number in _IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _limit_memory(memory_bytes)
    gc.disable()  # it would look at each of millions of new objects; `_call` leaves no cycles but those of errors
    threading.Thread(target=_end_with_gateway, args=(descriptor,), daemon=True).start()
    connection = Connection(descriptor)
    while True:
        try:
            work, body = connection.recv_bytes(), connection.recv_bytes()
        except (EOFError, OSError):
            return
        answer, made = _call(work, body)
        del work, body
        connection.send_bytes(answer)
        connection.send_bytes(made)
        del answer, made
        gc.collect()


def _call(work: bytes, body: bytes) -> tuple[bytes, bytes]:
    made = b""
    try:
        function, argument = pickle.loads(work)  # noqa: S301  (the gateway's)
        result, made = function(argument, body)
        return pickle.dumps((RETURNED, result), pickle.HIGHEST_PROTOCOL), made
    except GatewayError as error:
        answer: tuple[object, ...] = (REFUSED, error.kind.name, error.message, error.param, error.retry_after)
    except MemoryError:
        answer = (NO_MEMORY,)
    except Exception as error:
        answer = (FAILED, type(error).__name__)  # its text might hold a part of the prompt
    return pickle.dumps(answer), b""


def _limit_memory(memory_bytes: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # there is no /proc, or a lower limit already
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # if the machine's memory ends, this process shall be the one to go
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _end_with_gateway(descriptor: int) -> None:
    """End at once when the gateway has closed its end, also in the middle of a computation."""
    hung_up = select.poll()
    hung_up.register(descriptor, 0)
    hung_up.poll()
    os._exit(0)
