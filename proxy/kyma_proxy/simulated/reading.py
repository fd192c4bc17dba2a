"""What the simulated provider makes of a request, before a dialect gives the answer its shape. Pure.

1. No model runs. The text says so, and how many characters the prompt had. It never repeats the prompt.
2. A token is a word of the prompt, and an event of the answer: a word, or a piece of a tool call's arguments.
3. `max_tokens`, under any of its names, cuts the answer there, and the reason given is the dialect's word for "length".
4. A tool is called when `tool_choice` demands one or names it, or when the last message is the user's and mentions its
   name. The arguments are the least that the tool's own schema requires.
5. Any `model` is accepted. Members that are not named in this file are accepted too, and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

Json: TypeAlias = dict[str, object]

MODEL: Final = "simulated"
IMAGE_MODEL: Final = "simulated-image"
_ARGUMENT_PIECE: Final = 6  # characters of a tool call's arguments in one event
_PRIMITIVES: Final[dict[object, object]] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}
_TEXT: Final = (
    "This is the simulated provider: no model ran, and nothing was spent. The prompt had {} characters. "
    "It is not repeated here. Each word of this text is one event of a stream and counts as one token."
)


class BadRequest(Exception):
    """A request that a provider refuses; `param` names the member at fault, `kind` the fault where a dialect names it."""

    def __init__(self, message: str, param: str | None = None, kind: str = "value_error") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.kind = kind


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


def read_chat(body: Json) -> Answer:
    """The answer to POST /v1/chat/completions; raises BadRequest."""
    messages = messages_of(body)
    _one_choice(body)
    limit = count_of(body, "max_completion_tokens") or count_of(body, "max_tokens")
    return _answer(body, [messages], _tool_call(body, messages), limit)


def read_completion(body: Json) -> Answer:
    """The answer to POST /v1/completions; raises BadRequest."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("The simulated provider takes one prompt, as a string.", "prompt")
    _one_choice(body)
    return _answer(body, [prompt], None, count_of(body, "max_tokens"))


def read_response(body: Json) -> Answer:
    """The answer to POST /v1/responses; raises BadRequest."""
    asked = body.get("input")
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise BadRequest("'input' must be a string or a list of items that is not empty.", "input")
    return _answer(body, [body.get("instructions"), items], _tool_call(body, items), count_of(body, "max_output_tokens"))


def read_message(body: Json) -> Answer:
    """The answer to POST /v1/messages; raises BadRequest."""
    messages = messages_of(body)
    limit = count_of(body, "max_tokens")
    if limit is None:
        raise BadRequest("max_tokens: Field required", "max_tokens")
    return _answer(body, [body.get("system"), messages], _tool_call(body, messages), limit)


def _answer(body: Json, prompt: list[object], call: tuple[str, str] | None, limit: int | None) -> Answer:
    said = list(texts_of(prompt))
    if call is None:
        words = _TEXT.format(sum(map(len, said))).split(" ")
        pieces = (words[0], *(f" {word}" for word in words[1:]))
    else:
        pieces = tuple(call[1][at : at + _ARGUMENT_PIECE] for at in range(0, len(call[1]), _ARGUMENT_PIECE))
    options = body.get("stream_options")
    return Answer(
        model=model_of(body),
        pieces=pieces[:limit],
        tool=call[0] if call else None,
        is_cut=limit is not None and limit < len(pieces),
        prompt_tokens=words_in(said),
        stream=_flag(body, "stream"),
        include_usage=_flag(options, "include_usage") if isinstance(options, dict) else False,
    )


def model_of(body: Json) -> str:
    """The model that is asked for; raises BadRequest."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("You must provide a model parameter: a string that is not empty.", "model")
    return model


def messages_of(body: Json) -> list[Json]:
    """The conversation, each message an object with a role; raises BadRequest."""
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


def count_of(body: Json, name: str) -> int | None:
    """A whole number of at least 1, or None where it is not given; raises BadRequest."""
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise BadRequest(f"'{name}' must be a whole number of at least 1.", name)
    return value


def _flag(body: Json, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", name)
    return bool(value)


def texts_of(node: object) -> Iterator[str]:
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


def words_in(texts: Iterable[str]) -> int:
    """How many words, which is how many tokens; at least one."""
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


def event(payload: Json, name: str | None = None) -> bytes:
    """A server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + msgspec.json.encode(payload) + b"\n\n"
