"""Decides the simulated answer to a request, before a dialect encodes it. Pure.

1. No model runs. The text says so, and how many characters the prompt had. It never repeats the prompt.
2. A token is a word of the prompt, and an event of the answer: a word, or a piece of a tool call's arguments.
3. `max_tokens`, under any of its names, cuts the answer there. The stop reason is the dialect's word for "length".
4. Any `model` is accepted. Unknown members are accepted too, and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from kyma_proxy.simulated.request_fields import BadRequest, Json, boolean, positive_int, required_messages, required_model
from kyma_proxy.simulated.tool_calls import ToolCall, choose_tool

_CHARACTERS_PER_EVENT: Final = 6  # of a tool call's arguments
_TEXT: Final = (
    "This is the simulated provider: no model ran, and nothing was spent. The prompt had {} characters. "
    "It is not repeated here. Each word of this text is one event of a stream and counts as one token."
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in no dialect yet. `pieces` are of the text, or of the arguments if `tool` is called; each is an event."""

    model: str
    pieces: tuple[str, ...]
    tool: str | None
    is_cut: bool
    prompt_tokens: int
    stream: bool
    include_usage: bool

    @property
    def text(self) -> str:
        """The whole text, or all arguments of the tool call."""
        return "".join(self.pieces)


def answer_chat(body: Json) -> Answer:
    """Returns the answer to POST /v1/chat/completions; raises BadRequest."""
    messages = required_messages(body)
    _require_one_choice(body)
    limit = positive_int(body, "max_completion_tokens") or positive_int(body, "max_tokens")
    return _answer(body, [messages], choose_tool(body, messages), limit)


def answer_completion(body: Json) -> Answer:
    """Returns the answer to POST /v1/completions; raises BadRequest."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("The simulated provider takes one prompt, as a string.", "prompt")
    _require_one_choice(body)
    return _answer(body, [prompt], None, positive_int(body, "max_tokens"))


def answer_response(body: Json) -> Answer:
    """Returns the answer to POST /v1/responses; raises BadRequest."""
    value = body.get("input")
    items = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise BadRequest("'input' must be a string or a list of items that is not empty.", "input")
    limit = positive_int(body, "max_output_tokens")
    return _answer(body, [body.get("instructions"), items], choose_tool(body, items), limit)


def answer_message(body: Json) -> Answer:
    """Returns the answer to POST /v1/messages; raises BadRequest."""
    messages = required_messages(body)
    limit = positive_int(body, "max_tokens")
    if limit is None:
        raise BadRequest("max_tokens: Field required", "max_tokens")
    return _answer(body, [body.get("system"), messages], choose_tool(body, messages), limit)


def _answer(body: Json, prompt: list[object], call: ToolCall | None, limit: int | None) -> Answer:
    texts = list(iter_texts(prompt))
    if call is None:
        words = _TEXT.format(sum(map(len, texts))).split(" ")
        pieces = (words[0], *(f" {word}" for word in words[1:]))
    else:
        starts = range(0, len(call.arguments), _CHARACTERS_PER_EVENT)
        pieces = tuple(call.arguments[at : at + _CHARACTERS_PER_EVENT] for at in starts)
    options = body.get("stream_options")
    return Answer(
        model=required_model(body),
        pieces=pieces[:limit],
        tool=call.name if call else None,
        is_cut=limit is not None and limit < len(pieces),
        prompt_tokens=count_words(texts),
        stream=boolean(body, "stream"),
        include_usage=boolean(options, "include_usage") if isinstance(options, dict) else False,
    )


def _require_one_choice(body: Json) -> None:
    if body.get("n") not in (None, 1):
        raise BadRequest("The simulated provider gives one choice: leave 'n' out or set it to 1.", "n")


def iter_texts(node: object) -> Iterator[str]:
    """Yields every text in a prompt, in any order. Images and other media have none."""
    waiting = [node]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, list):
            waiting += entry
        elif isinstance(entry, dict):
            waiting += [entry.get(name) for name in ("text", "content", "output")]


def count_words(texts: Iterable[str]) -> int:
    """Returns the number of words, which is the number of tokens: at least 1."""
    return max(1, sum(len(text.split()) for text in texts))
