"""Estimates how many tokens of an answer were sent, if its provider did not report them. (Contract §8.)

Every string of an answer counts by its bytes, whatever member it stands under, except those that are known to be no output:
ids, types, names, signatures, what repeats the output, and what repeats the request. One odd member makes none of the others
count less.

Only the first and last bytes of the answer are kept (`dialect/answers/reader.py`). The texts in their complete events are
measured, and the bytes between are assumed to hold text at the same rate. Where events are numbered (OpenAI's `responses`),
their numbers say how many there were, because some of them repeat the caller's own request. This runs once, at the end, and for
few requests.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from kyma_proxy.core.accounts.estimate import BYTES_PER_TOKEN
from kyma_proxy.dialect.answers.usage import lenient_json

_DATA_LINE: Final = re.compile(rb"^data:[ \t]*(\{[^\r\n]*)", re.MULTILINE)
_BASE64_BYTES_PER_TOKEN: Final = 512
"""Sound and pictures: `core.accounts.media` says why."""
_MIN_BASE64: Final = 256
_MAX_READ_BYTES: Final = 64 * 1024
"""The most that is read of the beginning of a whole answer that is not at hand completely, or is no JSON."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]+")
# What a provider says of an answer, and the caller's own request, which some providers repeat in it. Of `responses` it is the
# whole object under `response`; its text has been sent in deltas before.
_NO_OUTPUT: Final = frozenset({
    "id", "object", "type", "role", "model", "created", "created_at", "status", "index", "name", "format", "phase", "provider",
    "finish_reason", "native_finish_reason", "stop_reason", "stop_sequence", "stop_details", "incomplete_details",
    "service_tier", "system_fingerprint", "obfuscation", "signature", "thought_signature", "extra_content", "encrypted_content",
    "logprobs", "top_logprobs", "prompt_logprobs", "token_ids", "usage", "x_groq", "timings", "error",
    "annotations", "annotation", "citations", "citation", "search_results", "url", "image_url", "title", "filename",
    "media_type", "mime_type", "expires_at", "container", "context_management",
    "content_filter_results", "prompt_filter_results", "embedding",
    "response", "instructions", "metadata", "tools", "tool_choice", "user", "prompt", "safety_identifier", "prompt_cache_key",
})  # fmt: skip
_ARGUMENTS: Final = frozenset({"arguments", "input", "partial_json"})
"""Members whose values are output as a whole, also where they are no text: the arguments of a call."""
_BINARY: Final = frozenset({"data", "b64_json", "partial_image_b64", "result", "delta"})
"""Members that hold text, or a sound or a picture in base64."""
_ROOTS: Final = ("choices", "output", "content")
"""The members of an answer, or of an event, outside which there is no output."""
_WHOLE_ITEM: Final = "response.output_item.done"
_REPEATS: Final = ".done"
"""The end of the type of an event of `responses` that repeats what was said in deltas."""


