"""Reads the fields that routing needs from a request body, and replaces one value in it. (Contract §3.1–3.4.)

The bytes stay the caller's: nothing is decoded and encoded again. msgspec checks that the whole body is one JSON
object, and gives the text of every member. The place of each member is then computed from lengths, or found by a walk over the
top level that steps over each value by the length of its text. The walk is itself a parse: each step is compared with the
bytes, and JSON's grammar is unambiguous, so a member that is there twice can't hide. Bodies as the SDKs and as Python write
them need no search.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, Final

import msgspec

from kyma_proxy.core.accounts.estimate import answers_asked, check_copies, prompts_asked
from kyma_proxy.core.accounts.extras import Extras, asked_extras
from kyma_proxy.core.http.large_body import LARGE_BYTES, MAX_MEMBERS, check_members, large_members
from kyma_proxy.core.http.member_set import MemberSet, member_set
from kyma_proxy.errors import GatewayError, Kind

_SPACE: Final = rb"[ \t\r\n]{0,1048576}+"
_MEMBER: Final = re.compile(_SPACE + rb"[{,]" + _SPACE + rb'"((?:[^"\\]|\\.)*+)"' + _SPACE + rb":" + _SPACE)
_END: Final = re.compile(_SPACE + rb"\}" + _SPACE)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode
_anything: Final = msgspec.json.Decoder(msgspec.Raw).decode
_FEW_BYTES: Final = 5 * MAX_MEMBERS  # a body of no more can't have as many: a member takes six bytes, one may take five
_MUCH_SPACE: Final = re.compile(rb"[ \t\r\n]{1048576}")
_SPACED_BYTES: Final = 2**22  # in so many there are no three runs of white space that pass
_MAX_MODEL_CHARACTERS: Final = 256
_MAX_MODEL_BYTES: Final = 12 * _MAX_MODEL_CHARACTERS + 2  # each character as two escapes
_COPIES: Final = ("n", "best_of")
_FEW_TO_COPY: Final = 16_384  # bytes that are copied sooner than looked at one member after the other
NO_OPTIONS: Final = (b"", b"null")
"""The texts of `stream_options` that set none."""


class MeteredFields:
    """The fields that metering needs, as texts of JSON values; b"" and () if the caller sent none.

    `max_tokens` are the most tokens of an answer, under each of the names, and `copies` how many answers it wants, to all its
    prompts. At `responses` `max_output_tokens` counts instead, which the other endpoints do not know. `extras` is there if the
    request asks for more than tokens.
    """

    __slots__ = ("copies", "extras", "max_output_tokens", "max_tokens", "stream", "stream_options")

    def __init__(  # noqa: PLR0917
        self, stream: bytes, stream_options: bytes, max_tokens: tuple[bytes, ...], copies: tuple[bytes, ...],
        extras: Extras | None = None, max_output_tokens: tuple[bytes, ...] = (),
    ) -> None:  # fmt: skip
        self.stream = stream
        self.stream_options = stream_options
        self.max_tokens = max_tokens
        self.copies = copies
        self.extras = extras
        self.max_output_tokens = max_output_tokens

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MeteredFields) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of: compiled, nothing else is known of it."""
        return MeteredFields, self._all()

    def _all(self) -> tuple[object, ...]:
        return self.stream, self.stream_options, self.max_tokens, self.copies, self.extras, self.max_output_tokens


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: msgspec.Raw = msgspec.Raw(b"")


_stream_options: Final = msgspec.json.Decoder(_StreamOptions).decode


