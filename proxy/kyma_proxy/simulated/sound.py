"""Makes simulated sound, and simulated transcripts of it. Pure."""

from __future__ import annotations

import array
import math
import struct
import sys
from typing import Final

from kyma_proxy.simulated.request_fields import BadRequest, Json, required_model

_RATE: Final = 8000
_PITCH_HZ: Final = 440
_CHARACTERS_PER_S: Final = 15
_MAX_CHARACTERS: Final = 4096
_MAX_S: Final = 30
_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FORMATS: Final = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
_TRANSCRIPT: Final = "This is the transcript of the simulated provider; no model ran."


def speak(body: Json) -> bytes:
    """Returns a WAV file with a tone as long as the text would take; raises BadRequest."""
    required_model(body)
    text = body.get("input")
    if not isinstance(text, str) or not text:
        raise BadRequest("'input' must be a text that is not empty.", "input")
    if len(text) > _MAX_CHARACTERS:
        raise BadRequest(f"'input' has at most {_MAX_CHARACTERS} characters.", "input")
    if not isinstance(body.get("voice"), str | dict):
        raise BadRequest("'voice' is missing.", "voice")
    count = min(_MAX_S * _RATE, max(1, len(text) * _RATE // _CHARACTERS_PER_S))
    samples = array.array("h", (round(8000 * math.sin(2 * math.pi * _PITCH_HZ * at / _RATE)) for at in range(count)))
    if sys.byteorder == "big":
        samples.byteswap()
    sound = samples.tobytes()
    size = len(sound)
    return _HEADER.pack(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, _RATE, 2 * _RATE, 2, 16, b"data", size) + sound


def seconds_of(sound: bytes) -> float:
    """Returns the length of a sound: that of a WAV file by its header, and of any other at 32 kbit/s."""
    if sound[:4] == b"RIFF" and len(sound) >= _HEADER.size:
        per_s = _HEADER.unpack_from(sound)[8]
        return (len(sound) - _HEADER.size) / per_s if per_s else 0.0
    return len(sound) / 4000


def transcribe(fields: dict[str, str], sound: bytes, *, task: str) -> Json | str:
    """Returns a transcript as `response_format` wants it, an object or a text; raises BadRequest."""
    required_model({"model": fields.get("model")})
    form = fields.get("response_format", "json")
    if form not in _FORMATS:
        raise BadRequest(f"'response_format' must be one of {', '.join(_FORMATS)}.", "response_format")
    if not sound:
        raise BadRequest("'file' is missing.", "file")
    seconds = seconds_of(sound)
    if form == "text":
        return _TRANSCRIPT + "\n"
    if form in ("srt", "vtt"):
        mark = "," if form == "srt" else "."
        begin = "1\n" if form == "srt" else "WEBVTT\n\n"
        return f"{begin}00:00:00{mark}000 --> 00:00:01{mark}000\n{_TRANSCRIPT}\n\n"
    usage: Json = {"type": "duration", "seconds": math.ceil(seconds)}
    if form == "json":
        return {"text": _TRANSCRIPT, "usage": usage}
    segment: Json = {"id": 0, "start": 0.0, "end": seconds, "text": _TRANSCRIPT}
    return {
        "task": task, "language": "english", "duration": seconds, "text": _TRANSCRIPT, "segments": [segment], "usage": usage,
    }  # fmt: skip
