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
