"""A body is read the same whether its members' names were seen before or not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.errors import GatewayError

NAMES = ("messages", "stream", "max_tokens", "n", "tools", "user", "stream_options", "max_output_tokens", "é", "a b")


@given(
    names=st.permutations(NAMES).flatmap(lambda names: st.integers(0, len(names)).map(lambda most: names[:most])),
    at=st.integers(0, len(NAMES)), model=st.text(min_size=1, max_size=20), is_metered=st.booleans(),
)  # fmt: skip
def test_the_second_body_with_the_same_members_is_read_as_the_first(
    names: list[str], at: int, model: str, is_metered: bool
) -> None:
    members: dict[str, object] = dict.fromkeys(names, 1) | {name: None for name in names if name in ("stream_options", "tools")}
    items = list(members.items())
    items.insert(at, ("model", model))
    body = json.dumps(dict(items), separators=(",", ":"), ensure_ascii=False).encode()
    first, second = (read_routing_fields(body, is_metered=is_metered) for _ in range(2))
    assert first == second
    assert first.model == model
    assert json.loads(body[first.start : first.end]) == model
    assert body[: first.start].endswith(b'"model":')


def test_a_member_that_is_there_twice_is_found_though_its_set_is_known() -> None:
    read_routing_fields(b'{"model":"m","user":1}')
    with pytest.raises(GatewayError, match="twice"):
        read_routing_fields(b'{"model":"m","user":1,"user":1}')
    with pytest.raises(GatewayError, match="twice"):
        read_routing_fields(b'{"model":"m","user":1,"model":"n"}')


def test_options_are_checked_though_their_set_is_known() -> None:
    read_routing_fields(b'{"model":"m","stream_options":null}')
    with pytest.raises(GatewayError, match="only in case"):
        read_routing_fields(b'{"model":"m","stream_options":{"Include_usage":true}}')


def test_a_name_that_is_written_with_an_escape_is_found_though_its_set_is_known() -> None:
    read_routing_fields(b'{"user":1,"model":"m"}')
    body = b'{"us\\u0065r":1,"model":"m"}'
    fields = read_routing_fields(body)
    assert body[fields.start : fields.end] == b'"m"'
