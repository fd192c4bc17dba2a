"""Thoughts between tags are parted from a text in the same way, wherever the text is cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.think_tags import ANSWER, PARSERS, THOUGHT, ThinkTags, in_tags

CASES = [
    ("think", "<think>Hm.</think>Yes.", "Hm.", "Yes."),
    ("think", "  \n<think>\nHm.\n</think>\n\nYes.\n", "Hm.\n", "Yes.\n"),
    ("think", "Yes.", "", "Yes."),
    ("think", " Yes <think>no</think>.", "", " Yes <think>no</think>."),
    ("think", "<think>Hm, cut", "Hm, cut", ""),
    ("think", "<think>Hm</thin", "Hm</thin", ""),
    ("think", "<think></think>Yes.", "", "Yes."),
    ("think", "<think>a <think>b</think> c</think>d</think>", "a b", "c d</think>".replace(" ", "")),
    ("think", "<think><think>a</think>b", "a", "b"),
    ("think", "<think>a</think>b <think>c</think>", "a", "b <think>c</think>"),
    ("think", "<thin", "", "<thin"), ("think", " \n ", "", " \n "), ("think", "", "", ""),
    ("think", "<thinking>", "", "<thinking>"),
    ("thought", "<thought>Hm.</thought>Yes.", "Hm.", "Yes."), ("mm:think", "<mm:think>Hm.</mm:think>Yes.", "Hm.", "Yes."),
    ("mm:think", "<think>Hm.</think>", "", "<think>Hm.</think>"),
    ("deepseek_r1", "Hm.</think>\n\nYes.", "Hm.", "Yes."), ("deepseek_r1", "<think>Hm.</think>Yes.", "Hm.", "Yes."),
    ("deepseek_r1", "\nNo tag at all", "No tag at all", ""), ("deepseek_r1", "</think>Yes.", "", "Yes."),
]  # fmt: skip
PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<thi", "nk>", "</", "<", " ", "\n", "a", "/think>"]), max_size=12)


def parted(parser: str, pieces: Sequence[str]) -> tuple[str, str]:
    tags = ThinkTags(parser)
    parts = [part for piece in pieces for part in tags.feed(piece)] + tags.flush()
    assert tags.flush() == []
    assert [kind for kind, _ in parts] == sorted([kind for kind, _ in parts], key=[THOUGHT, ANSWER].index)
    return ("".join(text for kind, text in parts if kind == THOUGHT), "".join(text for kind, text in parts if kind == ANSWER))


@pytest.mark.parametrize(("parser", "text", "thought", "answer"), CASES)
def test_thoughts_are_parted_at_every_cut(parser: str, text: str, thought: str, answer: str) -> None:
    assert parted(parser, [text]) == (thought, answer)
    assert parted(parser, list(text)) == (thought, answer)
    for cut in range(len(text)):
        for other in range(cut, len(text)):
            assert parted(parser, [text[:cut], text[cut:other], text[other:]]) == (thought, answer)


@given(PIECES, st.sampled_from(sorted(PARSERS)))
def test_any_text_is_parted_the_same_whole_and_in_pieces(pieces: list[str], parser: str) -> None:
    assert parted(parser, pieces) == parted(parser, ["".join(pieces)])


def test_what_is_surely_text_is_not_held() -> None:
    tags = ThinkTags("think")
    assert tags.feed("Yes.") == [(ANSWER, "Yes.")]
    tags = ThinkTags("think")
    assert tags.feed("<think>a < b") == [(THOUGHT, "a < b")]
    assert tags.feed("</") == []
    assert tags.feed("b") == [(THOUGHT, "</b")]


def test_white_space_before_an_answer_is_held_up_to_a_bound() -> None:
    for text in (" " * 4096 + "<think>a</think>b", " " * 4097 + "<think>a</think>b"):
        assert parted("think", [text]) == parted("think", list(text))
    assert parted("think", [" " * 4096 + "<think>a</think>b"]) == ("a", "b")


@pytest.mark.parametrize("parser", sorted(PARSERS))
def test_thoughts_go_back_as_they_are_read(parser: str) -> None:
    assert parted(parser, [in_tags("Hm.", parser) + "Yes."]) == ("Hm.\n", "Yes.")
