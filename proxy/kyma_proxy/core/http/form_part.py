"""Reads the headers of a part of a form. (RFC 7578 §4, RFC 2046 §5.1, RFC 2183)

A form is read by the gateway and then by a provider. Where two readers could take a part for different ones it is refused: a
header that is folded or comes twice, a name that is escaped, a quote within a file's name that only a backslash marks.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kyma_proxy.errors import GatewayError, Kind

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_DISPOSITION: Final = re.compile(rb"form-data((?:[ \t]*;.*)?)", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    rb"[ \t]*;[ \t]*(" + _TOKEN + rb")=(?:(" + _TOKEN + rb')|"((?:[^"\\]|\\(?!"))*+)")(?=[ \t]*(?:;|\Z))'
)
_IDENTITY: Final = frozenset({b"7bit", b"8bit", b"binary"})
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_FORM_TYPE: Final = re.compile(rb"multipart/form-data((?:[ \t]*;.*)?)", re.IGNORECASE)


class Part(NamedTuple):
    """The name of a part; `is_file`: it has the name of a file."""

    name: bytes
    is_file: bool


def boundary_of(content_type: bytes | None) -> bytes:
    """The boundary that a Content-Type names. Raises GatewayError unless it is that of a form, and has one."""
    found = None if content_type is None else _FORM_TYPE.fullmatch(content_type.strip(b" \t"))
    if found is None:
        raise bad_form("This endpoint takes a form; send it as `multipart/form-data`", Kind.UNSUPPORTED_ENCODING)
    boundary = _parameters(found[1], "Content-Type").get(b"boundary")
    if boundary is None or _BOUNDARY.fullmatch(boundary) is None:
        raise bad_form("The Content-Type of a form needs a `boundary` of 1 to 70 of the characters of RFC 2046")
    return boundary


def read_part(head: bytes) -> Part:
    """Read the headers of a part, without the empty line behind them. Raises GatewayError."""
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            raise bad_form("A header of a part of the form is not `name: value`, or is folded")
        name = match[1].lower()
        if name in fields:
            raise bad_form("A part of the form has the same header twice")
        fields[name] = match[2].rstrip(b" \t")
    disposition = _DISPOSITION.fullmatch(fields.get(b"content-disposition", b""))
    if disposition is None:
        raise bad_form("Each part of the form needs a header `Content-Disposition: form-data; name=…`")
    if fields.get(b"content-type", b"").lower().startswith(b"multipart/"):
        raise bad_form("A part of the form is multipart itself; send each file as a part of its own")
    parameters = _parameters(disposition[1], "Content-Disposition")
    part_name = parameters.get(b"name")
    if part_name is None or b"name*" in parameters or b"\\" in part_name:
        raise bad_form("Each part of the form needs one `name`, plainly written")
    is_file = b"filename" in parameters or b"filename*" in parameters
    if not is_file and fields.get(b"content-transfer-encoding", b"binary").lower() not in _IDENTITY:
        raise bad_form("A field of the form has a transfer encoding; send it as it is")
    return Part(part_name, is_file)


def _parameters(text: bytes, header: str) -> dict[bytes, bytes]:
    """The parameters behind a header's value, by their names in lower case."""
    parameters: dict[bytes, bytes] = {}
    position = 0
    while (match := _PARAMETER.match(text, position)) is not None:
        name = match[1].lower()
        if name in parameters:
            raise bad_form(f"A {header} of the form has the same parameter twice")
        parameters[name] = match[3] if match[2] is None else match[2]
        position = match.end()
    if text[position:].strip(b" \t"):
        raise bad_form(f"A {header} of the form can be read in several ways; write a quote in a file's name as %22")
    return parameters


def bad_form(message: str, kind: Kind = Kind.INVALID_REQUEST) -> GatewayError:
    """The error for a form that can't be read, or that two readers could read differently."""
    return GatewayError(kind, f"{message}.")