class RoutingFields:
    """The fields of a body that routing needs; `start` and `end` enclose the value of `model`.

    `shape` is the key of the endpoint that alone takes a body with such members, "" if several do.
    `written` is there if the request is metered; or, with `stream_options` alone, if streams are asked for their usage.
    """

    __slots__ = ("end", "has_max_tokens", "model", "shape", "start", "streams", "written")

    def __init__(  # noqa: PLR0917
        self,
        model: str,
        start: int,
        end: int,
        streams: bool,
        has_max_tokens: bool,
        written: MeteredFields | None = None,
        shape: str = "",
    ) -> None:
        self.model = model
        self.start = start
        self.end = end
        self.streams = streams
        self.has_max_tokens = has_max_tokens
        self.written = written
        self.shape = shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RoutingFields) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of: compiled, nothing else is known of it."""
        return RoutingFields, self._all()

    def _all(self) -> tuple[object, ...]:
        return self.model, self.start, self.end, self.streams, self.has_max_tokens, self.written, self.shape


def read_routing_fields(body: bytes, *, is_metered: bool = False, asks_usage: bool = False) -> RoutingFields:
    """The routing fields of a body. Raises GatewayError for anything but one JSON object with a string `model`."""
    if len(body) > LARGE_BYTES:
        steps = reading_routing_fields(body, is_metered=is_metered, asks_usage=asks_usage)
        try:
            while True:
                next(steps)
        except StopIteration as done:
            fields: RoutingFields = done.value
            return fields
    try:
        members = _members(body)
    except Exception as error:
        raise _unreadable(body, error) from None
    if len(body) > _FEW_BYTES:
        check_members(members)
    names = member_set(members)
    name = _model(members)
    start, end = _place(body, members, names) or _step(body, members) or _walk(body, members)
    return _fields(name, start, end, members, names, is_metered=is_metered, asks_usage=asks_usage)


def reading_routing_fields(body: bytes, *, is_metered: bool, asks_usage: bool = False) -> Generator[None, None, RoutingFields]:
    """Read the routing fields of a large body as `read_routing_fields` does, in slices."""
    try:
        members = yield from large_members(body)
    except Exception as error:
        raise _unreadable(body, error) from None
    names = member_set(members)
    if "model" in members and memoryview(members["model"]).nbytes > _MAX_MODEL_BYTES:
        raise _unfit_model()
    name = _model(members)
    yield
    place = _measure(body, members) or _step(body, members)
    if place is None:
        yield
        place = _walk(body, members)
    yield
    return _fields(name, place[0], place[1], members, names, is_metered=is_metered, asks_usage=asks_usage)


def _unreadable(body: bytes, error: Exception) -> Exception:
    """The error for a body that can't be read, from the error of its reading."""
    if isinstance(error, msgspec.ValidationError):
        return GatewayError(Kind.INVALID_REQUEST, "The body must be one JSON object.")
    if isinstance(error, msgspec.DecodeError):
        return GatewayError(Kind.INVALID_JSON, f"The body is not valid JSON: {_reason(body, error)}.")
    if isinstance(error, UnicodeDecodeError):
        return _not_utf_8()
    if isinstance(error, RecursionError):
        return GatewayError(Kind.INVALID_JSON, "The body is nested too deeply.")
    return error


def _model(members: dict[str, msgspec.Raw]) -> str:
    """The model that a body names. Raises GatewayError if there is none."""
    model = members.get("model")
    if model is None:
        raise GatewayError(Kind.INVALID_REQUEST, "The body has no `model`; GET /v1/models lists them.", param="model")
    try:
        name = _text(model)
    except UnicodeDecodeError:
        raise _not_utf_8() from None
    except msgspec.MsgspecError:
        raise GatewayError(Kind.INVALID_REQUEST, "`model` must be a string.", param="model") from None
    if not 0 < len(name) <= _MAX_MODEL_CHARACTERS:
        raise _unfit_model()
    return name


def _unfit_model() -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"`model` must have 1 to {_MAX_MODEL_CHARACTERS} characters.", param="model")


