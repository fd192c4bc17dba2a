"""The caller's bytes stay the caller's: one value is replaced, one member may be inserted, and nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.http.body import MeteredFields, RoutingFields, includes_usage, is_json, patched, read_routing_fields
from kyma_proxy.errors import GatewayError, Kind

SENT_AS = b'"vendor/small-1"'
INSERTION = b'"max_tokens":4096,'
SPACES = st.text(" \t\r\n", max_size=3)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES


@st.composite
def strings(draw: st.DrawFn, values: st.SearchStrategy[str] = NAMES) -> str:
    """A JSON string, each character of it written plainly or as an escape."""
    text = ""
    for character in draw(values):
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        escaped = "".join(f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le")).cast("H"))
        text += escaped if draw(st.booleans()) else plain
    return f'"{text}"'


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON objects whose members may be there twice."""
    return st.lists(st.tuples(SPACES, strings(), SPACES, SPACES, values, SPACES), max_size=3).map(
        lambda members: "{" + ",".join(f"{a}{name}{b}:{c}{value}{d}" for a, name, b, c, value, d in members) + "}"
    )


VALUES = st.recursive(
    SCALARS.map(json.dumps) | strings(),
    lambda values: objects(values) | st.lists(values, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=6,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, str]:
    """A request body that holds one `model`, and that model."""
    model = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))
    names = draw(st.lists(NAMES.filter(lambda name: name not in {"model", "N"}), unique=True, max_size=4))
    members = [(draw(strings(st.just(name))), draw(VALUES)) for name in names]
    members.insert(draw(st.integers(0, len(members))), (draw(strings(st.just("model"))), draw(strings(st.just(model)))))
    written = draw(st.sampled_from([None, (",", ":"), (", ", ": ")]))  # anyhow, as the SDKs do, as Python does
    if written is not None:
        return f"{{{written[0].join(name + written[1] + value for name, value in members)}}}".encode(), model
    texts = [f"{draw(SPACES)}{name}{draw(SPACES)}:{draw(SPACES)}{value}{draw(SPACES)}" for name, value in members]
    return f"{draw(SPACES)}{{{','.join(texts)}}}{draw(SPACES)}".encode(), model


