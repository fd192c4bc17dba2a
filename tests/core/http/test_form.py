"""A form's `model` is found in whatever pieces it comes, and a form that two readers could read differently is refused."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.http.form import FormReader
from kyma_proxy.core.http.form_part import boundary_of
from kyma_proxy.errors import GatewayError, Kind
from tests.forms import BOUNDARY, end, field, file

SOUND = b"RIFF\r\n--\r\n----\x00\xff\r\n--x\r" * 3
FORMS = {
    "model first": field("model", b"whisper-1") + file(SOUND) + end(),
    "model last": file(SOUND) + field("language", b"en") + field("model", b"whisper-1") + end(),
    "model alone": field("model", b"whisper-1") + end(),
    "an empty file": field("model", b"whisper-1") + file(b"") + end(),
    "an empty field": field("prompt", b"") + field("model", b"whisper-1") + end(),
    "no line end at the end": field("model", b"whisper-1") + file(SOUND) + end()[:-2],
    "many fields of a name": field("t[]", b"word") + field("t[]", b"segment") + field("model", b"whisper-1") + end(),
    "the word within a file": file(b'name="model"\r\n\r\nother\r\n') + field("model", b"whisper-1") + end(),
}


def read(body: bytes, *pieces: int, boundary: bytes = BOUNDARY) -> FormReader:
    form = FormReader(boundary)
    ends = sorted({*(one for one in pieces if one < len(body)), len(body)})
    start = 0
    for stop in ends:
        form.feed(body[start:stop])
        start = stop
    form.finish()
    return form


def refusal(body: bytes, boundary: bytes = BOUNDARY) -> str:
    with pytest.raises(GatewayError) as found:
        read(body, boundary=boundary)
    for at in range(len(body)):  # no cut changes the verdict
        with pytest.raises(GatewayError):
            read(body, at, boundary=boundary)
    assert found.value.kind.status in (400, 431)
    return found.value.message


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_the_model_and_its_place_are_found_at_every_cut(body: bytes) -> None:
    place = body.index(b"whisper-1")
    for first in range(len(body) + 1):
        form = read(body, first)
        assert (form.model, form.start, form.end, form.size) == ("whisper-1", place, place + 9, len(body))
    by_bytes = read(body, *range(len(body)))
    assert (by_bytes.model, by_bytes.start, by_bytes.end) == ("whisper-1", place, place + 9)


def test_the_model_is_known_as_soon_as_it_has_come() -> None:
    form = FormReader(BOUNDARY)
    form.feed(field("model", b"whisper-1") + b"--" + BOUNDARY)
    assert form.model == "whisper-1"


def test_the_size_and_the_beginning_of_the_file_are_known() -> None:
    for at in (0, 1, 80, 200, 220):
        form = read(field("model", b"m") + file(SOUND * 20) + end(), at)
        assert form.file_bytes == len(SOUND * 20)
        assert form.file_begins == (SOUND * 20)[:128]


def test_a_stream_is_known() -> None:
    assert read(field("model", b"m") + field("stream", b"true") + end()).streams
    assert not read(field("model", b"m") + field("stream", b"false") + end()).streams


NOT_ALONE = field("model", b"m")
DISPOSITION = b"Content-Disposition: form-data; "


def part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


HOSTILE = {
    "model twice": field("model", b"a") + field("model", b"b") + end(),
    "model twice around a file": field("model", b"a") + file(SOUND) + field("model", b"b") + end(),
    "model as a file": file(b"m", name="model") + end(),
    "no model": file(SOUND) + end(),
    "an empty model": field("model", b"") + end(),
    "a model of two lines": field("model", b"a\r\nb") + end(),
    "a long model": field("model", b"m" * 257) + end(),
    "a model that never ends": field("model", b"m" * 5000) + end(),
    "a model that is not UTF-8": field("model", b"\xff\xfe") + end(),
    "a model in capitals": field("model", b"m") + field("Model", b"n") + end(),
    "a list of models": field("model[]", b"m") + field("model", b"m") + end(),
    "no end": NOT_ALONE + file(SOUND),
    "half an end": NOT_ALONE + b"--" + BOUNDARY + b"-",
    "an end alone": end(),
    "nothing": b"",
    "a preamble": b"preamble\r\n" + NOT_ALONE + end(),
    "a line end first": b"\r\n" + NOT_ALONE + end(),
    "an epilogue": NOT_ALONE + end() + b"more",
    "a second form": NOT_ALONE + end() + NOT_ALONE + end(),
    "bare line feeds": NOT_ALONE.replace(b"\r\n", b"\n") + end(),
    "a bare line feed before a boundary": file(b"x\n--" + BOUNDARY + b"\r\ny") + NOT_ALONE + end(),
    "a bare return before a boundary": file(b"x\r--" + BOUNDARY + b"\r\ny") + NOT_ALONE + end(),
    "a boundary within a line": file(b"x --" + BOUNDARY + b" y") + NOT_ALONE + end(),
    "a longer boundary": file(b"x\r\n--" + BOUNDARY + b"0\r\ny") + NOT_ALONE + end(),
    "a padded boundary": NOT_ALONE + b"--" + BOUNDARY + b"  \r\n" + file(SOUND)[len(BOUNDARY) + 4 :] + end(),
    "another boundary": field("model", b"m", b"other") + end(b"other"),
    "thousands of parts": field("a", b"") * 3000 + NOT_ALONE + end(),
    "64 KiB of headers": part(DISPOSITION + b'name="a"\r\nX-A: ' + b"a" * 65536) + NOT_ALONE + end(),
    "headers without an end": b"--" + BOUNDARY + b"\r\n" + b"A: b\r\n" * 20_000,
    "no headers": b"--" + BOUNDARY + b"\r\n\r\nx\r\n" + NOT_ALONE + end(),
    "no disposition": part(b"Content-Type: text/plain") + NOT_ALONE + end(),
    "two dispositions": part(DISPOSITION + b'name="a"\r\n' + DISPOSITION + b'name="model"') + NOT_ALONE + end(),
    "a folded header": part(DISPOSITION + b'\r\n name="model"') + NOT_ALONE + end(),
    "a header without a colon": part(DISPOSITION + b'name="a"\r\nnonsense') + NOT_ALONE + end(),
    "a space before the colon": part(b'Content-Disposition : form-data; name="a"') + NOT_ALONE + end(),
    "another disposition": part(b'Content-Disposition: attachment; name="a"') + NOT_ALONE + end(),
    "no name": part(DISPOSITION + b'filename="a"') + NOT_ALONE + end(),
    "two names": part(DISPOSITION + b'name="a"; name="model"') + NOT_ALONE + end(),
    "a name in two alphabets": part(DISPOSITION + b"name=\"a\"; name*=utf-8''model") + NOT_ALONE + end(),
    "an escaped name": part(DISPOSITION + b'name="mo\\del"') + NOT_ALONE + end(),
    "a quote in a file's name": part(DISPOSITION + b'name="a"; filename="b\\"; name=\\"model"') + NOT_ALONE + end(),
    "a file's name without its quote": part(DISPOSITION + b'name="a"; filename="b') + NOT_ALONE + end(),
    "a line end in a file's name": part(DISPOSITION + b'name="a"; filename="b\r\nX: y"') + NOT_ALONE + end(),
    "a null in a name": part(DISPOSITION + b'name="model\x00"') + NOT_ALONE + end(),
    "a nested form": part(DISPOSITION + b'name="a"\r\nContent-Type: multipart/mixed; boundary=b') + NOT_ALONE + end(),
    "a coded model": part(DISPOSITION + b'name="model"\r\nContent-Transfer-Encoding: base64', b"bQ==") + end(),
    "another character set": field("_charset_", b"utf-16") + NOT_ALONE + end(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_form_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    if len(body) < 2000:
        assert refusal(body).endswith(".")
    else:
        with pytest.raises(GatewayError):
            read(body)


@pytest.mark.parametrize(
    "filename", ["a b.mp3", "é.mp3", "C:\\\\music\\\\a.mp3", "a%22b%0D%0A.mp3", "name=model;x", "--", "a;b"]
)
def test_usual_names_of_files_are_taken(filename: str) -> None:
    assert read(field("model", b"m") + file(SOUND, filename=filename) + end()).model == "m"


@pytest.mark.parametrize(("written", "boundary"), [
    (b"multipart/form-data; boundary=abc", b"abc"), (b'multipart/form-data; boundary="a b:c"', b"a b:c"),
    (b"Multipart/Form-Data;charset=utf-8;Boundary=abc", b"abc"), (b"multipart/form-data; boundary=" + b"a" * 70, b"a" * 70),
])  # fmt: skip
def test_the_boundary_is_read_as_it_is_written(written: bytes, boundary: bytes) -> None:
    assert boundary_of(written) == boundary


@pytest.mark.parametrize("written", [
    b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=" + b"a" * 71,
    b"multipart/form-data; boundary=a; boundary=b", b'multipart/form-data; boundary="a\\"b"',
    b'multipart/form-data; boundary="a ',
    b'multipart/form-data; boundary="a "', b"multipart/form-data; boundary=a b", b"multipart/form-data, boundary=a",
    b'multipart/form-data; boundary="a<b"',
])  # fmt: skip
def test_a_boundary_that_two_readers_could_read_differently_is_refused(written: bytes) -> None:
    with pytest.raises(GatewayError) as found:
        boundary_of(written)
    assert found.value.kind.status in (400, 415)


@pytest.mark.parametrize("written", [None, b"application/json", b"multipart/mixed; boundary=a", b"", b"multipart/form-dataa"])
def test_a_body_that_is_no_form_is_refused_with_what_to_send(written: bytes | None) -> None:
    with pytest.raises(GatewayError, match="multipart/form-data") as found:
        boundary_of(written)
    assert found.value.kind is Kind.UNSUPPORTED_ENCODING


@given(
    st.lists(st.one_of(
        st.tuples(st.just("field"), st.text("abcxyz_", min_size=1, max_size=8).filter(lambda name: name != "model"),
                  st.binary(max_size=40)),
        st.tuples(st.just("file"), st.text("abc", min_size=1, max_size=8), st.binary(max_size=300)),
    ), max_size=8),
    st.text("abc-/.", min_size=1, max_size=30), st.integers(0, 8), st.lists(st.integers(0, 4000), max_size=12),
)  # fmt: skip
def test_whatever_stands_around_it_the_model_can_be_replaced(
    others: list[tuple[str, str, bytes]], model: str, at: int, cuts: list[int]
) -> None:
    parts = [field(name, value) if kind == "field" else file(value, name=name) for kind, name, value in others]
    before, behind = b"".join(parts[:at]), b"".join(parts[at:])
    body = before + field("model", model.encode()) + behind + end()
    form = read(body, *cuts)
    assert form.model == model
    assert body[: form.start] + b"other" + body[form.end :] == before + field("model", b"other") + behind + end()


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_garbage_is_refused_alike_in_whatever_pieces(garbage: bytes, cuts: list[int]) -> None:
    body = field("model", b"m") + garbage
    found: list[str] = []
    for pieces in ((), cuts):
        try:
            found.append(str(read(body, *pieces).model))
        except GatewayError as error:
            found.append(error.kind.code)
    assert found[0] == found[1]


TOKENS = (
    b"\r\n", b"\n", b"\r", b"--", b"--" + BOUNDARY, b"\r\n--" + BOUNDARY + b"\r\n", b"--" + BOUNDARY + b"--", b'"', b"\\", b";",
    b"=", b" ", b"\t", b":", b'name="model"', b"name=model", b"; filename=x", b"filename*=utf-8''x", DISPOSITION, b"\x00",
    b"\xff", b"\r\n\r\n", b"Content-Type: multipart/mixed; boundary=" + BOUNDARY, b"Content-Transfer-Encoding: base64\r\n",
)  # fmt: skip
Change = tuple[int, int, bytes]


def models_by_another_reader(body: bytes) -> list[bytes]:
    """The values of the fields `model`, as Python's own parser of messages sees them."""
    head = b"content-type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    named = [part for part in message.walk() if part.get_param("name", header="content-disposition") == "model"]
    return [bytes(part.get_payload(decode=True)) for part in named]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*FORMS.values()]),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 12), st.sampled_from(TOKENS)), min_size=1, max_size=4),
)
def test_another_reader_sees_the_same_model_in_every_form_that_is_taken(form: bytes, changes: list[Change]) -> None:
    for at, length, token in changes:
        form = form[:at] + token + form[at + length :]
    try:
        model = read(form).model
    except GatewayError:
        return
    assert models_by_another_reader(form) == [str(model).encode()]
