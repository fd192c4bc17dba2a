"""Reads answers as strictly as the official schemas allow: by the types of the `openai` and `anthropic` packages.

These types leave out what may be absent and what may be null alike, but their members stand in a fixed order: first those that
the schema requires, by name, then the others. So a member that may be null is required if it stands among the first. What a
schema does not know is an error too, unless it is one of the extensions that are listed here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import anthropic.types
import openai.types.chat
import openai.types.responses
from pydantic import BaseModel, TypeAdapter, ValidationError

Json = dict[str, Any]
_EXTENSIONS: dict[str, frozenset[str]] = {
    "ChatCompletionMessage": frozenset({"reasoning_content", "thinking_blocks"}),
    "ChoiceDelta": frozenset({"reasoning_content", "thinking_blocks"}),
    "Response": frozenset({"store"}),  # these two are sent by OpenAI
    "ResponseCustomToolCall": frozenset({"status"}),
    "ResponseFunctionCallArgumentsDoneEvent": frozenset({"name"}),  # earlier packages demand it
}
"""What is known beside the schema, by the names of the types: thoughts, as other servers and clients have them."""
_ALSO_REQUIRED = {"Response": frozenset({"top_p"})}
_FAILURES = frozenset({"context_length_exceeded", "server_is_overloaded"})
"""Codes of failed responses that OpenAI sends and Codex knows, and that the schema leaves out."""
_READERS: dict[str, TypeAdapter[Any]] = {
    "chat.completion": TypeAdapter(openai.types.chat.ChatCompletion),
    "chat.completion.chunk": TypeAdapter(openai.types.chat.ChatCompletionChunk),
    "response": TypeAdapter(openai.types.responses.Response),
    "text_completion": TypeAdapter(openai.types.Completion),
    "message": TypeAdapter(anthropic.types.Message),
}
_RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(openai.types.responses.ResponseStreamEvent)
_MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)


@functools.cache
def required_members(kind: type[BaseModel]) -> frozenset[str]:
    """The members that the schema of this type requires, null or not."""
    fields = list(kind.model_fields.items())
    plain = {name for name, field in fields if field.is_required()}
    names = [name for name, _ in fields]
    end, last = 0, ""
    for name in names:
        if name < last:
            break
        last = "" if name == "id" else name
        end += 1
    if kind.__module__.startswith("openai"):  # whose optional members can follow in the same order
        while end and names[end - 1] not in plain:
            end -= 1
    return frozenset({*names[:end], *plain}) | _ALSO_REQUIRED.get(kind.__name__, frozenset())


def problems_of(document: Json) -> list[str]:
    """What is wrong with an answer, or with an event of a stream, of any dialect."""
    if document.get("type") in ("error", "ping") or ("error" in document and "object" not in document):
        return []  # errors have no schema of their own, and pings no members
    kind = document.get("object")
    if isinstance(kind, str):
        reader = _READERS[kind]
    elif document.get("type") == "message":
        reader = _READERS["message"]
    elif isinstance(document.get("sequence_number"), int):
        reader = _RESPONSE_EVENT
    else:
        reader = _MESSAGE_EVENT
    try:
        read = reader.validate_python(_known(document), strict=True)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return [*_problems(read, "")]


def check(document: Json) -> None:
    """Fails for an answer, or an event, that a strict reader would not take."""
    problems = problems_of(document)
    assert not problems, f"{problems} in {document}"


def _known(document: Json) -> Json:
    """The same as the schema knows it, where OpenAI itself sends something else: a code, or no reason yet."""
    if document.get("object") == "text_completion":
        choices = [{**one, "finish_reason": one["finish_reason"] or "stop"} for one in document["choices"]]
        return document | {"choices": choices}
    response = document.get("response")
    if isinstance(response, dict) and isinstance(response.get("error"), dict) and response["error"]["code"] in _FAILURES:
        return document | {"response": response | {"error": response["error"] | {"code": "server_error"}}}
    return document


def _problems(value: object, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _problems(one, f"{path}[{index}]")
    if not isinstance(value, BaseModel):
        return
    kind = type(value)
    missing = required_members(kind) - value.model_fields_set
    yield from (f"{path}: {kind.__name__} has no {name}" for name in sorted(missing))
    extra = set(value.model_extra or ()) - _EXTENSIONS.get(kind.__name__, frozenset())
    yield from (f"{path}: {kind.__name__} knows no {name}" for name in sorted(extra))
    for name in value.model_fields_set & set(kind.model_fields):
        yield from _problems(getattr(value, name), f"{path}.{name}")