def refusal(body: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read_routing_fields(body)
    return caught.value


@settings(deadline=None)
@given(bodies(), st.sampled_from([b"", INSERTION]), st.integers(0, 20_000))
def test_only_the_model_changes_and_only_the_insertion_is_added(
    made: tuple[bytes, str], insertion: bytes, padding: int
) -> None:
    body, model = made
    body += b" " * padding
    head = read_routing_fields(body)
    assert head.model == model
    sent = b"".join(patched(body, head, SENT_AS, insertion))
    brace = body.index(b"{") + 1
    assert sent == body[:brace] + insertion + body[brace : head.start] + SENT_AS + body[head.end :]
    wanted = json.loads(body) | {"model": json.loads(SENT_AS)}
    if insertion:
        wanted = {"max_tokens": 4096} | wanted
    assert json.loads(sent) == wanted


def test_spacing_and_escapes_are_kept_byte_for_byte() -> None:
    before, after = b' \t{ "x" : 1.0e+2,"m\\u006fdel"\n:', b' , "y":-0,"\xc3\xa9\\u00e9":{"model":"a","model":"b"}}\r\n'
    body = before + b'"small"' + after
    assert patched(body, read_routing_fields(body), SENT_AS, b"") == [before + SENT_AS + after]


def test_a_large_body_goes_out_in_views_and_is_not_copied() -> None:
    body = b'{"before":1,"model":"small","prompt":"%b"}' % (b"x" * 100_000)
    pieces = patched(body, read_routing_fields(body), SENT_AS, INSERTION)
    assert b"".join(pieces) == body.replace(b"{", b"{" + INSERTION, 1).replace(b'"small"', SENT_AS)
    assert sum(len(piece) for piece in pieces if isinstance(piece, bytes)) < 100
    assert all(piece.obj is body for piece in pieces if isinstance(piece, memoryview))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (b"", (False, False, b"", b"", (), ())),
        (b',"stream":true', (True, False, b"true", b"", (), ())),
        (b',"stream": true ', (True, False, b"true", b"", (), ())),
        (b',"stream":false,"max_tokens":1', (False, True, b"false", b"", (b"1",), ())),
        (b',"stream":null,"max_completion_tokens":null', (False, True, b"null", b"", (b"null",), ())),
        (
            b',"stream":"true","nested":{"max_tokens":1,"stream":true,"stream_options":1}',
            (False, False, b'"true"', b"", (), ()),
        ),
        (b',"max\\u005ftokens":1000000000000', (False, True, b"", b"", (b"1000000000000",), ())),
        (b',"max_output_tokens":7,"stream_options":{}', (False, False, b"", b"{}", (), (), None, (b"7",))),
        (b',"max_completion_tokens":9,"n":3,"max_tokens":1,"best_of":4', (False, True, b"", b"", (b"1", b"9"), (b"3", b"4"))),
    ],
)
def test_routing_fields_are_read_from_the_top_level_only(members: bytes, expected: tuple[Any, ...]) -> None:
    body = b'{"model":"small"' + members + b"}"
    streams, has_max_tokens, *written = expected
    assert read_routing_fields(body) == RoutingFields("small", 9, 16, streams, has_max_tokens)
    assert read_routing_fields(body, is_metered=True) == RoutingFields(
        "small", 9, 16, streams, has_max_tokens, MeteredFields(*written)
    )


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b'{"model":"small"', b'{"model":"small"} x', b'{"model":"small"}{}', b'{"model":"small",}',
    b"{model:1}", b"{'model':'small'}", b'{"model":"small","x":NaN}', b'{"model":"small","x":01}',
    b'{"model":"small"}\0', b'\xef\xbb\xbf{"model":"small"}', b'{"model":"small","x":"\n"}',
])  # fmt: skip
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    error = refusal(body)
    assert error.kind is Kind.INVALID_JSON
    assert "not valid JSON" in error.message
    assert "surrogate" not in error.message or body.endswith(b"}")


@pytest.mark.parametrize("body", [b'{"model":"\xff"}', b'{"model":"small","\xff":1}', b'{"model":"\xed\xa0\x80"}'])
def test_a_body_that_is_not_utf_8_is_refused(body: bytes) -> None:
    assert (refusal(body).kind, "UTF-8" in refusal(body).message) == (Kind.INVALID_JSON, True)


