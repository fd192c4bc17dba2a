"""Collects the `reasoning_details` of an answer, which some sources want back as they gave them. (Contract §3.4.)

OpenRouter gives them in pieces: consecutive ones of one type and index are one detail, until its signature has come. MiniMax
repeats in each piece what it has said before (platform.minimax.io/docs/guides/text-m2-function-call).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kyma_proxy.dialect.source_state import TEXT_MEMBERS

Json = dict[str, Any]
_REPEATING: Final = "MiniMax"
_MAX_BYTES: Final = 1024 * 1024
_encode: Final = msgspec.json.encode


class ReasoningDetails:
    """The details of one answer so far, as far as nobody has taken them."""

    __slots__ = ("_bytes", "_length", "_pieces", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Json] = []
        self._pieces: list[list[str]] = []
        """The pieces of the text of each detail."""
        self._bytes = self._length = 0

    def add(self, details: object) -> str:
        """Add the details of a delta or a message. Return the text in them that is new."""
        listed = details if isinstance(details, list) else ()
        return "".join([self._add(detail) for detail in listed if isinstance(detail, dict)])

    def _add(self, detail: Json) -> str:
        name = next((name for name in TEXT_MEMBERS if isinstance(detail.get(name), str)), "")
        text = detail[name] if name else ""
        known = self._waiting[-1] if self._waiting else None
        if known is None or not _continues(known, detail):
            self._waiting.append(dict(detail))
            self._pieces.append([text])
            self._length = 0
            self._bytes += len(_encode(detail))
        else:
            pieces = self._pieces[-1]
            if len(text) > self._length and str(detail.get("format")).startswith(_REPEATING):
                text = text.removeprefix("".join(pieces))
            pieces.append(text)
            for key, value in detail.items():  # the last piece may hold no text, but the signature
                if value is not None and known.get(key) != value and (key not in TEXT_MEMBERS or key not in known):
                    known[key] = value
                    self._bytes += len(_encode(value))
            self._bytes += len(text)
        self._length += len(text)
        if self._bytes > _MAX_BYTES:
            raise ValueError("the details of the thoughts are too long")
        return text

    def take(self) -> list[Json]:
        """Return the details that have come since the last call."""
        taken, self._waiting = self._waiting, []
        for detail, pieces in zip(taken, self._pieces, strict=True):
            for name in TEXT_MEMBERS:
                if isinstance(detail.get(name), str):
                    detail[name] = "".join(pieces)
                    break
        self._pieces = []
        return taken


def _continues(known: Json, detail: Json) -> bool:
    """True if a detail is a further piece of one that is known, whose text is not complete."""
    if not any(isinstance(known.get(name), str) for name in TEXT_MEMBERS):
        return False
    if known.get("signature") or any(known.get(name) != detail.get(name) for name in ("type", "index")):
        return False
    return known.get("id") is None or detail.get("id") is None or known["id"] == detail["id"]
