"""Compiles a large configuration in a process of its own, so that the interpreter of the one that serves is free for streams.

Python runs one thread at a time. A thread that compiles thousands of models holds the interpreter for milliseconds on end, and
longer where the processors are busy. Files and commands are still asked for by the process that serves.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO, Final

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.outside_values import Command, OutsideValues, Unavailable
from kyma_proxy.ops.snapshot_pieces import take_apart

MIN_CHARACTERS: Final = 48 * 1024
"""Starting a process takes as long as compiling this much."""
_SWITCH_INTERVAL_S: Final = 0.0002
_LENGTH: Final = struct.Struct("!Q")
_NICENESS: Final = 10


class CannotLoadApart(Exception):
    """No process can be started, or it has died."""


def load_apart(text: str, environment: Mapping[str, str], outside: OutsideValues) -> list[bytes]:
    """The pieces of the text's snapshot. Raises ConfigError, or CannotLoadApart. It blocks, so it is called in a thread."""
    paths = os.pathsep.join(one for one in sys.path if one)
    line = [sys.executable, "-c", f"from {__name__} import main; main()"]
    try:
        process = subprocess.Popen(  # noqa: S603  (this program)
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
        )
    except OSError as error:
        raise CannotLoadApart(str(error)) from None
    with process:
        assert process.stdin is not None  # noqa: S101  (both are pipes)
        assert process.stdout is not None  # noqa: S101
        try:
            _send(process.stdin, (text, dict(environment)))
            while True:
                kind, value = _receive(process.stdout)
                if kind == "pieces":
                    return list(value)
                if kind == "problems":
                    raise ConfigError(*value)
                _send(process.stdin, _answer(outside, kind, value))
        except (OSError, EOFError, pickle.PickleError) as error:
            raise CannotLoadApart(str(error) or "it has ended") from None
        finally:
            process.kill()


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Let other threads have the interpreter more often, while one computes that the loop should not wait for."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def main() -> None:
    """Compile the configuration that comes on standard input; the result goes to standard output."""
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    text, environment = _receive(source)
    try:
        snapshot = load(text, environment, _Asked(source, target), to_serve=True)
    except ConfigError as error:
        _send(target, ("problems", (error.problems, error.warnings)))
    else:
        _send(target, ("pieces", take_apart(snapshot)))
    os._exit(0)  # freeing the snapshot would take a while


class _Asked(OutsideValues):
    """Asks the process that serves for files and for what commands print."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target

    def text_of(self, path: str) -> str:
        return str(self._ask("text_of", path))

    def find_tls_problem(self, certificate: str, key: str) -> tuple[str, str] | None:
        found: tuple[str, str] | None = self._ask("find_tls_problem", certificate, key)
        return found

    def find_write_problem(self, path: str) -> str | None:
        found: str | None = self._ask("find_write_problem", path)
        return found

    def run(self, commands: Collection[Command]) -> None:
        self._ask("run", list(commands))

    def output_of(self, command: Command) -> str:
        return str(self._ask("output_of", command))

    def processors(self) -> int:
        return int(self._ask("processors"))

    def _ask(self, name: str, *arguments: object) -> Any:
        _send(self._target, (name, arguments))
        is_there, value = _receive(self._source)
        if not is_there:
            raise Unavailable(value)
        return value


def _answer(outside: OutsideValues, name: str, arguments: tuple[Any, ...]) -> tuple[bool, object]:
    try:
        return True, getattr(outside, name)(*arguments)
    except Unavailable as error:
        return False, str(error)


def _send(file: Any, message: object) -> None:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    file.write(_LENGTH.pack(len(content)) + content)
    file.flush()


def _receive(file: Any) -> Any:
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError("it has ended")
    (length,) = _LENGTH.unpack(head)
    content = file.read(length)
    if len(content) < length:
        raise EOFError("it has ended")
    return pickle.loads(content)  # noqa: S301  (it comes from a process of our own)
