"""A translated chat request holds what its source takes, and names what was left out."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.config.supports import Supports
from kyma_proxy.dialect.chat_fitting import ChatFitting
from kyma_proxy.dialect.effort import EFFORTS
from tests.dialect.anthropic_to_openai.material import translation

Json = dict[str, Any]
TALK: list[Json] = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "hello"}]
TOOLS: list[Json] = [{"type": "function", "function": {"name": "a", "parameters": {}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


def fitted(supports: Supports, **members: Any) -> tuple[Json, list[str]]:
    """A request, without its messages if they stayed as they were, and what was left out."""
    request = copy.deepcopy({"messages": TALK} | members)
    dropped: list[str] = []
    ChatFitting(supports, {"stop": "stop_sequences"}).fit(request, dropped.append)
    if request["messages"] == TALK:
        del request["messages"]
    return request, dropped


@pytest.mark.parametrize(("supports", "members", "sent", "dropped"), [
    (Supports(), {"reasoning_effort": "max", "stop": list("abcdef")}, {"reasoning_effort": "high", "stop": list("abcdef")}, []),
    (Supports(reasoning_effort=()), {"reasoning_effort": "high"}, {}, ["reasoning_effort"]),
    (Supports(reasoning_effort=("low", "xhigh")), {"reasoning_effort": "high"}, {"reasoning_effort": "xhigh"}, []),
    (Supports(reasoning_effort_with_tools=()), {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, []),
    (Supports(reasoning_effort_with_tools=()), {"reasoning_effort": "high", "tools": TOOLS}, {"tools": TOOLS},
     ["reasoning_effort"]),
    (Supports(reasoning_effort_with_tools=("none",)), {"tools": TOOLS}, {"tools": TOOLS, "reasoning_effort": "none"}, []),
    (Supports(reasoning_effort_with_tools=("none",)), {"tools": TOOLS, "reasoning_effort": "low"},
     {"tools": TOOLS, "reasoning_effort": "none"}, ["reasoning_effort"]),
    (Supports(reasoning_effort_with_tools=("none",), drop_params=("reasoning_effort",)), {"tools": TOOLS},
     {"tools": TOOLS}, []),
    (Supports(stop=2), {"stop": list("abc")}, {"stop": list("ab")}, ["stop_sequences[2]"]),
    (Supports(stop=0), {"stop": ["a"]}, {}, ["stop_sequences[0]"]),
    (Supports(drop_params=("seed", "user")), {"seed": 1, "top_p": 1}, {"top_p": 1}, ["seed"]),
    (Supports(drop_params=("max_tokens",)), {"max_tokens": 9}, {"max_completion_tokens": 9}, []),
    (Supports(drop_params=("max_completion_tokens",)), {"max_completion_tokens": 9}, {"max_tokens": 9}, []),
    (Supports(drop_params=("stream_options",)), {"stream_options": {"include_usage": True}}, {}, []),
    (Supports(response_format=("json_schema",)), {"response_format": SCHEMA}, {"response_format": SCHEMA}, []),
])  # fmt: skip
def test_a_request_holds_what_its_source_takes(supports: Supports, members: Json, sent: Json, dropped: list[str]) -> None:
    assert fitted(supports, **members) == (sent, dropped)


@pytest.mark.parametrize(("supports", "kind"), [
    (Supports(response_format=("json_object",)), {"type": "json_object"}), (Supports(response_format=()), None),
    (Supports(drop_params=("response_format",)), None),
])  # fmt: skip
def test_a_format_that_is_not_taken_is_asked_for_in_the_prompt(supports: Supports, kind: Json | None) -> None:
    request, dropped = fitted(supports, response_format=SCHEMA)
    assert (request.get("response_format"), dropped) == (kind, [])
    assert request["messages"][0]["content"].startswith("Brief.\n\nAnswer with one JSON object")
    assert request["messages"][0]["content"].endswith('\n{"type":"object"}')


def test_a_conversation_begins_and_ends_with_the_user_where_it_must() -> None:
    said = {"role": "assistant", "content": "well"}
    request, _ = fitted(Supports(assistant_first=False, assistant_last=False), messages=[TALK[0], said, TALK[1], said])
    assert [message["role"] for message in request["messages"]] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert fitted(Supports(), messages=[said])[0]["messages"] == [said]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_earlier_thoughts_are_left_out_where_they_are_refused(name: str) -> None:
    said = {"role": "assistant", "content": "well", name: "hm"}
    request, dropped = fitted(Supports(drop_params=(name,)), messages=[TALK[1], said, TALK[1]])
    assert (name in request["messages"][1], dropped) == (False, [name])


def test_a_thought_that_is_sent_may_be_refused() -> None:
    fitting = ChatFitting(Supports(), {})
    fitting.fit({"messages": [{"role": "assistant", "content": "x", "reasoning": "y"}], "max_tokens": 1}, lambda _: None)
    assert fitting.optional == ("max_tokens", "reasoning")


@pytest.mark.parametrize(("supports", "effort", "dropped"), [
    (Supports(reasoning_effort=("none", "default")), "none", ()), (Supports(), None, ("thinking",)),
    (Supports(reasoning_effort=("low",)), None, ("thinking",)),
])  # fmt: skip
def test_a_model_is_told_not_to_think_where_it_can_be_told(
    supports: Supports, effort: str | None, dropped: tuple[str, ...]
) -> None:
    request = {"model": "m", "max_tokens": 9, "messages": [TALK[1]], "thinking": {"type": "disabled"}}
    made = translation(request, supports=supports).request
    assert (json.loads(made.body).get("reasoning_effort"), made.dropped) == (effort, dropped)


SUPPORTS = st.builds(
    Supports,
    reasoning_effort=st.none() | st.lists(st.sampled_from(EFFORTS), unique=True).map(tuple),
    reasoning_effort_with_tools=st.none() | st.lists(st.sampled_from(EFFORTS), unique=True).map(tuple),
    stop=st.none() | st.integers(0, 4),
    tool_name=st.none() | st.integers(16, 128),
    images=st.none(),
    response_format=st.none() | st.lists(st.sampled_from(["json_object", "json_schema"]), unique=True).map(tuple),
    assistant_first=st.none() | st.booleans(),
    assistant_last=st.none() | st.booleans(),
    drop_params=st.none() | st.lists(st.sampled_from(["seed", "reasoning_effort", "response_format", "top_p"])).map(tuple),
)
REQUESTS = st.fixed_dictionaries(
    {"messages": st.lists(st.sampled_from([*TALK, {"role": "assistant", "content": "well"}]), min_size=1, max_size=4)},
    optional={
        "reasoning_effort": st.sampled_from(EFFORTS), "stop": st.lists(st.sampled_from("abc"), min_size=1, max_size=6),
        "tools": st.just([{"type": "function", "function": {"name": "a long name " * 9}}]), "seed": st.just(1),
        "top_p": st.just(1),
        "response_format": st.sampled_from([SCHEMA, {"type": "json_object"}]),
    },
)  # fmt: skip


@given(SUPPORTS, REQUESTS)
def test_what_was_fitted_fits(supports: Supports, request: Json) -> None:
    fit = copy.deepcopy(request)
    dropped: list[str] = []
    ChatFitting(supports, {}).fit(fit, dropped.append)
    again = copy.deepcopy(fit)
    dropped_again: list[str] = []
    ChatFitting(supports, {}).fit(again, dropped_again.append)
    again["messages"] = fit["messages"]  # an instruction is given each time that JSON is asked for
    assert (again, dropped_again) == (fit, [])
    lost = {path.partition("[")[0] for path in dropped}
    assert lost <= {"seed", "reasoning_effort", "top_p", "stop"}