def _fields(
    name: str, start: int, end: int, members: dict[str, msgspec.Raw], names: MemberSet, *, is_metered: bool, asks_usage: bool
) -> RoutingFields:
    return RoutingFields(
        name,
        start,
        end,
        names.has_stream and bytes(members["stream"]) == b"true",
        bool(names.max_tokens),
        _written(members, names) if is_metered else _options(members) if asks_usage else None,
        names.shape,
    )


def _written(members: dict[str, msgspec.Raw], names: MemberSet) -> MeteredFields:
    return MeteredFields(
        bytes(members["stream"]) if names.has_stream else b"",
        bytes(members["stream_options"]) if names.has_stream_options else b"",
        tuple([bytes(members[name]) for name in names.max_tokens]),
        _copies(members) if names.has_copies else (),
        asked_extras(members) if names.is_costly else None,
        (bytes(members["max_output_tokens"]),) if names.has_max_output_tokens else (),
    )


def _options(members: dict[str, msgspec.Raw]) -> MeteredFields:
    return MeteredFields(b"", bytes(members["stream_options"]) if "stream_options" in members else b"", (), ())


def _copies(members: dict[str, msgspec.Raw]) -> tuple[bytes, ...]:
    """The number of answers that the caller wants, as `n` and `best_of` say it; of each prompt, where it sends several.

    Raises GatewayError if that is no number of answers.
    """
    copies = tuple([bytes(members[name]) for name in _COPIES if name in members])
    for name in _COPIES:
        if name in members:
            check_copies(name, bytes(members[name]))
    prompts = prompts_asked(bytes(members["prompt"])) if "prompt" in members else 1
    return copies if prompts == 1 else (b"%d" % (prompts * answers_asked(copies)),)


def includes_usage(stream_options: bytes) -> bool:
    """True if these options ask for a stream's usage."""
    try:
        return bytes(_stream_options(stream_options).include_usage) == b"true"
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


