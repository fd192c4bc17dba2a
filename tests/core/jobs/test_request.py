"""A request for images is read as the model's rules allow, and each mistake gets a message that names the member."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kyma_proxy.core.jobs.job import ImageRequest
from kyma_proxy.core.jobs.request import ImageJobRequest, is_web_url, read_image_request
from kyma_proxy.errors import GatewayError, Kind
from tests.factories import snapshot

TEXT = """\
providers:
  - {name: art, base_url: https://art.example, dialect: openai_images}
  - {name: chat, base_url: https://chat.example, dialect: openai}
models:
  - {id: plain, output_modalities: [image], price: {image: 0.054}, pool: [{provider: art, model: p}]}
  - id: strict
    output_modalities: [image]
    image: {sizes: [1024x1024, "16:9"], extra: [seed, style], most: 2}
    pool: [{provider: art, model: s}]
  - {id: brief, output_modalities: [image], image: {max_prompt: 10}, pool: [{provider: art, model: b}]}
  - {id: square, output_modalities: [image], image: {sizes: []}, pool: [{provider: art, model: q}]}
  - id: edit
    input_modalities: [text, image]
    output_modalities: [image]
    image: {needs_image: true, most_input_images: 2}
    pool: [{provider: art, model: e}]
  - {id: talk, pool: [{provider: chat, model: t}]}
aliases: {draw: plain, chatter: talk}
"""
SNAPSHOT = snapshot(TEXT)
URL = "https://cdn.example/cat.png"
DATA_URL = "data:image/png;base64,iVBORw0KGgo="


def read(field: str | None = None, /, **members: Any) -> ImageJobRequest:
    return read_image_request(msgspec.json.encode({"model": "plain", "prompt": "a cat", **members}), SNAPSHOT, field)


def asked(**members: Any) -> ImageRequest:
    return read(**members).request


def refusal(field: str | None = None, /, **members: Any) -> tuple[str | None, str]:
    """The member that the error names, and its message."""
    with pytest.raises(GatewayError) as caught:
        read(field, **members)
    assert caught.value.kind is Kind.INVALID_REQUEST
    return caught.value.param, caught.value.message


def refused_body(body: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read_image_request(body, SNAPSHOT, None)
    return caught.value


# ---- what is right


def test_a_model_and_a_prompt_are_enough() -> None:
    wanted = read()
    assert wanted.request == ImageRequest(model="plain", prompt="a cat", n=1)
    assert (wanted.alias, wanted.idempotency_key, wanted.route.model.id) == (None, None, "plain")
    assert [source.model for source in wanted.route.pool] == ["p"]


def test_every_member_that_the_model_takes_is_read() -> None:
    wanted = read(
        model="strict", n=2, size="16:9", idempotency_key="order 1", extra={"style": "ink"}, seed=7,
        response_format="b64_json", user="somebody", stream=False,
    )  # fmt: skip
    assert wanted.request == ImageRequest("strict", "a cat", 2, "16:9", (), (("seed", b"7"), ("style", b'"ink"')), "b64_json")
    assert wanted.idempotency_key == "order 1"


def test_a_request_for_an_alias_is_for_its_model_and_keeps_the_alias() -> None:
    wanted = read(model="draw")
    assert (wanted.request.model, wanted.alias) == ("plain", "draw")


@pytest.mark.parametrize(
    "member",
    ["n", "size", "image_url", "image_urls", "idempotency_key", "extra", "response_format", "user", "stream", "whatever"],
)
def test_a_member_that_is_null_counts_as_absent(member: str) -> None:
    assert read(**{member: None}) == read()


def test_a_null_within_extra_counts_as_absent() -> None:
    assert asked(model="strict", extra={"seed": None, "whatever": None}).extra == ()


def test_a_prompt_is_kept_unchanged_and_its_limit_counts_characters() -> None:
    assert asked(prompt=" a\ncat ").prompt == " a\ncat "
    assert len(asked(prompt="\N{CAT FACE}" * 4000).prompt) == 4000


@pytest.mark.parametrize("name", ["quality", "background", "moderation"])
def test_an_automatic_choice_counts_as_none(name: str) -> None:
    assert asked(**{name: "auto"}).extra == asked(extra={name: "auto"}).extra == ()
    assert refusal(**{name: "high"})[0] == name


@pytest.mark.parametrize("size", [None, "auto"])
def test_the_size_auto_counts_as_absent(size: str | None) -> None:
    assert asked(model="strict", size=size).size is None
    assert asked(model="square", size=size).size is None


def test_a_model_that_names_no_sizes_takes_any() -> None:
    assert asked(size="1234x5678").size == "1234x5678"
    assert asked(size="21:9").size == "21:9"


def test_input_pictures_come_as_image_url_as_image_urls_or_as_both() -> None:
    assert asked(model="edit", image_url=URL).images == (URL,)
    assert asked(model="edit", image_urls=[URL, DATA_URL]).images == (URL, DATA_URL)
    assert asked(model="edit", image_url=URL, image_urls=[DATA_URL]).images == (URL, DATA_URL)
    assert asked(image_urls=[]).images == ()


def test_a_member_both_in_extra_and_at_the_top_level_is_refused() -> None:
    with pytest.raises(GatewayError, match="'seed' is both in `extra` and at the top level") as refused:
        asked(model="strict", seed=1, extra={"seed": 2})
    assert refused.value.param == "extra"


def test_extra_members_are_kept_byte_for_byte() -> None:
    body = b'{"model":"strict","prompt":"a cat","extra":{"style":{"a" : [1.50,\t"\\u00e9"]},"seed":1e3}}'
    assert read_image_request(body, SNAPSHOT, None).request.extra == (
        ("seed", b"1e3"), ("style", b'{"a" : [1.50,\t"\\u00e9"]}'),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "member", "key"),
    [("h", None, "h"), (None, "b", "b"), ("same", "same", "same"), (None, "x" * 128, "x" * 128), (None, "a b~!", "a b~!")],
)
def test_an_idempotency_key_comes_from_the_body_or_the_header(field: str | None, member: str | None, key: str) -> None:
    assert read(field, idempotency_key=member).idempotency_key == key


# ---- what is wrong


def test_a_text_model_is_refused() -> None:
    message = "talk is a text model and makes no images; ask it at /v1/chat/completions."
    assert refusal(model="talk") == refusal(model="chatter") == ("model", message)


def test_an_unknown_model_is_a_404_that_names_the_closest() -> None:
    with pytest.raises(GatewayError) as caught:
        read(model="plian")
    assert (caught.value.kind, caught.value.param) == (Kind.MODEL_NOT_FOUND, "model")
    assert caught.value.message == "There is no model plian; did you mean plain? GET /v1/models lists them all."


@pytest.mark.parametrize("stream", [True, "true", 1])
def test_a_request_for_a_stream_is_refused(stream: object) -> None:
    assert refusal(stream=stream) == ("stream", "Images don't stream; leave `stream` out, or poll the job.")


@pytest.mark.parametrize("prompt", [None, "", " \n\t\u00a0"])
def test_a_blank_prompt_is_a_missing_one(prompt: str | None) -> None:
    assert refusal(prompt=prompt) == ("prompt", "`prompt` is missing; describe the picture.")


def test_a_prompt_above_the_limit_is_refused_and_not_cut() -> None:
    assert refusal(prompt="x" * 4001) == ("prompt", "`prompt` has 4001 characters; plain takes 4000.")


def test_each_model_has_its_own_limit_of_a_prompt() -> None:
    assert refusal(model="brief", prompt="x" * 11) == ("prompt", "`prompt` has 11 characters; brief takes 10.")
    assert asked(model="brief", prompt="x" * 10).prompt == "x" * 10


@pytest.mark.parametrize("name", ["prompt", "size", "image_url", "response_format", "idempotency_key"])
@pytest.mark.parametrize("value", [5, True, ["a"], {"a": "b"}])
def test_a_string_member_of_another_type_is_refused(name: str, value: object) -> None:
    assert refusal(model="edit", **{"image_url": URL, name: value}) == (name, f"`{name}` must be a string.")


@pytest.mark.parametrize("n", [0, -1, 5, 10**40, 1.0, 1.5, True, False, "1", [1], {}])
def test_n_is_a_whole_number_from_1_to_4(n: object) -> None:
    assert refusal(n=n) == ("n", "`n` must be a whole number from 1 to 4.")


@pytest.mark.parametrize("n", [b"1e0", b"01", b"-", b"9" * 5000])
def test_n_is_written_as_a_whole_number(n: bytes) -> None:
    error = refused_body(b'{"model":"plain","prompt":"a cat","n":' + n + b"}")
    assert error.kind in (Kind.INVALID_REQUEST, Kind.INVALID_JSON)


def test_n_above_what_the_model_makes_at_once_is_refused() -> None:
    message = "strict makes 2 at once; send `n` as 2 or less, or several requests."
    assert refusal(model="strict", n=3) == ("n", message)


def test_an_unknown_size_is_refused_with_the_sizes_of_the_model() -> None:
    message = "strict does not have the size '512x512'; it has 1024x1024, 16:9."
    assert refusal(model="strict", size="512x512") == ("size", message)
    assert refusal(model="square", size="1x1") == ("size", "square does not have the size '1x1'; leave `size` out.")
    assert len(refusal(model="strict", size="x" * 10_000)[1]) < 100


@pytest.mark.parametrize("size", ["", "x" * 33, "1\n2", "a\0", "banana", "0x1", "1024x", "999999x1", "1:0", "1024X1024"])
def test_a_size_is_a_width_and_a_height_or_a_ratio(size: str) -> None:
    message = "`size` must be a width and a height such as 1024x1024, or a ratio such as 16:9."
    assert refusal(size=size) == ("size", message)


@pytest.mark.parametrize("none", [{}, {"image_url": None}, {"image_urls": []}])
def test_a_model_that_edits_needs_a_picture(none: dict[str, Any]) -> None:
    message = "edit edits a picture; send it as `image_url`, a URL or a data URL."
    assert refusal(model="edit", **none) == ("image_url", message)


def test_an_input_picture_for_a_model_that_takes_none_is_refused() -> None:
    for name, value in (("image_url", URL), ("image_urls", [URL])):
        assert refusal(**{name: value}) == (name, f"plain takes no input picture; leave `{name}` out.")


def test_more_input_pictures_than_the_model_takes_are_refused() -> None:
    message = "edit takes 2 input picture(s)."
    assert refusal(model="edit", image_urls=[URL] * 3) == ("image_urls", message)
    assert refusal(model="edit", image_url=URL, image_urls=[URL] * 2) == ("image_urls", message)


@pytest.mark.parametrize("value", ["https://a.example", {"url": URL}, [1], [None], [[URL]], 5])
def test_image_urls_are_a_list_of_strings(value: object) -> None:
    assert refusal(model="edit", image_urls=value) == ("image_urls", "`image_urls` must be a list of strings.")


NO_URLS = [
    "", "cat.png", "/cat.png", "//a.example/cat.png", "javascript:alert(1)", "ftp://a.example/cat.png", "file:///etc/passwd",
    "https://", "https:///cat.png", "https://user:password@a.example/cat.png", "https://user@a.example/", "https://@a.example/",
    "https://a.example:0/", "https://a.example:99999/", "https://a.example:x/", "https://[::1/", "https://[zz]/",
    "https://a b/", "https://a.example/a b", " https://a.example/", "https://a.example/\n", "https://a.example/\x7f", "https://a.example/\u00e9",
    "https://a\\@b.example/", "http://a.example/" + "x" * 4096, "data:text/html;base64,PGI+", "data:image/png,abc",
    "data:image/png;base64,", "data:image/png;base64, aGk=", "data:image/;base64,aGk=", "blob:https://a.example/1",
    "data:image/png;base64,aGk\u00e9",
]  # fmt: skip


@pytest.mark.parametrize("url", NO_URLS)
def test_an_input_picture_that_is_no_valid_url_is_refused(url: str) -> None:
    message = "must be an http(s) URL, or a data URL of an image in base64."
    assert refusal(model="edit", image_url=url) == ("image_url", f"`image_url` {message}")
    assert refusal(model="edit", image_urls=[URL, url]) == ("image_urls", f"`image_urls` {message}")
    assert refusal(model="edit", image_url=url, image_urls=[URL]) == ("image_url", f"`image_url` {message}")


@pytest.mark.parametrize(
    "url",
    [
        URL, "http://a.example", "HTTPS://A.example:8443/x?y=z#f", "https://[::1]:80/a", "http://127.0.0.1/a",
        "https://xn--bcher-kva.example/%20", DATA_URL, "data:image/svg+xml;base64,PHN2Zz4=",
    ],
)  # fmt: skip
def test_a_valid_url_of_an_input_picture_is_passed_on_unchanged(url: str) -> None:
    assert asked(model="edit", image_url=url).images == (url,)


def test_a_data_url_may_be_large() -> None:
    url = DATA_URL + "A" * 4_000_000
    assert asked(model="edit", image_url=url).images == (url,)


def test_a_member_that_the_model_does_not_take_is_named_with_those_that_it_does() -> None:
    message = "strict does not take 'colour'; besides the common members it takes seed, style."
    assert refusal(model="strict", colour="red") == ("colour", message)
    assert refusal(model="strict", extra={"seed": 1, "colour": "red"}) == ("colour", message)
    assert refusal(colour="red") == ("colour", "plain does not take 'colour'; it takes no further members.")


@pytest.mark.parametrize("name", ["num_images", "image_size", "width", "sync_mode", "mask", "quality"])
def test_a_member_of_a_providers_own_is_refused_everywhere(name: str) -> None:
    assert refusal(model="strict", **{name: 1})[0] == name
    assert refusal(model="strict", extra={name: 1})[0] == name


@pytest.mark.parametrize("name", ["model", "prompt", "n", "size", "image_url", "user", "idempotency_key", "extra"])
def test_a_common_member_within_extra_is_refused(name: str) -> None:
    assert refusal(model="strict", extra={name: "x"})[0] == name


@pytest.mark.parametrize("name", ["a b", "", "x" * 5000, "a\nb"])
def test_an_odd_name_is_not_echoed_at_length(name: str) -> None:
    param, message = refusal(extra={name: 1})
    assert param == "extra"
    assert len(message) < 200


@pytest.mark.parametrize("extra", [5, "seed", [1], True])
def test_extra_is_an_object(extra: object) -> None:
    assert refusal(extra=extra) == ("extra", "`extra` must be an object.")


def test_text_that_is_not_utf_8_is_refused() -> None:
    error = refused_body(b'{"model":"strict","prompt":"a cat","extra":{"style":"\xff"}}')
    assert (error.kind, error.param, error.message) == (Kind.INVALID_REQUEST, "style", "`style` is not UTF-8.")
    assert refused_body(b'{"model":"strict","prompt":"\xff"}').param == "prompt"
    assert refused_body(b'{"model":"edit","prompt":"a","image_urls":["\xff"]}').param == "image_urls"


@pytest.mark.parametrize("form", ["png", "", "URL"])
def test_a_response_format_is_one_of_two(form: str) -> None:
    assert refusal(response_format=form) == ("response_format", "`response_format` must be url or b64_json.")


def test_an_idempotency_key_that_differs_from_the_header_is_refused() -> None:
    message = "The header Idempotency-Key and `idempotency_key` differ; send one of them."
    assert refusal("one", idempotency_key="other") == ("idempotency_key", message)


@pytest.mark.parametrize("key", ["", " ", "a ", " a", "x" * 129, "a\nb", "\u00e9", "a\0", "a\x7f", "\udce9"])
def test_an_idempotency_key_that_is_long_or_not_printable_is_refused(key: str) -> None:
    message = "An idempotency key has 1 to 128 printable ASCII characters."
    assert refusal(key) == ("idempotency_key", message)
    if key.isascii() or key == "\u00e9":  # half of a surrogate pair can't be in a body
        assert refusal(idempotency_key=key) == ("idempotency_key", message)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", Kind.INVALID_JSON, "not valid JSON"),
        (b"{", Kind.INVALID_JSON, "not valid JSON"),
        (b"[]", Kind.INVALID_REQUEST, "must be one JSON object"),
        (b'"prompt"', Kind.INVALID_REQUEST, "must be one JSON object"),
        (b'{"model":"plain"}{}', Kind.INVALID_JSON, "not valid JSON"),
        (b'{"prompt":"a"}', Kind.INVALID_REQUEST, "no `model`"),
        (b'{"model":null,"prompt":"a"}', Kind.INVALID_REQUEST, "`model` must be a string"),
        (b'{"model":"plain","prompt":"a","prompt":"b"}', Kind.INVALID_JSON, "same member twice"),
        (b'{"model":"plain","prompt":"a","n":1,"\\u006e":4}', Kind.INVALID_JSON, "same member twice"),
        (b'{"model":"plain","prompt":"a","extra":{"seed":1,"seed":2}}', Kind.INVALID_JSON, "same member twice"),
        (b'{"model":"plain","prompt":"a","extra":{"seed": 1 ,"se\\u0065d":1}}', Kind.INVALID_JSON, "same member twice"),
        (b'{"model":"plain","prompt":"a","N":4}', Kind.INVALID_REQUEST, "write it as `n`"),
        (b'{"model":"plain","prompt":"a","Size":"1x1"}', Kind.INVALID_REQUEST, "does not take 'Size'"),
        (b'{"model":"plain","prompt":"a","extra":' + b"[" * 100_000 + b"}", Kind.INVALID_JSON, "nested too deeply"),
        (b'{"\xff":1}', Kind.INVALID_JSON, "not UTF-8"),
    ],
)
def test_a_body_that_is_no_json_object_with_a_model_is_refused(body: bytes, kind: Kind, message: str) -> None:
    error = refused_body(body)
    assert error.kind is kind
    assert message in error.message


def test_no_message_repeats_the_prompt() -> None:
    for wrong in ({"n": 9}, {"size": ""}, {"zzz": 1}, {"stream": True}, {"image_url": "x"}, {"prompt": "SECRET" * 1000}):
        assert "SECRET" not in refusal(**{"prompt": "SECRET", **wrong})[1]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(
    ["prompt", "n", "size", "image_url", "image_urls", "idempotency_key", "extra", "response_format", "stream", "seed", "x"]
)


@settings(max_examples=150)
@given(st.sampled_from(["plain", "strict", "edit", "square", "draw"]), st.dictionaries(_names, _values, max_size=5))
@example("edit", {"prompt": "a", "image_urls": [URL]})
def test_any_members_are_read_or_refused_with_a_message(model: str, members: dict[str, object]) -> None:
    try:
        wanted = read_image_request(msgspec.json.encode({"prompt": "a cat", **members, "model": model}), SNAPSHOT, None)
    except GatewayError as error:
        refused: GatewayError | None = error
    else:
        refused = None
        rules = wanted.route.model.image
        assert 1 <= wanted.request.n <= rules.most
        assert {name for name, _ in wanted.request.extra} <= set(rules.extra)
        assert len(wanted.request.images) <= rules.most_input_images
    if refused is not None:
        assert refused.kind in (Kind.INVALID_REQUEST, Kind.INVALID_JSON)
        assert refused.message.endswith(".")
        assert len(refused.message) < 300


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text("htps:/@[]#?.%\\ x0", max_size=30).map(lambda rest: f"https://{rest}"))
def test_a_text_that_counts_as_a_url_has_a_host_and_no_password(text: str) -> None:
    if is_web_url(text):
        assert text.lower().startswith(("http://", "https://"))
        assert text.isascii()
        assert "@" not in text.partition("//")[2].partition("/")[0].partition("?")[0].partition("#")[0]
