"""What the simulated provider answers: a request's JSON object in, an answer's object or its events out. Pure.

1. No model runs. The text says so, and how many characters the prompt had. It never repeats the prompt.
2. A token is a word of the prompt, and an event of the answer: a word, or a piece of a tool call's arguments.
3. `max_tokens`, under any of its names, cuts the answer there, and the reason given is the dialect's word for "length".
4. A tool is called when `tool_choice` demands one or names it, or when the last message is the user's and mentions its
   name. The arguments are the least that the tool's own schema requires.
5. Any `model` is accepted. Members that are not named in this file are accepted too, and change nothing.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

Json: TypeAlias = dict[str, object]

MODEL: Final = "simulated"
_DIMENSIONS: Final = 256
_MAX_DIMENSIONS: Final = 4096
_MAX_INPUTS: Final = 2048
_ARGUMENT_PIECE: Final = 6  # characters of a tool call's arguments in one event
_PRIMITIVES: Final[dict[object, object]] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}
_TEXT: Final = (
    "This is the simulated provider: no model ran, and nothing was spent. The prompt had {} characters. "
    "It is not repeated here. Each word of this text is one event of a stream and counts as one token."
)


class BadRequest(Exception):
    """A request that a provider refuses with a 400; `param` names the member at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is going to be said, before a dialect gives it its shape."""

    model: str
    pieces: tuple[str, ...]
    tool: str | None
    is_cut: bool
    prompt_tokens: int
    stream: bool
    include_usage: bool

    @property
    def text(self) -> str:
        """The whole text, or the whole of a tool call's arguments."""
        return "".join(self.pieces)


# ------------------------------------------------------------------------------------------- reading requests


def read_chat(body: Json) -> Answer:
    """The answer to POST /v1/chat/completions; raises BadRequest."""
    messages = _messages(body)
    _one_choice(body)
    limit = _count(body, "max_completion_tokens") or _count(body, "max_tokens")
    return _answer(body, [messages], _tool_call(body, messages), limit)


def read_completion(body: Json) -> Answer:
    """The answer to POST /v1/completions; raises BadRequest."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("The simulated provider takes one prompt, as a string.", "prompt")
    _one_choice(body)
    return _answer(body, [prompt], None, _count(body, "max_tokens"))


def read_response(body: Json) -> Answer:
    """The answer to POST /v1/responses; raises BadRequest."""
    asked = body.get("input")
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise BadRequest("'input' must be a string or a list of items that is not empty.", "input")
    return _answer(body, [body.get("instructions"), items], _tool_call(body, items), _count(body, "max_output_tokens"))


def read_message(body: Json) -> Answer:
    """The answer to POST /v1/messages; raises BadRequest."""
    messages = _messages(body)
    limit = _count(body, "max_tokens")
    if limit is None:
        raise BadRequest("max_tokens: Field required", "max_tokens")
    return _answer(body, [body.get("system"), messages], _tool_call(body, messages), limit)


def _answer(body: Json, prompt: list[object], call: tuple[str, str] | None, limit: int | None) -> Answer:
    said = list(_texts(prompt))
    if call is None:
        words = _TEXT.format(sum(map(len, said))).split(" ")
        pieces = (words[0], *(f" {word}" for word in words[1:]))
    else:
        pieces = tuple(call[1][at : at + _ARGUMENT_PIECE] for at in range(0, len(call[1]), _ARGUMENT_PIECE))
    options = body.get("stream_options")
    return Answer(
        model=_model(body),
        pieces=pieces[:limit],
        tool=call[0] if call else None,
        is_cut=limit is not None and limit < len(pieces),
        prompt_tokens=_words(said),
        stream=_flag(body, "stream"),
        include_usage=_flag(options, "include_usage") if isinstance(options, dict) else False,
    )


def _model(body: Json) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("You must provide a model parameter: a string that is not empty.", "model")
    return model


def _messages(body: Json) -> list[Json]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list that is not empty.", "messages")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest("A message must be an object with a role.", f"messages.[{at}]")
    return messages


def _one_choice(body: Json) -> None:
    if body.get("n") not in (None, 1):
        raise BadRequest("The simulated provider gives one choice: leave 'n' out or set it to 1.", "n")


def _count(body: Json, name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise BadRequest(f"'{name}' must be a whole number of at least 1.", name)
    return value


def _flag(body: Json, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", name)
    return bool(value)


def _texts(node: object) -> Iterator[str]:
    """Every piece of text under a prompt, in any order; images and other media hold none."""
    waiting = [node]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, list):
            waiting += entry
        elif isinstance(entry, dict):
            waiting += [entry.get(name) for name in ("text", "content", "output")]


def _words(texts: Iterable[str]) -> int:
    return max(1, sum(len(text.split()) for text in texts))


def _tool_call(body: Json, conversation: list[Json]) -> tuple[str, str] | None:
    """The name and the arguments of the tool that is called, if one is."""
    tools = dict(_tools(body))
    choice = body.get("tool_choice")
    word, named = choice, None
    if isinstance(choice, dict):
        function = choice.get("function")
        word, named = choice.get("type"), (function if isinstance(function, dict) else choice).get("name")
    if isinstance(named, str):
        if named not in tools:
            raise BadRequest("'tool_choice' names a tool that is not in 'tools'.", "tool_choice")
        return named, tools[named]
    if not tools or word == "none":
        return None
    mention = _mention(conversation[-1])
    wanted = next((name for name in tools if name in mention), None)
    if wanted is None and word in ("required", "any"):
        wanted = next(iter(tools))
    return (wanted, tools[wanted]) if wanted is not None else None


def _tools(body: Json) -> Iterator[tuple[str, str]]:
    """Name and least arguments of each tool, in any of the three shapes; a provider's built-in tools have no name."""
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest("'tools' must be a list of objects.", "tools")
    for tool in tools:
        function = tool.get("function")
        shape = function if isinstance(function, dict) else tool
        if isinstance(name := shape.get("name"), str) and name:
            schema = shape.get("parameters") or shape.get("input_schema")
            yield name, msgspec.json.encode(_least(schema if isinstance(schema, dict) else {}, depth=0)).decode()


