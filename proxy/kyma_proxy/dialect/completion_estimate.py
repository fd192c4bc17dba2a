"""Estimates how many tokens of an answer were sent, if its provider did not report them. (Contract §8.)

Only the first and last bytes of the answer are kept (`core/http/sample.py`). The texts in their complete events are measured,
and the bytes between are assumed to hold text at the same rate. This runs once, at the end, and for few requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from kyma_proxy.core.accounts.estimate import BYTES_PER_TOKEN

_DATA_LINE: Final = re.compile(rb"^data:[ ]?(\{[^\r\n]*)", re.MULTILINE)
_TEXT: Final = re.compile(
    rb'"(?:content|text|arguments|thinking|reasoning_content|refusal)"\s{0,8}:\s{0,8}"([^"\\]*+(?:\\.[^"\\]*+)*+)', re.DOTALL
)
"""A text member of a whole answer. Embeddings and token counts have none."""


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    """The delta of one event: of OpenAI's chat completions, or of Anthropic's."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    text: str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    delta: _Delta | str | None = None


_event: Final = msgspec.json.Decoder(_Event).decode
_string: Final = msgspec.json.Decoder(str).decode


def estimated_completion_tokens(opening: bytes, tail: bytes, bytes_out: int, streams: bool) -> int:
    """Estimate the tokens of an answer of `bytes_out` bytes, given its first and its last bytes."""
    if not streams:
        return -(-_text_bytes(opening, bytes_out) // BYTES_PER_TOKEN)
    overlap = len(opening) + len(tail) - bytes_out
    if overlap >= 0:
        return _measure(opening + tail[overlap:])[0]
    first, begin, end = _measure(opening)
    # The tail starts within an event; its first complete line follows.
    last, _, last_bytes = _measure(tail[tail.find(b"\n") + 1 :])
    texts = end - begin + last_bytes
    between = bytes_out - end - last_bytes
    return first + last + (-(-(first + last) * between // texts) if texts else 0)


def _text_bytes(opening: bytes, bytes_out: int) -> int:
    """Return the bytes of text in a whole answer. A short one is measured; a long one counts as text from its first text on."""
    if len(opening) >= bytes_out:
        return sum(_string_bytes(match[1]) for match in _TEXT.finditer(opening))
    first = _TEXT.search(opening)
    return 0 if first is None else bytes_out - first.start(1)


def _string_bytes(written: bytes) -> int:
    """Return the length of a JSON string's text in bytes; of a truncated string, the length of its escaped form."""
    try:
        return len(_string(b'"' + written + b'"').encode())
    except (msgspec.MsgspecError, UnicodeError):
        return len(written)


def _measure(text: bytes) -> tuple[int, int, int]:
    """Return the tokens in the complete lines of a part of a stream, the start of the first with text, and the end of the last.

    Without any text both positions are the end, so that an answer's first events, which may be long, do not count as text.
    """
    end = text.rfind(b"\n") + 1
    tokens, begin = 0, len(text)
    for match in _DATA_LINE.finditer(text, 0, end):
        found = _tokens(match[1])
        if found and not tokens:
            begin = match.start()
        tokens += found
    return tokens, begin, end if tokens else len(text)


def _tokens(data: bytes) -> int:
    """Return the tokens that one event adds: at least one if it adds any text, as no provider sends less than a token."""
    try:
        event = _event(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return 0
    size = sum(len(text.encode()) for text in _texts(event) if text)
    return max(size // BYTES_PER_TOKEN, 1) if size else 0


def _texts(event: _Event) -> Iterable[str | None]:
    if isinstance(event.delta, str):
        yield event.delta  # the events of `responses`
    elif event.delta is not None:
        yield from _texts_of_delta(event.delta)
    for choice in event.choices or ():
        yield choice.text
        if choice.delta is not None:
            yield from _texts_of_delta(choice.delta)


def _texts_of_delta(delta: _Delta) -> Iterable[str | None]:
    yield from (delta.content, delta.reasoning_content, delta.refusal, delta.text, delta.thinking, delta.partial_json)
    if delta.reasoning_content is None:
        yield delta.reasoning  # some providers send both, with the same text
    if delta.function_call is not None:
        yield delta.function_call.arguments
    for call in delta.tool_calls or ():
        if call.function is not None:
            yield call.function.arguments
