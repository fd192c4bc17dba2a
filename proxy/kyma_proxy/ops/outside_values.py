"""Keeps what a configuration takes from files and commands, and sees when it has changed. (Contract §12.)

Files are compared by their content: a mounted secret changes by a link that is swapped, a certificate in place. It blocks, so
it is called in a thread.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection, Iterable
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from kyma_proxy.loading.outside_values import Command, OutsideValues, Unavailable
from kyma_proxy.ops.key_commands import KeyCommands

_MAX_FILE_BYTES: Final = 4 * 2**20
"""More than any bundle of certificates has."""
_RETRY_S: Final = 15.0
"""When a command that has failed is run again, unless its term ends before."""


class _Output(NamedTuple):
    """A command's output, None if it has never succeeded; the reason why it failed the last time; and when to run it again."""

    text: str | None
    failure: str | None
    due: float


class Reading(OutsideValues):
    """The values that one load takes; `files` are the contents that it saw, None for a file that can't be read."""

    def __init__(self, store: OutsideStore, *, runs_again: bool) -> None:
        self._store = store
        self._runs_again = runs_again
        self.files: dict[str, bytes | None] = {}
        self.commands: list[Command] = []
        self.renewed: list[str] = []
        """The files and programs whose value has changed since the last load."""

    def text_of(self, path: str) -> str:
        return self.bytes_of(path).decode("utf-8", "replace")

    def bytes_of(self, path: str) -> bytes:
        """The content of a file; the last one that was read, if it can't be read now. Raises Unavailable."""
        content, failure = _read(path)
        self.files[path] = content
        before = self._store.contents.get(path)
        if content is None:
            if before is None:
                raise Unavailable(failure)
            warning = f"{path} {failure}; what it held before is used on"
            if warning not in self._store.warnings:
                self._store.warnings.append(warning)
            return before
        if before is not None and before != content and path not in self.renewed:
            self.renewed.append(path)
        return content

    def find_tls_problem(self, certificate: str, key: str) -> tuple[str, str] | None:
        for member, path in (("certificate", certificate), ("key", key)):
            try:
                self.bytes_of(path)
            except Unavailable as error:
                return member, f"{path} {error}"
        try:
            load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
        except (ssl.SSLError, OSError):
            return "certificate", f"{certificate} and {key} are not a PEM certificate chain and its key"
        return None

    def find_write_problem(self, path: str) -> str | None:
        """Ask the system where nothing is served: who serves opens the file, and may have had more rights when it did."""
        return _find_write_problem(Path(path)) if self._store.tries_writing else None

    def run(self, commands: Collection[Command]) -> None:
        self.commands = list(commands)
        before = {command: self._store.outputs[command].text for command in commands if command in self._store.outputs}
        self._store.run(commands, runs_again=self._runs_again)
        for command, text in before.items():
            if self._store.outputs[command].text != text:
                self.renewed.append(command.arguments[0])

    def processors(self) -> int:
        return len(os.sched_getaffinity(0))

    def output_of(self, command: Command) -> str:
        output = self._store.outputs.get(command)
        if output is None:
            return NOT_RUN
        if output.text is None:
            raise Unavailable(output.failure or "was not run")
        return output.text


def load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Take a certificate chain and its key. Raises SSLError or OSError.

    An encrypted key must not ask the terminal for its password.
    """
    context.load_cert_chain(certificate, key, "")


NOT_RUN: Final = "a-key-that-a-command-would-print"
"""Stands for a key where commands are not run."""


class OutsideStore:
    """The files and commands of the configuration in force, and their values. `contents` and `outputs` have the last good ones.

    Without `runs_commands` it runs none, and takes it that each would print a key. `tries_writing`: it is a problem if a
    file can't be written.
    """

    def __init__(self, *, runs_commands: bool = True, tries_writing: bool = False) -> None:
        self.contents: dict[str, bytes] = {}
        self.outputs: dict[Command, _Output] = {}
        self.warnings: list[str] = []
        """The troubles that the log has not told yet; they may name a variable's value."""
        self._files: dict[str, bytes | None] = {}
        self._refused: dict[str, bytes | None] | None = None
        self._used: list[Command] = []
        self.tries_writing = tries_writing
        self._runner = KeyCommands() if runs_commands else None

    def reading(self, *, runs_again: bool = False) -> Reading:
        """The values for one load. `runs_again`: commands are run also if what they printed is still good."""
        return Reading(self, runs_again=runs_again)

    def trial(self) -> Reading:
        """The values for a load of which nothing is kept: no command is run, and one that never was is taken to print a key."""
        copy = OutsideStore(runs_commands=False)
        copy.contents, copy.outputs = dict(self.contents), dict(self.outputs)
        return copy.reading()

    def keep(self, reading: Reading) -> None:
        """The configuration that was loaded with these values is in force."""
        self._files, self._refused, self._used = reading.files, None, reading.commands
        self.contents = {
            path: self.contents[path] if content is None else content
            for path, content in reading.files.items()
            if content is not None or path in self.contents
        }
        self.outputs = {command: self.outputs[command] for command in reading.commands if command in self.outputs}

    def refuse(self, reading: Reading) -> None:
        """The configuration could not be loaded with these values: wait until they change once more."""
        self._refused = reading.files

    def is_stale(self) -> bool:
        """True if a file has changed, or a command whose term is over has printed something else."""
        before = {command: self.outputs[command].text for command in self._used if command in self.outputs}
        self.run(self._used, runs_again=False)
        if any(self.outputs[command].text != text for command, text in before.items()):
            return True
        now = {path: _read(path)[0] for path in self._files}
        return now not in (self._files, self._refused)

    def run(self, commands: Iterable[Command], *, runs_again: bool) -> None:
        """Run those commands that are due, or all of them."""
        if self._runner is None:
            return
        now = monotonic()
        due = [one for one in commands if runs_again or one not in self.outputs or now >= self.outputs[one].due]
        for command, result in self._runner.run(due).items():
            if isinstance(result, str):
                self.outputs[command] = _Output(result, None, now + command.term_s)
                continue
            before = self.outputs.get(command)
            text = None if before is None else before.text
            used_on = "" if text is None else "; the key that it printed before is used on"
            self.warnings.append(f"api_key_command {command.arguments[0]} {result}{used_on}")
            self.outputs[command] = _Output(text, str(result), now + min(command.term_s, _RETRY_S))

    def stop(self) -> None:
        """End the commands that run."""
        if self._runner is not None:
            self._runner.stop()


def _find_write_problem(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "it is a directory"
        if path.exists():
            return None if os.access(path, os.W_OK) else "permission denied"
        if not path.parent.is_dir():
            return f"there is no directory {path.parent}"
        return None if os.access(path.parent, os.W_OK | os.X_OK) else f"permission denied in {path.parent}"
    except (OSError, ValueError) as error:
        return str(error)


def _read(path: str) -> tuple[bytes | None, str]:
    """The content of a file, or None and the reason why it can't be read."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        strerror = error.strerror if isinstance(error, OSError) else None
        return None, f"can't be read ({strerror.lower()})" if strerror else "can't be read"
    if len(content) > _MAX_FILE_BYTES:
        return None, f"can't be read (it is larger than {_MAX_FILE_BYTES // 2**20} MiB)"
    return content, ""
