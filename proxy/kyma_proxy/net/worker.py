"""Has functions called with large bodies in another process, so that they don't hold the loop. (See `worker_process`.)

A thread would not do: the JSON decoders and encoders hold the interpreter's lock. The process starts with the first such body,
which takes about a tenth of a second, and ends when it has been idle for a while. It works on one body at a time; the line is
bounded. If it is killed, the request that it worked on may be sent again, and the next in the line gets a new process.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from typing import Any, Final

from kyma_proxy.dialect.large_requests import too_large
from kyma_proxy.errors import GatewayError, Kind, internal_error
from kyma_proxy.net.inline_coroutine import OneShotFuture
from kyma_proxy.net.worker_process import FAILED, NO_MEMORY, REFUSED, Function

_log: Final = logging.getLogger("kyma-proxy")
MAX_WAITING: Final = 32
IDLE_S: Final = 60.0
MAX_WORK_S: Final = 30.0
_RETRY_AFTER_S: Final = 2
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH",)  # the interpreter's; all others may be secrets
_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; from kyma_proxy.net.worker_process import serve; serve({descriptor}, {memory_bytes})"
)


class _Job:
    """A call of a function; emptied when nobody waits for it any more, as it may stand in the line for a while."""

    __slots__ = ("argument", "body", "function")

    def __init__(self, function: Function, argument: object, body: bytes) -> None:
        self.function = function
        self.argument: object = argument
        self.body = body

    def clear(self) -> None:
        self.argument = None
        self.body = b""


class _Process:
    """A running process, and the gateway's end of the socket to it."""

    __slots__ = ("_connection", "_process")

    def __init__(self, memory_bytes: int) -> None:
        self._connection: Connection
        self._connection, inner = Pipe()
        with inner:
            program = _PROGRAM.format(path=sys.path, descriptor=inner.fileno(), memory_bytes=memory_bytes)
            try:
                self._process = subprocess.Popen(  # noqa: S603  (this interpreter)
                    [sys.executable, "-I", "-c", program],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(inner.fileno(),),
                    env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                    process_group=0,
                )  # fmt: skip
            except OSError:
                self._connection.close()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """True if it has ended, between two calls: its end of the socket closes first, and there is nothing else to read."""
        return self._connection.poll(0) or self._process.poll() is not None

    def call(self, job: _Job, limit_s: float) -> tuple[tuple[Any, ...], bytes]:
        """Have a function called. Raises OSError or EOFError if the process ends before, TimeoutError after `limit_s`."""
        is_late = threading.Event()

        def stop() -> None:
            is_late.set()  # before the process ends, as that is what the caller sees
            self._process.kill()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            self._connection.send_bytes(pickle.dumps((job.function, job.argument), pickle.HIGHEST_PROTOCOL))
            self._connection.send_bytes(job.body)
            answer: tuple[Any, ...] = pickle.loads(self._connection.recv_bytes())  # noqa: S301  (our own process's)
            return answer, self._connection.recv_bytes()
        except (OSError, EOFError):
            if is_late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill it, and leave nothing of it."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


class Worker:
    """A process that works for the gateway. `call_soon` is the loop's `call_soon_threadsafe`."""

    def __init__(
        self, call_soon: Callable[..., object], clock: Callable[[], float], memory_bytes: int,
        *, idle_s: float = IDLE_S, max_work_s: float = MAX_WORK_S,
    ) -> None:  # fmt: skip
        """The process may take `memory_bytes`, ends after `idle_s` without work, and works for `max_work_s` on one body."""
        self._call_soon = call_soon
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._idle_s = idle_s
        self._max_work_s = max_work_s
        self._thread = ThreadPoolExecutor(1, "kyma-worker")  # it starts with the first work
        self._process: _Process | None = None
        self._is_closed = False
        self._last_use = 0.0
        self.waiting = 0
        self.calls = 0

    @property
    def pid(self) -> int | None:
        """The process's id; None if there is none."""
        process = self._process
        return None if process is None else process.pid

    async def call(self, function: Function, argument: object, body: bytes) -> tuple[Any, bytes]:
        """Return what a function returns. Raises the GatewayError that it raises, or one that says what is wrong here.

        It may only be awaited by an `InlineCoroutine`. If that is cancelled, the result is thrown away.
        """
        if self.waiting >= MAX_WAITING or self._is_closed:
            raise _overloaded("too many large requests wait already")
        self.waiting += 1
        self.calls += 1
        job = _Job(function, argument, body)
        ended = OneShotFuture[bool]()
        future = self._thread.submit(self._run, job)

        def end(_: Future[tuple[Any, bytes]]) -> None:
            self._call_soon(self._ended, ended)

        future.add_done_callback(end)
        try:
            await ended
        finally:
            if future.cancel():  # it was still in the line, where it may stay for a while
                job.clear()
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, GatewayError):
            raise error.fresh()  # the error itself would hold this frame, which holds it and the body
        try:
            raise error
        finally:
            del error, future

    def _ended(self, ended: OneShotFuture[bool]) -> None:
        self.waiting -= 1
        self._last_use = self._clock()
        ended.resolve(True)

    def sweep(self) -> None:
        """End the process if it has had nothing to do for long. Called on the loop now and then."""
        if self._process is not None and not self.waiting and self._clock() - self._last_use > self._idle_s:
            self._last_use = self._clock()
            self._thread.submit(self._end)

    def close(self) -> None:
        """End the process, with whatever it works on. Waits for a moment; nothing may be called any more."""
        self._is_closed = True
        process = self._process
        if process is not None:
            process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._end()

    # ---- in the thread

    def _run(self, job: _Job) -> tuple[Any, bytes]:
        try:
            process = self._process
            if process is not None and process.has_ended:  # killed while it was idle, as the first to go when memory ends
                self._end()
                process = None
            if process is None:
                process = self._process = _Process(self._memory_bytes)
            if self._is_closed:
                raise EOFError
            answer, body = process.call(job, self._max_work_s)
        except TimeoutError:
            self._end()
            raise too_large(f"that takes more than {self._max_work_s:g} s; send fewer messages, blocks and tools") from None
        except (OSError, EOFError):
            self._end()
            raise _overloaded("the process that changes large requests has ended") from None
        word = answer[0]
        if word == REFUSED:
            _, kind, message, param, retry_after = answer
            raise GatewayError(Kind[kind], message, param=param, retry_after=retry_after)
        if word == NO_MEMORY:
            raise too_large("that takes more memory than there is; send fewer messages, blocks and tools")
        if word == FAILED:
            _log.error("a large request could not be changed for its source: %s", answer[1])
            raise internal_error()
        return answer[1], body

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


def _overloaded(why: str) -> GatewayError:
    return GatewayError(Kind.OVERLOADED, f"Just now {why}; send the request again.", retry_after=_RETRY_AFTER_S)
