"""However an answer is written, to read it takes time and memory in proportion to its size; what is too dense is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kyma_proxy.dialect.answers.document import member_near_end
from kyma_proxy.dialect.answers.usage import updated
from kyma_proxy.dialect.anthropic_to_openai.stream import MessageStream
from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.dialect.density import MAX_ITEMS, MAX_OBJECTS, is_too_dense
from kyma_proxy.dialect.openai_to_anthropic.answer import AnswerOptions
from kyma_proxy.dialect.openai_to_anthropic.stream import ChunkStream
from kyma_proxy.dialect.sse import MAX_EVENT_BYTES, SseParser, encode_event, last_boundary
from kyma_proxy.dialect.usage_filter import UsageFilter
from tests.behaviour.translation import ask
from tests.harness import DONE, LAST_CHUNK, both, chunk, event, head, whole

CALLS = b'{"choices":[{"message":{"tool_calls":[' + b"{}," * MAX_OBJECTS + b'{}]},"finish_reason":"stop"}]}'
BLOCKS = b'{"type":"message","content":[' + b'{"type":"z"},' * MAX_OBJECTS + b'{"type":"z"}]}'


@pytest.mark.parametrize(
    ("text", "dense"),
    [
        (b"[" + b"{}," * MAX_OBJECTS + b"{}]", True),
        (b"[" * (MAX_OBJECTS + 1), True),
        (b"[" + b"1," * (MAX_ITEMS + 1) + b"1]", True),
        (b"[" + b'"",' * (MAX_ITEMS + 1) + b"1]", True),
        (b'["' + b"{[,\\" * 300_000 + b'\\"]', False),
        (b'["' + b'\\"{[,' * 300_000 + b'"]', False),
        (b'["' + b'\\"{[,' * 300_000, False),
        (b"[" + b"1," * 1000 + b"1]", False),
    ],
)
def test_only_values_make_a_text_dense_and_not_what_a_string_holds(text: bytes, dense: bool) -> None:
    assert is_too_dense(text) is dense


@pytest.mark.parametrize(("source", "body"), [("openai", CALLS), ("anthropic", BLOCKS)])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_dense_answer_is_none(tmp_path: Path, source: str, body: bytes, stream: bool) -> None:
    async with both(tmp_path, dialect=source) as (gateway, provider):
        provider.plays(whole(body))
        client = await gateway.client()
        ask(client, "anthropic" if source == "openai" else "openai", stream=stream)
        assert (await client.answer()).status == 502
        (attempt,) = (await gateway.records())[0]["attempts"]
        assert "no_answer" in attempt


async def test_a_stream_becomes_a_whole_answer_while_it_comes(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        text = "".join(f"{number} " for number in range(3000))
        body = b"".join([event(f"{number} ") for number in range(3000)])
        end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
        provider.plays(head() + chunk(body) + chunk(end + DONE) + LAST_CHUNK)
        client = await gateway.client()
        ask(client, "anthropic")
        assert (await client.answer()).json["content"] == [{"type": "text", "text": text, "citations": None}]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_filter_searches_each_byte_once_however_small_the_pieces_are(size: int) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\r\n\r\n'
    stream = b"data: " + b"x" * 100_000 + b"\r\n\r\n" + usage + b"data: end\n\n"
    tested = UsageFilter()
    out = [tested.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert b"".join(out) + tested.flush() == stream.replace(usage, b"")


def test_what_never_ends_its_string_is_searched_once() -> None:
    assert member_near_end(b'"usage"' + b'"' + b'\\"' * 400_000, b"usage") is None


def test_a_deep_answer_is_estimated_as_fast_as_a_flat_one() -> None:
    deep = b'{"choices":' + b"[" * 20_000 + b'"abcd",' * 4000
    assert estimated_completion_tokens(deep, b"", len(deep), False) >= 4000


def test_lines_without_a_boundary_are_not_looked_at_one_by_one() -> None:
    assert last_boundary(b"a\n" * 2_000_000, 4_000_000) == -1
    assert last_boundary(b"a\r\rb\n\nc\n\r\nd", 99) == len(b"a\r\rb\n\nc\n\r\n")


def test_an_event_of_too_many_lines_or_bytes_or_values_is_refused() -> None:
    dense = encode_event(b"", b"{}," * (MAX_OBJECTS + 1))
    for stream in (b"data:a\n" * (MAX_EVENT_BYTES // 50), b"x" * (MAX_EVENT_BYTES + 1), dense):
        with pytest.raises(ValueError, match="event of the stream"):
            list(map(SseParser().feed, (stream, stream)))


def opened(index: int, kind: str) -> bytes:
    """The start of a block that is never closed."""
    block = b'{"type":"%b","id":"i","name":"n"}' % kind.encode()
    return encode_event(b"", b'{"type":"content_block_start","index":%d,"content_block":%b}' % (index, block))


@pytest.mark.parametrize("kind", ["tool_use", "thinking", "z"])
def test_blocks_that_are_never_closed_end_the_stream(kind: str) -> None:
    stream = ChunkStream(AnswerOptions("m", 1))
    for index in range(2000):
        stream.feed(opened(index, kind))
    assert stream.has_failed


def test_endless_thinking_is_not_kept_for_ever() -> None:
    stream = ChunkStream(AnswerOptions("m", 1))
    stream.feed(opened(0, "thinking"))
    delta = b'{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"%b"}}' % (b"x" * 2**20)
    for _ in range(9):
        stream.feed(encode_event(b"", delta))
    assert stream.has_failed


def call(index: int, arguments: str, name: str = "n") -> bytes:
    """An event with a piece of a tool call."""
    made = b'{"index":%d,"id":"i%d","function":{"name":"%b","arguments":"%b"}}' % (
        index, index, name.encode(), arguments.encode(),
    )  # fmt: skip
    return encode_event(b"", b'{"id":"c","choices":[{"delta":{"tool_calls":[%b]}}]}' % made)


@pytest.mark.parametrize(
    "events",
    [
        [call(index, "{}") for index in range(1100)],
        [call(0, "["), *[call(1, "x" * 2**20)] * 9],
        [call(0, "", "n" * 100)] + [call(0, "", str(index) * 50) for index in range(100)],
    ],
    ids=["too many calls", "too much that waits", "a name without an end"],
)
def test_calls_that_wait_are_bounded(events: list[bytes]) -> None:
    stream = MessageStream("m", frozenset())
    for one in events:
        stream.feed(one)
    assert stream.has_failed


def test_large_arguments_are_followed_by_the_next_block_as_small_ones_are() -> None:
    stream = MessageStream("m", frozenset())
    out = stream.feed(call(0, "[" + "1," * 30_000 + "1]")) + stream.feed(call(1, "{}"))
    assert out.count(b"content_block_stop") == 2  # its event's name and type
    assert b'"index":1' in out


def test_the_members_of_a_usage_do_not_grow_with_each_event() -> None:
    usage = updated(None, {"prompt_tokens": 1})
    for number in range(5000):
        usage = updated(usage, {f"x{number}": number})
    assert len(usage) < 300
    assert usage["prompt_tokens"] == 1
