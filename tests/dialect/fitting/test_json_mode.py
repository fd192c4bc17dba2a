"""A fence of Markdown around JSON is taken away, however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.json_mode import Unfencing, unfenced

CASES = [
    ('{"a":1}', '{"a":1}'), ('```json\n{"a":1}\n```', '{"a":1}'), ('\n```\n{"a":1}\n```\n', '{"a":1}'),
    ('```JSON \r\n{"a":"```"}\r\n```', '{"a":"```"}'), ('```json\n{"a":1}', '{"a":1}'), ("``", "``"), ("```json", "```json"),
    ('`{"a":1}`', '`{"a":1}`'), ('{"a":"```json\\n"}', '{"a":"```json\\n"}'), ("", ""), ('  {"a": 1}  ', '  {"a": 1}  '),
    ('```json\n{"a":1}\n``` done', '{"a":1}\n``` done'),
]  # fmt: skip


def fed(*pieces: str) -> str:
    unfencing = Unfencing()
    return "".join([*(unfencing.feed(piece) for piece in pieces), unfencing.flush()])


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_fence_is_taken_away_and_nothing_else(text: str, expected: str) -> None:
    assert unfenced(text) == expected


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_text_may_be_cut_anywhere(text: str, expected: str) -> None:
    assert fed(*text) == expected
    assert all(fed(text[:cut], text[cut:]) == expected for cut in range(len(text)))


@given(st.lists(st.sampled_from(["`", "```", "json", "\n", " ", "{", "}", '"a"', "\r\n", "é"]), max_size=12))
def test_pieces_say_what_the_whole_text_says(pieces: list[str]) -> None:
    assert fed(*pieces) == unfenced("".join(pieces))


@given(st.text())
def test_a_text_without_a_fence_passes_unchanged(text: str) -> None:
    assert unfenced("{" + text) == "{" + text
