"""One usage-only event is removed from a stream, however it is cut; all other bytes pass unchanged."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.usage_filter import UsageFilter

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def event(document: object, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps(document)}{end}".encode()


WORDS = [event({"choices": [{"delta": {"content": f"word {at} \u00e9"}}], "usage": None}) for at in range(3)]
LAST = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
ONLY = event({"id": "x", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"

STREAMS = {
    "as OpenAI sends it": ([*WORDS, LAST], ONLY, [DONE]),
    "with carriage returns": ([event({"choices": [1]}, "\r\n\r\n")], event({"usage": USAGE}, "\r\n\r\n"), [DONE]),
    "without the end": (WORDS, ONLY, []),
    "without the last blank line": (WORDS, ONLY.rstrip(b"\n"), []),
    "without usage": ([*WORDS, LAST], b"", [DONE]),
    "with usage beside a choice": ([*WORDS, event({"choices": [{"delta": {}}], "usage": USAGE})], b"", [DONE]),
    "with a second usage": (WORDS, ONLY, [ONLY, DONE]),
    "that talks about usage": ([event({"choices": [{"delta": {"content": '"prompt_tokens": 1'}}]})], ONLY, [DONE]),
    "with comments": ([b": keep-alive\n\n", *WORDS, b": \"prompt_tokens\"\n\n"], ONLY, [b": x\n\n", DONE]),
    "with broken JSON": ([b'data: {"prompt_tokens": \n\n', *WORDS], ONLY, [DONE]),
    "with no choices at all": (WORDS, event({"usage": USAGE}), [DONE]),
}  # fmt: skip


def passed(pieces: list[bytes]) -> bytes:
    usage_filter = UsageFilter()
    out = b"".join(usage_filter.feed(piece) for piece in pieces)
    return out + usage_filter.flush()


@pytest.mark.parametrize("name", STREAMS)
def test_the_filter_gives_the_same_bytes_for_every_split(name: str) -> None:
    before, kept, after = STREAMS[name]
    stream = b"".join([*before, kept, *after])
    expected = b"".join([*before, *after])
    assert passed([stream]) == expected
    assert passed([stream[at : at + 1] for at in range(len(stream))]) == expected
    for cut in range(1, len(stream)):
        assert passed([stream[:cut], stream[cut:]]) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("count", range(6))
def test_line_ends_between_two_events_pass_however_they_are_cut(end: str, count: int) -> None:
    blank = (end * count).encode()
    before, kept = event({"choices": [1]}, end * 2), event({"usage": USAGE}, end * 2)
    for last in (DONE, b""):
        stream, expected = before + blank + kept + last, before + blank + last
        for cut in range(len(stream)):
            assert passed([stream[:cut], stream[cut:]]) == expected
        assert passed([stream[at : at + 1] for at in range(len(stream))]) == expected


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(1, 400), max_size=8))
def test_the_filter_gives_the_same_bytes_for_any_pieces(name: str, cuts: list[int]) -> None:
    before, kept, after = STREAMS[name]
    stream = b"".join([*before, kept, *after])
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert passed(pieces) == b"".join([*before, *after])


def test_the_filter_does_not_hold_complete_events() -> None:
    usage_filter = UsageFilter()
    for word in WORDS:
        assert usage_filter.feed(word) == word


def test_the_filter_does_not_hold_an_endless_event() -> None:
    usage_filter = UsageFilter()
    sent = [b"data: " + b"x" * 65536] * 8
    out = b"".join(usage_filter.feed(piece) for piece in sent)
    assert out == b"".join(sent)


def framed(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def compact(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


SAYING = [compact({"id": "a", "choices": [{"delta": {"content": word}}]}) for word in ("x", 'the "prompt_tokens"', "y" * 90)]
SILENT = compact({"id": "a", "choices": [], "usage": USAGE})
BODIES = {
    "an event like the one before": (SAYING[2], True),
    "one that begins otherwise": (compact({"id": "b", "choices": [{"delta": {}}]}), True),
    "one without a choice": (compact({"id": "a", "choices": []}), True),
    "the usage alone": (SILENT, False),
    "the usage behind an event": (SAYING[0] + SILENT, False),
    "the usage before an event": (SILENT + SAYING[0], False),
    "a choice behind the usage": (compact({"id": "a", "usage": USAGE, "choices": []}), False),
    "an event with a name": (b"event: m\n" + SAYING[0], True),
    "the usage with a comment": (b": x\n" + SILENT, False),
    "lines that end otherwise": (SAYING[0][:-2] + b"\r\n\r\n" + SILENT, False),
    "an event that ends with returns alone": (SAYING[0][:-2] + b"\r\r" + SILENT, False),
}  # fmt: skip


@pytest.mark.parametrize("before", [0, 1, 12])
@pytest.mark.parametrize("name", BODIES)
def test_a_chunk_passes_unsearched_only_if_it_holds_no_usage(name: str, before: int) -> None:
    usage_filter = UsageFilter()
    for at in range(before):
        body = compact({"id": "a" if at % 2 else f"b{at}", "choices": [{"delta": {"content": "x"}}]})
        assert usage_filter.passes(framed(body), len(body))
    body, does_pass = BODIES[name]
    assert usage_filter.passes(framed(body), len(body)) is does_pass


def openai_event(content: str, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": None}
    return compact({"id": "a", "choices": [choice], **more})


NEAR = [
    openai_event(""), openai_event("word"), openai_event("a word longer than what could hide"), openai_event("x", usage=None),
    openai_event("x", usage=USAGE), openai_event('"'), openai_event("\\"), openai_event('"prompt_tokens"'), SILENT, DONE,
    compact({"usage": USAGE}), b'data:{"usage":{},"prompt_tokens":1}\n\n', b"data:{\n\n", b'data:{"a":"prompt_tokens\n\n',
    b": comment\n\n", b"\n\n", b'","usage":{}}\n\n', b'"prompt_tokens', b'data:{"a":', b"\n", b"\r\n\r\n", b"\r\r",
]  # fmt: skip
CUT_EVENTS = st.tuples(st.sampled_from(NEAR), st.integers(0, 130), st.integers(0, 130)).map(
    lambda cut: cut[0][cut[1] : -cut[2] or None]
)
BODY_PARTS = st.one_of(st.sampled_from(NEAR), CUT_EVENTS)


@given(st.lists(st.lists(BODY_PARTS, min_size=1, max_size=4).map(b"".join), max_size=12))
def test_what_passes_as_it_came_is_what_the_filter_would_return(bodies: list[bytes]) -> None:
    usage_filter = UsageFilter()
    for body in bodies:
        whole = body.rstrip(b"\r\n") + b"\n\n"
        if usage_filter.passes(framed(whole), len(whole)):
            assert UsageFilter().feed(whole) == whole or usage_filter.is_done
        else:
            usage_filter.feed(whole)


def spliced(event: bytes, hidden: bytes) -> bytes:
    """An event with something in the place of what it says."""
    before, _, after = event.partition(b"word")
    return before + hidden + after


@pytest.mark.parametrize("hidden", [
    b'\n\ndata:{"usage":{"":"prompt_tokens', b'\n\ndata:{"usage":{"prompt_tokens":"', b'\r\rdata:{"usage":{"prompt_tokens":"',
    b'\n\ndata:{"usage":{"prompt_tokens":1},"a":[{"b":{"c":"',
    b'"}]}\n\ndata:{"usage":{"prompt_tokens":1},"a":[{"b":{"c":"', b'\n\ndata:{"prompt_tokens":1,"a":[{"b":"',
    b'\n\ndata:{"a":"prompt_tokens', b'\n\ndata:{"prompt_tokens', b'\r\rdata:{"prompt_tokens', b'"\n\n', b"\r\r", b"\n\ndata:{",
])  # fmt: skip
def test_no_usage_hides_in_what_an_event_like_the_one_before_says(hidden: bytes) -> None:
    usual = openai_event("word")
    for event in (usual, openai_event("word", usage={}), usual.replace(b"null}]}", b'null}],"usage":{"a":1}}')):
        usage_filter = UsageFilter()
        for _ in range(3):
            assert usage_filter.passes(framed(event), len(event))
        body = spliced(event, hidden)
        assert usage_filter.passes(framed(body), len(body)) <= (UsageFilter().feed(body) == body)


def test_events_that_differ_only_in_what_they_say_are_not_searched() -> None:
    usage_filter = UsageFilter()
    first = openai_event("word")
    assert usage_filter.passes(framed(first), len(first))
    learned = usage_filter._learned
    for word in ("", "a", "another word", "é" * 2):
        body = openai_event(word)
        assert usage_filter.passes(framed(body), len(body))
    assert usage_filter._learned == learned
