"""Follows one block of a message that streams, until it is complete."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Raw

from kyma_proxy.core.http.body import is_json

TEXT: Final = "text"
THINKING: Final = "thinking"
TOOL: Final = "tool_use"
_JSON_MARK: Final = re.compile(r'\\.|["{}\[\]\\]', re.DOTALL)
_MAX_SCANNED: Final = 32 * 1024
_OPENING: Final = ("{", "[")
_CLOSING: Final = ("}", "]")


class Block:
    """A block of the message, and the text that is held until it is opened."""

    __slots__ = (
        "_depth", "_in_string", "_is_escaped", "_is_unknown", "extra", "held", "id", "is_closed", "is_complete",
        "is_name_complete", "length", "name", "type",
    )  # fmt: skip

    def __init__(self, block_type: str, block_id: str = "") -> None:
        self.type = block_type
        self.id = block_id
        self.name = ""
        self.extra = Raw(b"null")
        """What the source wants back with a call."""
        self.length = 0
        """The characters of a thought so far."""
        self.held: list[str] = []
        self.is_closed = False
        self.is_name_complete = False
        """True if the name of a call is complete: some sources split it, and only what follows it shows its end."""
        self.is_complete = block_type != TOOL
        """True if another block may follow; for a call, if its arguments are a complete JSON value."""
        self._depth = 0
        self._in_string = self._is_escaped = self._is_unknown = False

    @property
    def can_open(self) -> bool:
        """True if everything in the block's first event is known."""
        return self.type != TOOL or (self.is_name_complete and bool(self.name))

    def scan(self, arguments: str) -> None:
        """Scan a piece of the arguments for the end of their JSON value."""
        if self.is_complete or self._is_unknown:
            return
        if len(arguments) > _MAX_SCANNED:  # all of them at once, or from where their depth can't be followed any more
            self.is_complete = not self._depth and is_json(arguments.encode())
            self._is_unknown = True
            return
        position = 1 if self._is_escaped else 0
        self._is_escaped = False
        for found in _JSON_MARK.finditer(arguments, position):
            mark = found[0]
            if mark == "\\":
                self._is_escaped = True  # the escaped character is in the next piece
            elif mark == '"':
                self._in_string = not self._in_string
            elif self._in_string:
                continue
            elif mark in _OPENING:
                self._depth += 1
            elif mark in _CLOSING:
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    return
