"""Reads the corpus: answers as providers document them or are known to send them, each with the judgement that it must get.

`answers/*.yaml` has one file a provider. The shapes are the providers' (each item names its source), the prose is invented.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import yaml

DIRECTORY = Path(__file__).parent / "answers"
STREAM_TYPE = "text/event-stream"
JSON_TYPE = "application/json"
PRICES = {"input": 1.0, "output": 2.0, "cached_input": 0.1, "written_5m": 1.25, "written_1h": 2.0}
"""In USD per million tokens."""
_LINE_ENDS = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}
_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_FINAL_EVENTS = {"message_stop", "response.completed", "response.incomplete", "response.failed"}


class Usage(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The tokens that must be logged and charged. `prompt` includes what was read from a cache or written to it.

    An estimate can't be known exactly: its completion lies within `completion_between`. `is_rounded`: the provider's count of
    the prompt has a fraction, which may be rounded either way.
    """

    prompt: int | None = None
    completion: int | None = None
    cached: int = 0
    written_5m: int = 0
    written_1h: int = 0
    source: Literal["reported", "estimated"] = "reported"
    completion_between: tuple[int, int] | None = None
    is_rounded: bool = False


class Tool(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A call of a tool; `arguments` is JSON text."""

    name: str
    arguments: str


class Expected(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The judgement that an answer must get, and its meaning for a caller of the other dialect.

    - `answered`: it goes to the caller unchanged, and is charged.
    - `broken`: it goes to the caller unchanged, but it ends with an error, which the log names.
    - `moved_on`: nothing of it goes out, the next source answers, and this one is blamed.
    - `relayed`: an error that no other source can mend goes to the caller unchanged, and costs nothing.

    `finish` is a word of OpenAI's chat completions. `charge` is in USD.
    """

    verdict: Literal["answered", "broken", "moved_on", "relayed"]
    text: str = ""
    finish: str = ""
    tools: tuple[Tool, ...] = ()
    usage: Usage | None = None
    charge: float | None = None
    error_code: str | None = None


class Item(msgspec.Struct, forbid_unknown_fields=True, dict=True):
    """One recorded answer to one request.

    `source` is the URL of what it was written from. `stream` is what the request asked for. In `body`, and in the
    expected text, `<NAME>` stands for what `fill` repeats. A stream's last event gets its blank line, unless `unfinished`.
    """

    name: str
    source: str
    expected: Expected
    body: str
    endpoint: str = ""
    stream: bool = False
    status: int = 200
    headers: dict[str, str] = {}
    framing: Literal["length", "chunks", "close"] | None = None
    line_end: Literal["lf", "crlf", "cr"] = "lf"
    fill: dict[str, tuple[str, int]] = {}
    unfinished: bool = False
    provider: str = ""
    dialect: str = ""

    @property
    def content_type(self) -> str:
        """The type that the provider gives its answer."""
        return self.headers.get("content-type", STREAM_TYPE if self.stream and self.status == 200 else JSON_TYPE)

    @property
    def is_stream(self) -> bool:
        """True if the answer says that it is a stream of events."""
        return self.content_type.startswith(STREAM_TYPE)

    @property
    def is_translatable(self) -> bool:
        """True if callers of the other dialect can be given it."""
        return self.endpoint in ("chat/completions", "messages")

    @cached_property
    def data(self) -> bytes:
        """The bytes of the body."""
        assert all(f"<{name}>" in self.body for name in self.fill), f"{self.name}: nothing is called so"
        text = self._filled(self.body)
        if not self.is_stream:
            text = text.removesuffix("\n")
        elif text and not self.unfinished:
            text += "\n"
        return text.replace("\n", _LINE_ENDS[self.line_end]).encode()

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self._filled(self.expected.text)

    def _filled(self, text: str) -> str:
        for name, (repeated, times) in self.fill.items():
            text = text.replace(f"<{name}>", repeated * times)
        return text

    @cached_property
    def events(self) -> list[bytes]:
        """The events of a stream, each with its blank line."""
        ends = [0, *(match.end() for match in _BOUNDARY.finditer(self.data))]
        events = [self.data[begin:end] for begin, end in itertools.pairwise(ends)]
        return events if ends[-1] == len(self.data) else [*events, self.data[ends[-1] :]]

    @cached_property
    def whole_from(self) -> int:
        """The number of events after which nothing that matters is missing: the end, or the reason to stop and the usage."""
        return self._count_until(_has_usage)

    @cached_property
    def stopped_from(self) -> int:
        """The number of events with which the reason to stop has come."""
        return self._count_until(lambda _: True)

    def _count_until(self, has_usage: Callable[[dict[str, Any]], bool]) -> int:
        """The number of events until the end, or until a reason to stop and what `has_usage` looks for have both come."""
        is_stopped = is_found = False
        for count, event in enumerate(self.events, 1):
            document = document_of(event)
            is_stopped |= _has_reason_to_stop(document)
            is_found |= has_usage(document)
            if data_of(event) == b"[DONE]" or document.get("type") in _FINAL_EVENTS or (is_stopped and is_found):
                return count
        return len(self.events)

    @cached_property
    def for_metered(self) -> bytes:
        """The bytes for a metered caller who did not ask for usage: without the one event that is nothing else."""
        if not self.is_stream or self.endpoint not in ("chat/completions", "completions"):
            return self.data
        for at, event in enumerate(self.events):
            document = document_of(event)
            if isinstance(document.get("usage"), dict) and not document.get("choices"):
                return b"".join(self.events[:at] + self.events[at + 1 :])
        return self.data


def data_of(event: bytes) -> bytes:
    """The data of an event; b"" if it has none."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def document_of(event: bytes) -> dict[str, Any]:
    """The JSON object of an event; empty if it has none."""
    try:
        document = json.loads(data_of(event))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _choices(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in document.get("choices") or () if isinstance(one, dict)]


def _has_reason_to_stop(document: dict[str, Any]) -> bool:
    delta = document.get("delta")
    return any(one.get("finish_reason") for one in _choices(document)) or (isinstance(delta, dict) and "stop_reason" in delta)


def _has_usage(document: dict[str, Any]) -> bool:
    places = (document, document.get("x_groq"), *_choices(document))
    return any(isinstance(one, dict) and isinstance(one.get("usage"), dict) for one in places)


def charge_of(usage: Usage) -> float:
    """The charge for these tokens, in USD, at PRICES."""
    assert usage.prompt is not None and usage.completion is not None  # noqa: PT018
    plain = usage.prompt - usage.cached - usage.written_5m - usage.written_1h
    return (
        plain * PRICES["input"]
        + usage.cached * PRICES["cached_input"]
        + usage.written_5m * PRICES["written_5m"]
        + usage.written_1h * PRICES["written_1h"]
        + usage.completion * PRICES["output"]
    ) / 1e6


class _File(msgspec.Struct, forbid_unknown_fields=True):
    provider: str
    dialect: Literal["openai", "anthropic"]
    items: list[Item]


class Mode(NamedTuple):
    """The caller: of the source's dialect or of the other, with an account or without."""

    is_translated: bool
    is_metered: bool

    def __str__(self) -> str:
        return f"{'translated' if self.is_translated else 'same'}-{'metered' if self.is_metered else 'free'}"


MODES = [Mode(is_translated, is_metered) for is_translated in (False, True) for is_metered in (False, True)]


def read(text: str) -> list[Item]:
    """Read one file of the corpus. Raises msgspec.ValidationError for a member that is not known."""
    file = msgspec.convert(yaml.safe_load(text), _File)
    for item in file.items:
        item.provider, item.dialect = file.provider, file.dialect
        item.endpoint = item.endpoint or ("messages" if file.dialect == "anthropic" else "chat/completions")
        if item.expected.usage is None and item.expected.verdict == "answered":
            raise ValueError(f"{item.name}: an answer has a usage")
    return file.items


def _all() -> dict[str, Item]:
    items: dict[str, Item] = {}
    for path in sorted(DIRECTORY.glob("*.yaml")):
        for item in read(path.read_text()):
            name = f"{path.stem}/{item.name}"
            assert name not in items, f"{name} is there twice"
            items[name] = item
    return items


ITEMS = _all()
"""All items, by the file's name and their own."""
