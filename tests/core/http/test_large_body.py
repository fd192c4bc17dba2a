"""Whatever a large body holds, it is read in short slices or refused before a table of it is made."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Generator
from typing import Any

import pytest

from kyma_proxy.core.http.body import RoutingFields, read_routing_fields, reading_routing_fields
from kyma_proxy.core.http.large_body import LARGE_BYTES
from kyma_proxy.errors import GatewayError, Kind

MIB = 2**20
LARGEST = 32 * MIB


def body(inner: bytes) -> bytes:
    """A chat request with these further members."""
    return b'{"model":"m","messages":[],' + inner + b"}"


MEMBERS = {
    "plain": lambda count: b",".join(b'"%x":1' % at for at in range(count)),
    "spaced": lambda count: b" , ".join(b'"%x" : 1' % at for at in range(count)),
    "escaped": lambda count: b",".join(b'"\\u0061%x":1' % at for at in range(count)),
    "of-objects": lambda count: b",".join(b'"%x":{"a":1}' % at for at in range(count)),
}


@pytest.mark.parametrize("kind", MEMBERS)
@pytest.mark.parametrize("count", [1001, 30_000, 1_000_000])
def test_too_many_members_are_refused_within_twice_the_size_of_the_body(kind: str, count: int) -> None:
    sent = body(MEMBERS[kind](count))
    tracemalloc.start()
    try:
        with pytest.raises(GatewayError) as caught:
            read_routing_fields(sent)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.kind is Kind.INVALID_REQUEST
    assert "members" in caught.value.message or "colons" in caught.value.message
    assert peak <= 2 * len(sent) + 8 * MIB


@pytest.mark.parametrize(
    "name", [b"a" * 257, b"\\u00e9" * 257, b"\\ud83d\\ude00" * 300_000, b"a" * (30 * MIB), "é".encode() * MIB]
)
def test_a_name_that_is_too_long_to_be_one_is_refused(name: bytes) -> None:
    with pytest.raises(GatewayError, match="longer than 256 characters"):
        read_routing_fields(body(b'"%b":1,"pad":"%b"' % (name, b" " * LARGE_BYTES)))


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0", b"[[]]", b'{"":[]}'])
def test_a_body_that_is_too_dense_for_any_model_is_refused(value: bytes) -> None:
    many = b",".join([value] * (LARGEST // (len(value) + 1) - 100))
    with pytest.raises(GatewayError, match="commas, colons and brackets"):
        read_routing_fields(b'{"model":"m","messages":[%b]}' % many)


def test_millions_of_members_are_counted_before_anything_steps_over_them() -> None:
    steps = reading_routing_fields(body(b",".join([b'"a":0'] * (LARGEST // 6 - 100))), is_metered=False)
    with pytest.raises(GatewayError, match="commas, colons and brackets"):
        slices(steps)


@pytest.mark.parametrize(
    "spaces",
    [b" " * 30 * MIB + b'"a":1', b'"a":1' + b"\n" * 30 * MIB, b'"a":' + b"\t" * 30 * MIB + b"1"],
    ids=["before", "after", "in"],
)
def test_megabytes_of_white_space_between_members_are_refused(spaces: bytes) -> None:
    with pytest.raises(GatewayError, match="white space"):
        read_routing_fields(body(spaces))


TEXTS = {
    "prose": "First, this: then that. ",
    "CSV": '1,"two",3.0,[4]\r\n',
    "code": 'if (a[1]) { call({"b": [c, d]}); }\n',
    "escaped JSON": json.dumps({"a": [1, 2, {"b": "c:d"}]}),
    "JSON escaped twice": json.dumps(json.dumps({"a": [1, 2, {"b": "c:d"}]})),
    "base64 in lines": "A" * 76 + "\r\n",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_long_text_passes_whatever_stands_in_it(kind: str) -> None:
    unit = TEXTS[kind]
    written = json.dumps(unit)[1:-1].encode()
    sent = b'{"model":"m","messages":[{"role":"user","content":"%b"}],"user":"%b"}' % (
        written * (30 * MIB // len(written)),
        written * (MIB // len(written)),
    )
    assert read_routing_fields(sent, is_metered=True).model == "m"


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_members_do_not_hide_behind_the_colons_of_a_prompt(separators: tuple[str, str]) -> None:
    prompt = {"messages": [{"role": "user", "content": ":" * 100_000}], **{f"a{at}": {"b": 1} for at in range(30_000)}}
    with pytest.raises(GatewayError, match="too many members"):
        read_routing_fields(json.dumps({"model": "m", **prompt}, separators=separators).encode())


def test_white_space_and_a_repeated_member_are_told_apart() -> None:
    with pytest.raises(GatewayError, match="white space") as spaced:
        read_routing_fields(body(b'"a":1,' + b" " * 2 * MIB + b'"b":2'))
    assert spaced.value.kind is Kind.INVALID_REQUEST
    for twice in (b'"a":"%b","a":1' % (b"x" * 2 * MIB), b'"a":12,"b":"%b","a":1' % (b"x" * 2 * MIB)):
        with pytest.raises(GatewayError, match="same member twice") as caught:
            read_routing_fields(body(twice))
        assert "white space" not in caught.value.message


@pytest.mark.parametrize("value", [b'"' + b"m" * 4000 + b'"', b'"' + b"\\u006d" * MIB + b'"'])
def test_a_model_of_megabytes_is_refused_without_being_read(value: bytes) -> None:
    with pytest.raises(GatewayError, match="1 to 256 characters"):
        read_routing_fields(b'{"model":%b,"messages":"%b"}' % (value, b"a" * LARGE_BYTES))


LARGE: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "user", "content": "a, b: {c} [d] " * 100_000}]},
    "history": {"messages": [{"role": "user", "content": f"{at}: é😀"} for at in range(20_000)]},
    "tools": {
        "tools": [{"type": "function", "function": {"name": f"f{at}", "parameters": {"a": {"b": 1}}}} for at in range(4000)]
    },
    "tokens": {"input": list(range(60_000))},
    "unknown": {"something": "x" * 2 * LARGE_BYTES, "more": {str(at): at for at in range(9000)}},
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), ("  ,\n", " : ")])
@pytest.mark.parametrize("is_metered", [True, False])
def test_a_usual_large_body_is_read_like_a_small_one(kind: str, separators: tuple[str, str], is_metered: bool) -> None:
    sent = json.dumps({"stream": True, **LARGE[kind], "model": "small", "max_tokens": 5}, separators=separators).encode()
    assert len(sent) > LARGE_BYTES
    fields = read_routing_fields(sent, is_metered=is_metered)
    assert (fields.model, sent[fields.start : fields.end], fields.streams, fields.has_max_tokens) == (
        "small",
        b'"small"',
        True,
        True,
    )
    assert (fields.written is not None) is is_metered


def slices(steps: Generator[None, None, RoutingFields]) -> int:
    """The number of slices that it takes."""
    return sum(1 for _ in steps) + 1


def test_the_larger_a_body_the_more_slices_it_is_read_in() -> None:
    small, large = [b'{"model":"m","messages":"%b"}' % (b"a" * size) for size in (MIB, LARGEST - 100)]
    assert slices(reading_routing_fields(small, is_metered=False)) < slices(reading_routing_fields(large, is_metered=False))
    assert slices(reading_routing_fields(large, is_metered=False)) >= 16