def estimated_completion_tokens(opening: bytes, tail: bytes, bytes_out: int, streams: bool) -> int:
    """Estimate the tokens of an answer of `bytes_out` bytes, given its first and its last bytes."""
    if not streams:
        return -(-_whole_text_bytes(opening, bytes_out) // BYTES_PER_TOKEN)
    overlap = len(opening) + len(tail) - bytes_out
    if overlap >= 0:
        measured = _measure(opening + tail[overlap:])
        return measured.tokens or measured.repeated
    first = _measure(opening)
    # The tail starts within an event; its first complete line follows.
    last = _measure(tail[tail.find(b"\n") + 1 :])
    tokens, events = first.tokens + last.tokens, first.events + last.events
    if not tokens:
        return first.repeated + last.repeated
    if last.first_number is not None:
        between = max(0, last.first_number - (0 if first.last_number is None else first.last_number + 1))
        return min(tokens + -(-tokens * between // events), bytes_out)
    texts = first.end - first.begin + last.end
    return tokens + -(-tokens * (bytes_out - first.end - last.end) // texts)


class _Measured(NamedTuple):
    """The tokens in the complete lines of a part of a stream, and the number of events that have any.

    `repeated` are the tokens of whole items, which usually have been sent in deltas before.
    `begin` is the start of the first event with text, and `end` the end of the last line. Without any text both are the end, so
    that an answer's first events, which may be long, do not count as text. The numbers are those of the first and last event
    that has one.
    """

    tokens: int
    events: int
    repeated: int
    begin: int
    end: int
    first_number: int | None
    last_number: int | None


def _measure(text: bytes) -> _Measured:
    end = text.rfind(b"\n") + 1
    tokens, events, repeated, begin = 0, 0, 0, len(text)
    first_number: int | None = None
    last_number: int | None = None
    for match in _DATA_LINE.finditer(text, 0, end):
        event = lenient_json(match[1])
        if not isinstance(event, dict):
            continue
        number = event.get("sequence_number")
        if isinstance(number, int):
            first_number = number if first_number is None else first_number
            last_number = number
        if event.get("type") == _WHOLE_ITEM:
            repeated += -(-_text_bytes(event.get("item")) // BYTES_PER_TOKEN)
        size = event_text_bytes(event)
        if size:
            if not tokens:
                begin = match.start()
            tokens += max(size // BYTES_PER_TOKEN, 1)  # no provider sends less than a token
            events += 1
    return _Measured(tokens, events, repeated, begin, end if tokens else len(text), first_number, last_number)


def event_text_bytes(event: dict[str, Any]) -> int:
    """Return the bytes of output that an event adds."""
    kind = event.get("type")
    if isinstance(kind, str) and (kind.endswith(_REPEATS) or kind == "error"):
        return 0
    root = event.get("choices", event)
    return _text_bytes(root, is_sound=isinstance(kind, str) and "audio" in kind and "transcript" not in kind)


def _text_bytes(root: object, *, is_sound: bool = False) -> int:
    """Return the bytes of all strings below a value that may be output. The same text twice counts once: it is a repetition."""
    size, seen, waiting = 0, set[str](), [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if value not in seen:
                seen.add(value)
                size += len(value.encode(errors="surrogatepass"))
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict) and not _is_tool_result(value):
            for name, inner in value.items():
                if name in _NO_OUTPUT or name.endswith("_id") or (name == "message" and "delta" in value):
                    continue
                if name in _ARGUMENTS and isinstance(inner, dict | list):
                    size += _written_bytes(inner)
                elif name in _BINARY and isinstance(inner, str) and (name != "delta" or is_sound) and _is_base64(inner):
                    size += len(inner) * BYTES_PER_TOKEN // _BASE64_BYTES_PER_TOKEN
                else:
                    waiting.append(inner)
    return size


def _written_bytes(arguments: object) -> int:
    """Return about how many bytes the arguments of a call take as JSON; none if there are none."""
    size, waiting = 0, [arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            size += sum(len(name.encode(errors="surrogatepass")) + 4 for name in value)
            waiting += value.values()
        elif isinstance(value, list):
            size += len(value)
            waiting += value
        else:
            size += len(value.encode(errors="surrogatepass")) + 2 if isinstance(value, str) else len(str(value))
    return size


def _is_tool_result(block: dict[str, Any]) -> bool:
    """True for what a tool of the provider's has found: that is input of the model, not its output."""
    kind = block.get("type")
    return isinstance(kind, str) and kind.endswith("_tool_result")


def _is_base64(text: str) -> bool:
    return len(text) >= _MIN_BASE64 and _BASE64.fullmatch(text) is not None


def _whole_text_bytes(opening: bytes, bytes_out: int) -> int:
    """Return the bytes of text in a whole answer, or in its beginning.

    One that is there completely is walked. Of another one the beginning is read as far as it goes; a long one counts as text
    from its first output on.
    """
    if len(opening) >= bytes_out:
        document = lenient_json(opening)
        if isinstance(document, dict):
            roots = [document[name] for name in _ROOTS if name in document]
            return _text_bytes(roots or document)
    begun = _begun_text(opening[:_MAX_READ_BYTES])
    if _MAX_READ_BYTES >= len(opening) >= bytes_out:
        return begun.size
    return 0 if begun.start is None else bytes_out - begun.start


class _Begun(NamedTuple):
    """The bytes of output in the beginning of a whole answer, and where the first of it stands."""

    size: int
    start: int | None


_TOKEN: Final = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)(\\?\Z|"(\s*+:)?)|[\[\]{}]', re.DOTALL)


def _begun_text(opening: bytes) -> _Begun:
    """Read JSON that breaks off somewhere: the strings below the members that hold output."""
    size = 0
    start: int | None = None
    path: list[tuple[str, bool]] = []  # for each open object or list: the member that it stands under, and if it is output
    member = ""
    for match in _TOKEN.finditer(opening):
        sign = match[0]
        if sign in (b"{", b"["):
            path.append((member, _is_output(path, member)))
        elif sign in (b"}", b"]"):
            member = path.pop()[0] if path else ""
        elif match[3] is not None:
            member = match[1].decode(errors="replace")
        elif _is_output(path, member):
            size += _string_bytes(match[1])
            start = match.start(1) if start is None else start
    return _Begun(size, start)


def _is_output(path: list[tuple[str, bool]], member: str) -> bool:
    """True if what stands under this member at the end of the path is output."""
    is_within = path[-1][1] if len(path) > 1 else member in _ROOTS
    return is_within and member not in _NO_OUTPUT and not member.endswith("_id")


def _string_bytes(written: bytes) -> int:
    """Return the length of a JSON string's text in bytes; of a truncated string, the length of its escaped form."""
    text = lenient_json(b'"' + written + b'"')
    return len(text.encode(errors="surrogatepass")) if isinstance(text, str) else len(written)
