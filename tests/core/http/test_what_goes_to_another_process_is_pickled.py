"""What a worker process is given, and gives back, is the same on the other side, compiled or not."""

from __future__ import annotations

import json
import pickle

import pytest

from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.endpoints import IMAGE_JOBS
from kyma_proxy.dialect.registry import RELAYED

ENDPOINTS = [*RELAYED.values(), IMAGE_JOBS]
BODIES = (
    {"model": "m"},
    {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5, "n": 2},
    {"model": "m", "service_tier": "flex", "max_output_tokens": 7, "tools": [{"type": "web_search"}]},
)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.name)
def test_an_endpoint_is_the_same_with_all_that_it_says(endpoint: object) -> None:
    other = pickle.loads(pickle.dumps(endpoint))
    names = [name for name in dir(endpoint) if not name.startswith("_")]
    assert {name: getattr(other, name) for name in names} == {name: getattr(endpoint, name) for name in names}
    assert "is_estimated" in names


@pytest.mark.parametrize("is_metered", [False, True])
@pytest.mark.parametrize("body", BODIES, ids=json.dumps)
def test_routing_fields_are_the_same(body: dict[str, object], is_metered: bool) -> None:
    fields = read_routing_fields(json.dumps(body).encode(), is_metered=is_metered)
    assert pickle.loads(pickle.dumps(fields)) == fields
