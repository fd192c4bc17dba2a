"""Writes the access log for people at a terminal: aligned columns, in colour, and at the end of a line what was unusual.

The words of callers and providers are in it, so whatever a terminal would obey is written as an escape.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, TextIO

import msgspec

from kyma_proxy.telemetry.record import Record
from kyma_proxy.telemetry.visible_text import visible

_decode: Final = msgspec.json.Decoder(Record).decode
_RESET: Final = "\x1b[0m"
_DIM, _RED, _GREEN, _YELLOW, _CYAN = (f"\x1b[{number}m" for number in (2, 31, 32, 33, 36))
_ENDPOINT: Final = 20
_ROUTE: Final = 40
_TIME: Final = 8
_TOKENS: Final = 12
_SECONDS_IN_MINUTE: Final = 60
_MS_IN_SECOND: Final = 1000


PRETTY: Final = "pretty"
"""The value of `access_log` for lines of this kind, on standard output."""


def is_for_people(path: str, output: TextIO) -> bool:
    """True if the log at this path is read at a terminal, or is to look as if it were."""
    return path == PRETTY or (path == "-" and output.isatty())


def takes_colour(output: TextIO, environment: Mapping[str, str]) -> bool:
    """True if this is a terminal that understands colours, whose user has not forbidden them (no-color.org)."""
    return output.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class PrettyLog:
    """Makes lines for a terminal from lines of the access log; `in_colour` adds the terminal's codes."""

    def __init__(self, *, in_colour: bool) -> None:
        self._in_colour = in_colour

    def lines(self, batch: bytes) -> bytes:
        """The lines for these lines; one that can't be read stays as it is."""
        return b"".join([self._line(line) for line in batch.splitlines(keepends=True)])

    def _line(self, line: bytes) -> bytes:
        try:
            return f"{self.line(_decode(line))}\n".encode("utf-8", "replace")
        except (msgspec.MsgspecError, ValueError, OverflowError, OSError):
            return line

    def line(self, record: Record) -> str:
        """The line of a record, without its end."""
        failed = record.status >= 500 or record.ending in ("failed", "broken")
        colour = _RED if failed else _YELLOW if record.status >= 400 else _GREEN
        columns = [
            self._coloured(_DIM, time.strftime("%H:%M:%S", time.localtime(record.ts))),
            self._coloured(colour, f"{record.status:3d}"),
            f"{_cut(record.endpoint, _ENDPOINT):<{_ENDPOINT}}",
            self._coloured(_CYAN, f"{_cut(_route(record), _ROUTE):<{_ROUTE}}"),
            f"{_duration(record.ttft_ms):>{_TIME}}",
            f"{_duration(record.duration_ms):>{_TIME}}",
            f"{_tokens(record):>{_TOKENS}}",
        ]
        if record.cost_usd:
            columns.append(f"${record.cost_usd:.6f}")
        notes = _notes(record)
        if notes:
            columns.append(self._coloured(_YELLOW if colour == _GREEN else colour, notes))
        return "  ".join(columns).rstrip()

    def _coloured(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._in_colour else text


def _route(record: Record) -> str:
    """The model and who answered; the name that was asked for stands before it if that is another."""
    asked, model = record.model_requested, record.model
    name = (model or asked or "") if asked in (None, model) or model is None else f"{asked} → {model}"
    return f"{name} @ {record.provider}" if record.provider is not None else name


def _tokens(record: Record) -> str:
    """The tokens of the prompt and of the answer; `~` is an estimate."""
    if record.prompt_tokens is None and record.completion_tokens is None:
        return ""
    mark = "~" if record.usage_source == "estimated" else ""
    if record.completion_tokens is None:  # embeddings have no others
        return f"{mark}{record.prompt_tokens} tok"
    prompt = "?" if record.prompt_tokens is None else record.prompt_tokens
    return f"{mark}{prompt}+{record.completion_tokens} tok"


def _duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    if milliseconds < _MS_IN_SECOND:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / _MS_IN_SECOND
    return f"{seconds:.2f} s" if seconds < _SECONDS_IN_MINUTE else f"{seconds:.0f} s"


def _notes(record: Record) -> str:
    """The unusual things that an operator may look into: a fallback, failed attempts, an ending, an error; then by which id."""
    failed = [one for one in record.attempts if not one.endswith((":answered", ":abandoned"))]
    notes = [
        *([record.ending] if record.ending not in ("completed", "relayed_error", "rejected") else []),
        *([record.error_code] if record.error_code else []),
        *([f"fallback {record.fallback_layer}"] if record.fallback_layer else []),
        *([f"after {', '.join(failed)}"] if failed else []),
    ]
    if notes or record.status >= 400:
        notes.append(f"id {record.request_id}")
    return visible("; ".join(notes))


def _cut(text: str, width: int) -> str:
    """The text, made visible, with `…` for what is too long."""
    text = visible(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"
