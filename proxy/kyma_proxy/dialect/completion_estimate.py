"""This file estimates how many tokens of an answer went out, where its provider did not get to report them. (Contract §8.)

Only the two ends of the answer are kept (`core/sample.py`). The texts in their whole events are measured, and what lies
between the ends is taken to be like them. It is asked once, at the end, and for few requests.
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
"""A text in a whole answer. Embeddings have none, nor have counts."""


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    """What one event adds: OpenAI's chat `delta`, or Anthropic's."""

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
    """About how many tokens an answer of `bytes_out` bytes held, of which these are the first and the last."""
    if not streams:
        return -(-_bytes_of_whole(opening, bytes_out) // BYTES_PER_TOKEN)
    overlap = len(opening) + len(tail) - bytes_out
    if overlap >= 0:
        return _measured(opening + tail[overlap:])[0]
    first, begin, end = _measured(opening)
    # The tail begins somewhere in an event, and its first whole line after that.
    last, _, last_bytes = _measured(tail[tail.find(b"\n") + 1 :])
    texts = end - begin + last_bytes
    between = bytes_out - end - last_bytes
    return first + last + (-(-(first + last) * between // texts) if texts else 0)


def _bytes_of_whole(opening: bytes, bytes_out: int) -> int:
    """How much text a whole answer has: a short one's is measured, a long one is all text from where the first begins."""
    if len(opening) >= bytes_out:
        return sum(_bytes_of_string(match[1]) for match in _TEXT.finditer(opening))
    first = _TEXT.search(opening)
    return 0 if first is None else bytes_out - first.start(1)


def _bytes_of_string(written: bytes) -> int:
    """The bytes of a JSON string's text; of one that is cut off, those of how it is written."""
    try:
        return len(_string(b'"' + written + b'"').encode())
    except (msgspec.MsgspecError, UnicodeError):
        return len(written)


def _measured(text: bytes) -> tuple[int, int, int]:
    """The tokens in the whole lines of a piece of a stream, and where the first with a text begins and the last line ends.

    Without any text both are its end: so an answer's first events, which may be long, are not taken for its texts.
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
    """The tokens that one event adds: at least one where it adds any text, as no provider sends less than a token."""
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
        yield delta.reasoning  # some send both, with the same text
    if delta.function_call is not None:
        yield delta.function_call.arguments
    for call in delta.tool_calls or ():
        if call.function is not None:
            yield call.function.arguments
