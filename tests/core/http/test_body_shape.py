"""A body is taken for another endpoint's only if no other endpoint could serve it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http.body_shape import CHAT, MESSAGES, RESPONSES, RESPONSES_OF_CHAT, shape_of

OTHERS = ["stream", "temperature", "tools", "tool_choice", "top_p", "metadata", "top_k", "thinking", "user", "stop", "seed"]
"""Members that several endpoints have, or that servers of one API take from another."""


@pytest.mark.parametrize(("names", "shape"), [
    ("model input stream stream_options", RESPONSES_OF_CHAT), ("model input", RESPONSES),
    ("model input instructions stream", RESPONSES),
    ("model messages system max_tokens", MESSAGES), ("model system messages max_tokens stream tools", MESSAGES),
    ("model messages stream_options stream", CHAT), ("model messages max_completion_tokens", CHAT),
    ("model messages response_format n", CHAT),
    ("model messages", ""), ("model messages max_tokens", ""), ("model messages input", ""), ("model prompt", ""),
    ("model messages system", ""), ("model messages max_tokens n", ""), ("model messages max_tokens system n", ""),
])  # fmt: skip
def test_a_body_is_known_by_what_only_its_own_endpoint_takes(names: str, shape: str) -> None:
    assert shape_of(names.split()) == shape


@given(st.sets(st.sampled_from(OTHERS)))
def test_a_right_body_is_never_taken_for_another(others: set[str]) -> None:
    assert shape_of({"model", "messages", *others}) == ""
    assert shape_of({"model", "messages", "max_tokens", *others}) == ""
    assert shape_of({"model", "input", *others}) == RESPONSES
    assert shape_of({"model", "messages", "system", "max_tokens", *others}) == MESSAGES
    assert shape_of({"model", "messages", "max_completion_tokens", *others}) == CHAT
