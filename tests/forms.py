"""Forms as the SDKs send them, for tests."""

from __future__ import annotations

BOUNDARY = b"----WebKitFormBoundaryx7"


def field(name: str, value: bytes, boundary: bytes = BOUNDARY) -> bytes:
    """A field of a form."""
    return b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary, name.encode(), value)


def file(content: bytes, *, name: str = "file", filename: str = "a.wav", boundary: bytes = BOUNDARY) -> bytes:
    """A file of a form."""
    named = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: audio/wav\r\n\r\n'
    return b"--%b\r\n%b%b\r\n" % (boundary, named.encode(), content)


def end(boundary: bytes = BOUNDARY) -> bytes:
    """The end of a form."""
    return b"--%b--\r\n" % boundary


def form_type(boundary: bytes = BOUNDARY) -> str:
    """The header line that names the boundary."""
    return f"content-type: multipart/form-data; boundary={boundary.decode()}\r\n"


def wav(milliseconds: int) -> bytes:
    """A silent WAV file of so many milliseconds: 8 kHz, 16 bits, one channel."""
    sound = bytes(milliseconds * 16)
    size = len(sound)
    form = (1).to_bytes(2, "little") + (1).to_bytes(2, "little") + (8000).to_bytes(4, "little")
    form += (16_000).to_bytes(4, "little") + (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    return head + form + b"data" + size.to_bytes(4, "little") + sound
