"""A schema for Anthropic is what Anthropic's own library makes of it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from anthropic import transform_schema
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.schema_limits import Unfit, fit_schema

Json = dict[str, Any]

WORDS = st.sampled_from(["a", "b", "the town", "n"])
ABOUT = st.fixed_dictionaries({}, optional={"description": WORDS, "title": WORDS, "default": st.none() | WORDS})
PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | WORDS


def of_type(kind: str, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    members = st.fixed_dictionaries({"type": st.just(kind)}, optional=optional)
    return st.tuples(members, ABOUT).map(lambda parts: parts[0] | parts[1])


LEAVES = st.one_of(
    of_type("integer", minimum=st.integers(0, 3), maximum=st.integers(), multipleOf=st.just(2)),
    of_type("number", exclusiveMinimum=st.just(0.5)),
    of_type("string", minLength=st.integers(0, 3), maxLength=st.integers(4, 9), pattern=st.just("^x"),
            format=st.sampled_from(["date", "email", "binary", "uuid"])),
    of_type("boolean"),
    of_type("null"),
    of_type("string", enum=st.lists(PLAIN, min_size=1, max_size=3)),
    st.fixed_dictionaries({"const": PLAIN}),
    st.just({"$ref": "#/$defs/thing", "description": "lost, as a reference has nothing beside it"}),
)  # fmt: skip


def nested(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    properties = st.dictionaries(WORDS, inner, max_size=3)
    return st.one_of(
        of_type("object", properties=properties, required=st.lists(WORDS, max_size=2), minProperties=st.just(1),
                additionalProperties=st.booleans() | inner),
        of_type("array", items=inner, minItems=st.integers(0, 3), maxItems=st.integers(3, 5), uniqueItems=st.just(True)),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}, optional={"description": WORDS}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=3)}),
        of_type("object", **{"$defs": properties}),
    )  # fmt: skip


@given(st.recursive(LEAVES, nested, max_leaves=12))
def test_a_schema_becomes_what_anthropics_library_makes_of_it(schema: Json) -> None:
    expected = transform_schema(copy.deepcopy(schema))
    assert json.dumps(fit_schema(schema)) == json.dumps(expected)


@given(st.recursive(LEAVES, nested, max_leaves=12))
def test_what_was_fitted_needs_no_fitting(schema: Json) -> None:
    fit = fit_schema(schema)
    assert fit_schema(fit) == fit


@pytest.mark.parametrize(
    "schema", [True, {}, {"description": "anything"}, {"properties": {"a": {}}, "type": "object"}, [1], None]
)
def test_a_schema_without_a_type_can_not_be_enforced(schema: object) -> None:
    with pytest.raises(Unfit):
        fit_schema(schema)


def test_several_types_become_a_choice() -> None:
    written = {"type": ["string", "null"], "minLength": 2, "description": "the town"}
    string = {"type": "string", "description": "{minLength: 2}"}
    assert fit_schema(written) == {"anyOf": [string, {"type": "null"}], "description": "the town"}


def test_older_definitions_are_fitted_in_their_place() -> None:
    written = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/A"}},
        "definitions": {"A": {"type": "string", "maxLength": 3}},
    }
    assert fit_schema(written)["definitions"] == {"A": {"type": "string", "description": "{maxLength: 3}"}}