def _least(schema: Json, depth: int) -> object:
    """The least value that satisfies the plain part of a JSON schema: type, enum, properties, required."""
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    properties, required = schema.get("properties"), schema.get("required")
    if depth == 0 or schema.get("type") == "object":
        known = properties if isinstance(properties, dict) else {}
        names = required if isinstance(required, list) and depth < 8 else []
        return {name: _least(known[name], depth + 1) for name in names if isinstance(known.get(name), dict)}
    kind = schema.get("type")
    return _PRIMITIVES.get(kind, "simulated") if isinstance(kind, str) else "simulated"


def _mention(message: Json) -> str:
    """What the user says in a message. A tool's result is not the user's word, so it never calls the tool again."""
    content = message.get("content")
    if message.get("role") != "user":
        return ""
    blocks = content if isinstance(content, list) else [{"text": content}]
    return " ".join(text for block in blocks if isinstance(block, dict) and isinstance(text := block.get("text"), str))


# ------------------------------------------------------------------------------- chat/completions, completions


def chat_whole(answer: Answer, ident: str, now: int) -> Json:
    """A `chat.completion`."""
    message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool:
        function = {"name": answer.tool, "arguments": answer.text}
        call = {"id": f"call_{ident}", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    return _object("chat.completion", f"chatcmpl-{ident}", answer, now) | {"choices": [choice], "usage": _usage(answer)}


def chat_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """The `chat.completion.chunk`s of a stream, to `[DONE]`."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    if answer.tool:
        function = {"name": answer.tool, "arguments": ""}
        call = {"index": 0, "id": f"call_{ident}", "type": "function", "function": function}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    for piece in answer.pieces:
        more = {"index": 0, "function": {"arguments": piece}}
        deltas.append({"tool_calls": [more]} if answer.tool else {"content": piece})
    choices: list[Json] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish(answer)})
    yield from _chunks(answer, _object("chat.completion.chunk", f"chatcmpl-{ident}", answer, now), choices)


def completion_whole(answer: Answer, ident: str, now: int) -> Json:
    """A `text_completion`."""
    choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": _finish(answer)}
    return _object("text_completion", f"cmpl-{ident}", answer, now) | {"choices": [choice], "usage": _usage(answer)}


def completion_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """The pieces of a streamed `text_completion`, to `[DONE]`."""
    ends: list[tuple[str, str | None]] = [*((piece, None) for piece in answer.pieces), ("", _finish(answer))]
    choices: list[Json] = [{"index": 0, "text": text, "logprobs": None, "finish_reason": end} for text, end in ends]
    yield from _chunks(answer, _object("text_completion", f"cmpl-{ident}", answer, now), choices)


def _object(kind: str, ident: str, answer: Answer, now: int) -> Json:
    return {"id": ident, "object": kind, "created": now, "model": answer.model, "system_fingerprint": "simulated"}


def _chunks(answer: Answer, head: Json, choices: Iterable[Json]) -> Iterator[bytes]:
    """One event a choice; the usage, if asked for, in an event of its own that has no choice."""
    for choice in choices:
        yield _event(head | {"choices": [choice]} | ({"usage": None} if answer.include_usage else {}))
    if answer.include_usage:
        yield _event(head | {"choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _finish(answer: Answer) -> str:
    if answer.is_cut:
        return "length"
    return "tool_calls" if answer.tool else "stop"


def _usage(answer: Answer) -> Json:
    said = len(answer.pieces)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": answer.prompt_tokens + said,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _event(payload: Json, name: str | None = None) -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + msgspec.json.encode(payload) + b"\n\n"


# ------------------------------------------------------------------------------------------------- responses


def response_whole(answer: Answer, ident: str, now: int) -> Json:
    """A `response` that is over."""
    usage = {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(answer.pieces),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.prompt_tokens + len(answer.pieces),
    }
    status = "incomplete" if answer.is_cut else "completed"
    reason = {"reason": "max_output_tokens"} if answer.is_cut else None
    over = {"status": status, "incomplete_details": reason, "usage": usage}
    return _response(answer, ident, now) | over | {"output": [_item(answer, ident, answer.text, status)]}


def response_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """The events of a streamed response, from `response.created` to `response.completed` or `response.incomplete`."""
    whole = response_whole(answer, ident, now)
    started: Json = {"response": _response(answer, ident, now)}
    payloads: list[tuple[str, Json]] = [("created", started), ("in_progress", started)]
    payloads += _item_events(answer, ident, str(whole["status"]))
    payloads.append((str(whole["status"]), {"response": whole}))
    for at, (name, payload) in enumerate(payloads):
        kind = f"response.{name}"
        yield _event({"type": kind, "sequence_number": at, **payload}, kind)


def _response(answer: Answer, ident: str, now: int) -> Json:
    return {
        "id": f"resp_{ident}",
        "object": "response",
        "created_at": now,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _item(answer: Answer, ident: str, text: str | None, status: str) -> Json:
    """The one output item; without a text it is that which a stream opens with."""
    if answer.tool:
        call = {"call_id": f"call_{ident}", "name": answer.tool, "arguments": text or ""}
        return {"id": f"fc_{ident}", "type": "function_call", "status": status, **call}
    content = [] if text is None else [_part(text)]
    return {"id": f"msg_{ident}", "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item_events(answer: Answer, ident: str, status: str) -> Iterator[tuple[str, Json]]:
    place: Json = {"item_id": f"fc_{ident}" if answer.tool else f"msg_{ident}", "output_index": 0}
    yield "output_item.added", {"output_index": 0, "item": _item(answer, ident, None, "in_progress")}
    if answer.tool:
        for piece in answer.pieces:
            yield "function_call_arguments.delta", {**place, "delta": piece}
        yield "function_call_arguments.done", {**place, "name": answer.tool, "arguments": answer.text}
    else:
        place |= {"content_index": 0}
        yield "content_part.added", {**place, "part": _part("")}
        for piece in answer.pieces:
            yield "output_text.delta", {**place, "delta": piece, "logprobs": []}
        yield "output_text.done", {**place, "text": answer.text, "logprobs": []}
        yield "content_part.done", {**place, "part": _part(answer.text)}
    yield "output_item.done", {"output_index": 0, "item": _item(answer, ident, answer.text, status)}


# -------------------------------------------------------------------------------------------------- messages


def message_whole(answer: Answer, ident: str) -> Json:
    """An Anthropic `message`."""
    block: Json = {"type": "text", "text": answer.text}
    if answer.tool:
        arguments = {} if answer.is_cut else msgspec.json.decode(answer.text)
        block = {"type": "tool_use", "id": f"toolu_{ident}", "name": answer.tool, "input": arguments}
    usage = {"input_tokens": answer.prompt_tokens, "output_tokens": len(answer.pieces)}
    return _message(answer, ident) | {"content": [block], "stop_reason": _stop(answer), "usage": usage}


def message_events(answer: Answer, ident: str) -> Iterator[bytes]:
    """The events of a streamed message, from `message_start` to `message_stop`."""
    block: Json = {"type": "text", "text": ""}
    deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in answer.pieces]
    if answer.tool:
        block = {"type": "tool_use", "id": f"toolu_{ident}", "name": answer.tool, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in answer.pieces]
    payloads: list[Json] = [
        {"type": "message_start", "message": _message(answer, ident)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": _stop(answer), "stop_sequence": None},
            "usage": {"output_tokens": len(answer.pieces)},
        },
        {"type": "message_stop"},
    ]
    for payload in payloads:
        yield _event(payload, str(payload["type"]))


def count_tokens(body: Json) -> Json:
    """What POST /v1/messages/count_tokens says: the words of the prompt. Raises BadRequest."""
    _model(body)
    return {"input_tokens": _words(_texts([body.get("system"), _messages(body)]))}


def _message(answer: Answer, ident: str) -> Json:
    return {
        "id": f"msg_{ident}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": answer.prompt_tokens, "output_tokens": 0},
    }


def _stop(answer: Answer) -> str:
    if answer.is_cut:
        return "max_tokens"
    return "tool_use" if answer.tool else "end_turn"


# -------------------------------------------------------------------------------------- embeddings and models


def embeddings(body: Json) -> Json:
    """A list of unit vectors, each a function of its input alone; raises BadRequest."""
    model, inputs = _model(body), _inputs(body.get("input"))
    dimensions = _count(body, "dimensions") or _DIMENSIONS
    if dimensions > _MAX_DIMENSIONS:
        raise BadRequest(f"'dimensions' must be at most {_MAX_DIMENSIONS}.", "dimensions")
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadRequest("'encoding_format' must be float or base64.", "encoding_format")
    data = []
    for at, entry in enumerate(inputs):
        packed = _unit_vector(entry, dimensions)
        vector = base64.b64encode(packed).decode() if encoding == "base64" else struct.unpack(f"<{dimensions}f", packed)
        data.append({"object": "embedding", "index": at, "embedding": vector})
    tokens = sum(len(entry.split()) if isinstance(entry, str) else len(entry) for entry in inputs)
    return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _inputs(asked: object) -> list[str | list[int]]:
    """A text, a list of tokens, or a list of either: always as a list."""
    inputs: list[Any] = asked if isinstance(asked, list) and not _is_tokens(asked) else [asked]
    for entry in inputs:
        if not (_is_tokens(entry) or (isinstance(entry, str) and entry)):
            raise BadRequest("'input' must be a text or a list of tokens, or a list of either, none empty.", "input")
    if not 0 < len(inputs) <= _MAX_INPUTS:
        raise BadRequest(f"'input' must hold 1 to {_MAX_INPUTS} entries.", "input")
    return inputs


def _is_tokens(entry: object) -> bool:
    return isinstance(entry, list) and bool(entry) and all(type(token) is int for token in entry)


def _unit_vector(entry: str | list[int], dimensions: int) -> bytes:
    """Little-endian float32s of length 1 together, drawn from the entry's own hash."""
    drawn = hashlib.shake_256(repr(entry).encode()).digest(2 * dimensions)
    values = [value - 32767.5 for value in struct.unpack(f"<{dimensions}H", drawn)]
    length = math.sqrt(math.fsum(value * value for value in values))
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))


def models(*, anthropic: bool) -> Json:
    """The one model that is listed, in the shape of the dialect."""
    if anthropic:
        entry: Json = {"type": "model", "id": MODEL, "display_name": "Simulated", "created_at": "2026-01-01T00:00:00Z"}
        return {"data": [entry], "first_id": MODEL, "last_id": MODEL, "has_more": False}
    entry = {"id": MODEL, "object": "model", "created": 1767225600, "owned_by": "simulated"}
    return {"object": "list", "data": [entry]}