@pytest.mark.parametrize("body", [b"[]", b'"model"', b"null", b"1", b'[{"model":"small"}]'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    assert refusal(body).kind is Kind.INVALID_REQUEST


@pytest.mark.parametrize("model", [b"null", b"1", b"true", b'["small"]', b'{"id":"small"}', b'""', b'"%b"' % (b"x" * 257)])
def test_a_model_must_be_a_string_of_1_to_256_characters(model: bytes) -> None:
    error = refusal(b'{"model":%b}' % model)
    assert (error.kind, error.param) == (Kind.INVALID_REQUEST, "model")
    assert read_routing_fields(b'{"model":"%b"}' % (b"x" * 256)).model == "x" * 256


def test_the_error_about_a_missing_model_names_the_list_of_models() -> None:
    error = refusal(b'{"messages":[{"model":"small"}]}')
    assert (error.kind, error.param) == (Kind.INVALID_REQUEST, "model")
    assert "GET /v1/models" in error.message


@pytest.mark.parametrize("body", [
    b'{"model":"small","model":"large"}', b'{"model":"small","model":"small"}', b'{"model":"small","m\\u006fdel":"large"}',
    b'{"\\u006dodel":"large","model":"small"}', b'{"x":1,"model":"small","x":12}', b'{"x":12,"model":"small","x":1}',
    b'{"model":"small","":1,"":1}', b'{"max_tokens":1,"model":"small","max\\u005ftokens":2}',
])  # fmt: skip
def test_a_duplicate_member_is_refused_however_it_is_spelled(body: bytes) -> None:
    assert (refusal(body).kind, "twice" in refusal(body).message) == (Kind.INVALID_JSON, True)


@given(st.lists(st.tuples(st.sampled_from(["x", "model", "y"]), st.sampled_from(['"s"', "1", '", \\"x\\": 1"'])), max_size=5))
def test_no_duplicate_member_hides_behind_another_however_bodies_are_spaced(members: list[tuple[str, str]]) -> None:
    names = [name for name, _ in members]
    for comma, colon in ((",", ":"), (", ", ": "), (" ,", " :")):
        body = "{" + comma.join(f'"{name}"{colon}{value}' for name, value in members) + "}"
        twice = len(set(names)) < len(names)
        try:
            head = read_routing_fields(body.encode())
        except GatewayError:
            assert twice or ("model", "1") in members or "model" not in names
        else:
            assert not twice
            assert body[head.start : head.end] == dict(members)["model"]


@pytest.mark.parametrize("string", [rb'"\ud83d"', rb'"\udc00"', rb'"\ud83d\ud83d"', rb'"\ud83dx"'])
def test_a_lone_surrogate_is_refused_wherever_it_stands(string: bytes) -> None:
    for body in (b'{"model":%b}', b'{"model":"small","x":[%b]}', b'{"model":"small",%b:1}'):
        assert refusal(body % string).kind is Kind.INVALID_JSON
    assert "surrogate" in refusal(rb'{"model":"small","x":"\ud83d"}').message


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"x":', b"}")])
def test_deep_nesting_passes_and_absurd_nesting_is_refused(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return b'{"x":%b1%b,"model":"small"}' % (opening * depth, closing * depth)

    assert read_routing_fields(nested(200)).model == "small"
    assert (refusal(nested(100_000)).kind, "deep" in refusal(nested(100_000)).message) == (Kind.INVALID_JSON, True)


@settings(deadline=None)
@given(st.binary(max_size=60) | bodies().flatmap(lambda made: st.integers(0, len(made[0])).map(lambda end: made[0][:end])))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        head = read_routing_fields(body)
    except GatewayError as error:
        refused_as = error.kind
    else:
        assert json.loads(body[head.start : head.end]) == head.model
        return
    assert refused_as in (Kind.INVALID_JSON, Kind.INVALID_REQUEST)


def test_an_error_never_quotes_the_body() -> None:
    for body in (b'{"model":"SECRET"', b'{"model":"small","SECRET":1,"SECRET":2}', b'{"SECRET"}', b'{"model":["SECRET"]}'):
        assert "SECRET" not in refusal(body).message


@pytest.mark.parametrize("body", [b"{}", b'{"a":{"b":[1]}}', b"[]", b" 1 ", b'"x"'])
def test_a_complete_json_value_is_told_from_a_truncated_one(body: bytes) -> None:
    assert is_json(body)
    assert not is_json(body.strip()[:-1] or b"")
    assert not is_json(body + b"}")
    assert not is_json(b"[" * 100_000)


def test_more_than_1000_members_are_refused() -> None:
    body = b'{"model":"m",' + b",".join(b'"k%d":1' % number for number in range(1000)) + b"}"
    with pytest.raises(GatewayError, match="more than 1000 members"):
        read_routing_fields(body)


def test_a_large_body_of_members_is_refused_before_there_is_a_table_of_them() -> None:
    body = b'{"model":"m",' + b",".join(b'"%06d":1' % number for number in range(300_000)) + b"}"
    with pytest.raises(GatewayError, match="too many members"):
        read_routing_fields(body)


def test_a_large_prompt_may_have_any_number_of_colons() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a: b, " * 400_000}]}).encode()
    assert read_routing_fields(body).model == "m"


@pytest.mark.parametrize(("options", "includes"), [
    (b'{"include_usage":true}', True), (b'{ "include_obfuscation" : false, "include_usage" : true }', True),
    (b'{"include_usage":true,"include_usage":false}', False), (b'{"include_usage":1}', False), (b"{}", False),
    (b"null", False), (b"[true]", False), (b'"include_usage"', False),
])  # fmt: skip
def test_only_true_asks_for_the_usage_of_a_stream(options: bytes, includes: bool) -> None:
    assert includes_usage(options) is includes