def is_json(body: bytes) -> bool:
    """True if these bytes are one whole JSON value."""
    try:
        _anything(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def replaced(body: bytes, head: RoutingFields, name: str, value: bytes) -> tuple[bytes, RoutingFields]:
    """The body with another value for a member of it that is not `model`, and its routing fields."""
    members = _members(body)
    start, end = _walk(body, members, name)
    moved = len(value) - (end - start) if start < head.start else 0
    fields = RoutingFields(
        head.model, head.start + moved, head.end + moved, head.streams, head.has_max_tokens, head.written, head.shape
    )  # fmt: skip
    return b"".join((memoryview(body)[:start], value, memoryview(body)[end:])), fields


def check_once(text: bytes) -> None:
    """Raises GatewayError if a member of this valid JSON object is there twice."""
    members = _members(text)
    if _measure(text, members) is None and _step(text, members) is None:
        _walk(text, members)


def absent_members(body: bytes, members: tuple[tuple[str, bytes], ...]) -> bytes:
    """The texts of those members, by their names, that this JSON object does not have.

    Most bodies do not have the name anywhere, in any spelling; only the others are read once more.
    """
    if body.find(b"\\u") < 0 and not any(body.find(b'"%b"' % name.encode()) >= 0 for name, _ in members):
        return b"".join([text for _, text in members])
    present = _members(body)
    return b"".join([text for name, text in members if name not in present])


def with_members(body: bytes, members: tuple[tuple[str, bytes], ...]) -> bytes:
    """The JSON object, which is not empty, with those of these members that it does not have."""
    brace = body.index(b"{") + 1
    return b"".join((body[:brace], absent_members(body, members), body[brace:]))


def patched(body: bytes, head: RoutingFields, model_json: bytes, insertion: bytes) -> list[bytes | memoryview]:
    """The body in pieces, with `model` replaced and `insertion` (members, each with its comma) after the brace.

    Large bodies are not copied: the pieces are views of the caller's bytes.
    """
    if len(body) <= 16_384:
        if not insertion:
            return [body[: head.start] + model_json + body[head.end :]]
        brace = body.index(b"{") + 1
        return [b"".join((body[:brace], insertion, body[brace : head.start], model_json, body[head.end :]))]
    view = memoryview(body)
    brace = body.index(b"{") + 1
    return [b"".join((view[:brace], insertion)), view[brace : head.start], model_json, view[head.end :]]


def _measure(body: bytes, members: dict[str, msgspec.Raw]) -> tuple[int, int] | None:
    """The place of the value of `model` in a body without white space, as the SDKs send them; else None.

    The sum of the members' lengths is the least that they can take. A body of exactly that size holds nothing else, neither
    white space nor a member twice, so every member's place follows from the lengths.
    """
    position = 1
    found = (0, 0)
    for name, value in members.items():
        position += len(name) + 3
        length = memoryview(value).nbytes
        if name == "model":
            found = (position, position + length)
        position += length + 1
    return found if position == len(body) else None


def _place(body: bytes, members: dict[str, msgspec.Raw], names: MemberSet) -> tuple[int, int] | None:
    """The same as `_measure`, of a body that is small enough to copy its values: joined, they are measured at once."""
    if len(body) > _FEW_TO_COPY:
        return _measure(body, members)
    values = list(members.values())
    if names.bytes_beside + len(b"".join(values)) != len(body):
        return None
    start = names.bytes_before
    if names.model_at:
        start += len(b"".join(values[: names.model_at]))
    return start, start + len(bytes(values[names.model_at]))


def _step(body: bytes, members: dict[str, msgspec.Raw]) -> tuple[int, int] | None:
    """The place of the value of `model` in a body with a space after each comma and colon, as Python writes it; else None.

    This walk needs no search: the next member is known, and so is what must stand before it.
    """
    position = 1
    found = (0, 0)
    for name, raw in members.items():
        before = b'"%b": ' % name.encode() if position == 1 else b', "%b": ' % name.encode()
        value = bytes(raw)
        if not body.startswith(before, position) or not body.startswith(value, position + len(before)):
            return None
        position += len(before)
        if name == "model":
            found = (position, position + len(value))
        position += len(value)
    return found if position == len(body) - 1 and body.startswith(b"{") else None


def _walk(body: bytes, members: dict[str, msgspec.Raw], wanted: str = "model") -> tuple[int, int]:
    """The place of the value of `model`, or another member, in any body. Raises GatewayError if a member is there twice."""
    position = 0
    found = (0, 0)
    seen = set()
    while (match := _MEMBER.match(body, position)) is not None:
        key = match[1]
        name = key.decode() if b"\\" not in key else _text(b'"' + key + b'"')
        value = bytes(members[name]) if name in members and name not in seen else None
        start, position = position, match.end()
        if value is None or not body.startswith(value, position):
            raise _twice_or_spaced(body, start)
        seen.add(name)
        if name == wanted:
            found = (position, position + len(value))
        position += len(value)
    if _END.fullmatch(body, position) is None:
        raise _twice_or_spaced(body, position)
    return found


def _twice_or_spaced(body: bytes, position: int) -> GatewayError:
    """The error for a body that can't be walked beyond a position."""
    if _MUCH_SPACE.search(body, position, position + _SPACED_BYTES) is not None:
        return GatewayError(Kind.INVALID_REQUEST, "The body has a MiB of white space between two of its members; send less.")
    return GatewayError(Kind.INVALID_JSON, "The body contains the same member twice; send it once.")


def _not_utf_8() -> GatewayError:
    return GatewayError(Kind.INVALID_JSON, "The body is not valid JSON: it is not UTF-8.")


def _reason(body: bytes, error: msgspec.DecodeError) -> str:
    """msgspec's words for malformed JSON; they name a byte's place and never quote the body."""
    words = str(error).removeprefix("JSON is malformed: ").lower()
    if "truncated" in words and body.rstrip().endswith(b"}"):
        return "it ends too early, or holds half of a surrogate pair such as \\ud83d alone"
    return words
