"""Finds the `model` in a form (multipart/form-data) while it comes, in whatever pieces. (RFC 7578, RFC 2046 §5.1.1)

Only the headers of parts and the value of `model` are kept; a file passes by. A form that two readers could divide into
different parts is refused: with a preamble or an epilogue, with the boundary anywhere but in a whole delimiter line, with bare
line feeds or padding there, with `model` twice or as a file.
"""

from __future__ import annotations

from typing import Final

from kyma_proxy.core.http.form_part import Part, bad_form, read_part
from kyma_proxy.errors import GatewayError, Kind

_MAX_HEAD_BYTES: Final = 8 * 1024
_MAX_PARTS: Final = 200
_MAX_MODEL_CHARACTERS: Final = 256
_MAX_FIELD_BYTES: Final = 4 * _MAX_MODEL_CHARACTERS
_FIRST_BYTES: Final = 128
_READ_FIELDS: Final = (b"model", b"stream")
_START, _HEAD, _CONTENT, _LINE, _END = 0, 1, 2, 3, 4


class FormReader:
    """The parts of a form. `start` and `end` enclose the value of `model` in it, as soon as that is known.

    `size` are the bytes that were read. `file_bytes` are those of the first file, and `file_begins` the first of them.
    """

    __slots__ = (
        "_boundary", "_content", "_held", "_model", "_name", "_parts", "_skipped", "_state", "end", "file_begins", "file_bytes",
        "model", "size", "start", "streams",
    )  # fmt: skip

    def __init__(self, boundary: bytes) -> None:
        self._boundary = b"--" + boundary
        self._held = b""
        self._state = _START
        self._parts = 0
        self._name: Part | None = None
        self._content = b""
        self._skipped = 0
        self._model: bytes | None = None
        self.size = 0
        self.model: str | None = None
        self.start = self.end = 0
        self.streams = False
        self.file_bytes = 0
        self.file_begins = b""

    def feed(self, piece: bytes) -> None:
        """Read on. Raises GatewayError."""
        self.size += len(piece)
        self._held = self._held + piece if self._held else piece
        while self._step():
            pass

    def finish(self) -> None:
        """The form has ended. Raises GatewayError if it is not whole, or has no `model`."""
        if self._state != _END:
            raise bad_form("The form lacks its last boundary; send it whole")
        if self._held not in (b"", b"\r\n"):
            raise bad_form("Something follows the last boundary of the form")
        if self.model is None:
            raise GatewayError(Kind.INVALID_REQUEST, "The form has no field `model`; GET /v1/models lists them.", param="model")

    def _step(self) -> bool:
        """Read the next thing, if all of it has come."""
        state = self._state
        if state == _CONTENT:
            return self._read_content()
        if state == _LINE:
            return self._read_line_end()
        if state == _HEAD:
            return self._read_head()
        if state == _START:
            return self._read_start()
        if len(self._held) > 2 or not b"\r\n".startswith(self._held):
            raise bad_form("Something follows the last boundary of the form")
        return False

    def _read_start(self) -> bool:
        wanted, held = self._boundary, self._held
        if not held.startswith(wanted):
            if wanted.startswith(held):
                return False
            raise bad_form("The form does not begin with the boundary that its Content-Type names")
        self._held = held[len(wanted) :]
        self._state = _LINE
        return True

    def _read_line_end(self) -> bool:
        """A delimiter is followed by the end of its line, or it is the last one and is followed by two hyphens."""
        if len(self._held) < 2:
            return False
        follows, self._held = self._held[:2], self._held[2:]
        if follows == b"--" and self._parts:
            self._state = _END
        elif follows == b"\r\n":
            self._state = _HEAD
            self._parts += 1
            if self._parts > _MAX_PARTS:
                raise bad_form(f"The form has more than {_MAX_PARTS} parts")
        else:
            raise bad_form("The boundary of the form stands within its content, or its line is padded")
        return True

    def _read_head(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end > _MAX_HEAD_BYTES or (end < 0 and len(self._held) > _MAX_HEAD_BYTES):
            raise bad_form(f"The headers of a part of the form are larger than {_MAX_HEAD_BYTES} bytes")
        if end < 0:
            return False
        part = self._name = read_part(self._held[:end])
        self._check(part)
        self._held = self._held[end + 2 :]  # the line end before the first delimiter may be that of the empty line
        self._content, self._skipped = b"", 2
        self._state = _CONTENT
        if part.name == b"model":
            self.start = self.size - len(self._held) + 2
        return True

    def _check(self, part: Part) -> None:
        name = part.name
        if name == b"model":
            if self._model is not None:
                raise GatewayError(Kind.INVALID_REQUEST, "The form has the field `model` twice; send it once.", param="model")
            if part.is_file:
                raise GatewayError(Kind.INVALID_REQUEST, "`model` must be a field of the form, and no file.", param="model")
            self._model = b""
        elif name.strip(b" \t").lower().partition(b"[")[0] == b"model":
            raise GatewayError(Kind.INVALID_REQUEST, "The form has a field that is almost `model`; spell it so.", param="model")
        elif name == b"_charset_":
            raise bad_form("A form that names its character set (`_charset_`) is not read; send UTF-8 without it")

    def _read_content(self) -> bool:
        """The line end before a delimiter belongs to it, so what may be its beginning is held."""
        held, boundary = self._held, self._boundary
        found = held.find(boundary)
        if found < 0:
            passed = len(held) - len(boundary) - 1
            if passed > 0:
                self._take(held[:passed])
                self._held = held[passed:]
            return False
        if found < 2 or held[found - 2 : found] != b"\r\n":
            raise bad_form("The boundary of the form stands within its content")
        self._take(held[: found - 2])
        self._held = held[found + len(boundary) :]
        self._state = _LINE
        self._close()
        return True

    def _take(self, content: bytes) -> None:
        """Take content of the part, without the line end of the empty line before it."""
        part = self._name
        if part is None:
            return
        if self._skipped:
            skipped = min(self._skipped, len(content))
            self._skipped -= skipped
            content = content[skipped:]
        if part.is_file:
            self.file_bytes += len(content)
            if len(self.file_begins) < _FIRST_BYTES:
                self.file_begins += content[: _FIRST_BYTES - len(self.file_begins)]
        elif part.name in _READ_FIELDS:
            self._content += content
            if len(self._content) > _MAX_FIELD_BYTES:
                self._refuse_long(part)

    def _refuse_long(self, part: Part) -> None:
        if part.name == b"model":
            raise _unfit_model()
        self._content = self._content[:_MAX_FIELD_BYTES]

    def _close(self) -> None:
        """The part is whole."""
        part = self._name
        assert part is not None  # noqa: S101  (its headers were read)
        if part.name == b"stream" and not part.is_file:
            self.streams = self._content == b"true"
        elif part.name == b"model":
            self.end = self.start + len(self._content)
            self.model = _model(self._content)
        self._name = None


def _model(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise bad_form("`model` is not UTF-8") from None
    if not 0 < len(text) <= _MAX_MODEL_CHARACTERS or not text.isprintable():
        raise _unfit_model()
    return text


def _unfit_model() -> GatewayError:
    message = f"`model` must have 1 to {_MAX_MODEL_CHARACTERS} characters, on one line."
    return GatewayError(Kind.INVALID_REQUEST, message, param="model")
