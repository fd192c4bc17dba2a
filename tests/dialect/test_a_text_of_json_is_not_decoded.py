"""JSON that stands in a text, as the arguments of a tool call do, is stepped over: nothing is made of the values in it.

The count of a body's values does not look into texts, so two million of them may pass it.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

import pytest

from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic

MANY = 100_000
DENSE = {
    "objects": '{"a":[' + "{}," * MANY + "0]}",
    "members": "{" + ",".join([f'"{at}":0' for at in range(MANY)]) + "}",
    "texts": '{"a":[' + '"b",' * MANY + "0]}",
    "cut off": '{"a":[' + "{}," * MANY,
    "a list": "[" + "[]," * MANY + "0]",
}


@pytest.fixture(scope="module")
def strict_reader() -> None:
    """Nobody reads what is made here: it takes the memory that is measured."""


QUESTION = {"role": "user", "content": "hi"}


def tool_call(arguments: str) -> dict[str, object]:
    return {
        "role": "assistant",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}],
    }


def a_request(arguments: str) -> bytes:
    """A request of a caller of OpenAI's dialect, for Anthropic."""
    body = json.dumps({"model": "m", "messages": [QUESTION, tool_call(arguments)]}).encode()
    return OpenAIToAnthropic(body, "claude-sonnet-4-5", public_model="m", default_max_tokens=None, created=1).request.body


def an_answer(arguments: str) -> bytes:
    """An answer of OpenAI's dialect, for a caller of Anthropic's."""
    body = json.dumps({"choices": [{"message": tool_call(arguments), "finish_reason": "tool_calls"}]}).encode()
    return (
        AnthropicToOpenAI(json.dumps({"model": "m", "max_tokens": 5, "messages": [QUESTION]}).encode(), "s", public_model="m")
        .answer(200, body)
        .body
    )


def a_stream(arguments: str) -> bytes:
    """The same answer as a stream, as one event."""
    delta = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]}
    event = json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()
    made = AnthropicToOpenAI(
        json.dumps({"model": "m", "max_tokens": 5, "messages": [QUESTION]}).encode(), "s", public_model="m"
    )
    return made.stream().feed(b"data: %b\n\n" % event)


def peak_of(translate: Callable[[str], bytes], arguments: str) -> int:
    """The most bytes that the translation takes at a time."""
    translate("{}")
    tracemalloc.start()
    try:
        assert len(translate(arguments)) > len(arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("translate", [a_request, an_answer, a_stream])
def test_no_object_is_made_for_a_value_in_the_arguments_of_a_call(translate: Callable[[str], bytes], kind: str) -> None:
    dense = DENSE[kind]
    plain = ('{"a":"%s"}' if dense.endswith("}") else "[%s") % ("b" * len(dense))
    assert peak_of(translate, dense) < 1.5 * peak_of(translate, plain) + 100_000


@pytest.mark.parametrize("kind", ["objects", "members", "texts"])
def test_the_arguments_are_the_same_afterwards(kind: str) -> None:
    document = json.loads(a_request(DENSE[kind]))
    assert document["messages"][1]["content"][0]["input"] == json.loads(DENSE[kind])
    assert json.loads(an_answer(DENSE[kind]))["content"][0]["input"] == json.loads(DENSE[kind])
