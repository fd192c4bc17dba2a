"""Providers of sound, judgements and sorted documents that refuse what the real ones refuse, each rule with its source.

They answer what is sound with the documented shape. OPENAI is the reference of OpenAI's API as openai-python 3.54 has it
(`types/audio`, `types/moderation_create_params.py`), COHERE https://docs.cohere.com/reference/rerank, read in 2026-11.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.harness import Received, whole

Fields = dict[str, list[Any]]
OPENAI, COHERE = "openai-python 3.54", "docs.cohere.com/reference/rerank"
_FORMATS: Final = ("flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "wav", "webm")
_VOICES: Final = (
    "alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin", "cedar",
)  # fmt: skip
_TRANSCRIPTION: Final = {
    "file", "model", "chunking_strategy", "include[]", "language", "prompt", "response_format", "stream", "temperature",
    "timestamp_granularities[]",
}  # fmt: skip


class Rule(NamedTuple):
    """A rule, the source that says so, and a function that returns True if the members of a request keep to it."""

    says: str
    source: str
    keeps: Callable[[Fields], bool]


def _one(fields: Fields, name: str, otherwise: Any = None) -> Any:
    return fields.get(name, [otherwise])[0]


def _is_known(known: set[str]) -> Callable[[Fields], bool]:
    return lambda fields: set(fields) <= known


_FORM: Final = (
    Rule("the model is the one of this provider", OPENAI, lambda fields: fields.get("model") == [b"real-0"]),
    Rule("a file in a known format", OPENAI, lambda fields: str(_one(fields, "file.name", "")).rpartition(".")[2] in _FORMATS),
    Rule("a known response_format", OPENAI, lambda fields: _one(fields, "response_format", b"json") in (
        b"json", b"text", b"srt", b"verbose_json", b"vtt",
    )),
    Rule("granularities only with verbose_json", OPENAI, lambda fields: (
        "timestamp_granularities[]" not in fields or _one(fields, "response_format") == b"verbose_json"
    )),
)  # fmt: skip
RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "/v1/audio/transcriptions": (
        *_FORM, Rule("no unknown field", OPENAI, _is_known({*_TRANSCRIPTION, "file.name"})),
    ),
    "/v1/audio/translations": (
        *_FORM,
        Rule("no unknown field", OPENAI, _is_known({"file", "file.name", "model", "prompt", "response_format", "temperature"})),
    ),
    "/v1/audio/speech": (
        Rule("the model is the one of this provider", OPENAI, lambda fields: _one(fields, "model") == "real-0"),
        Rule("input of at most 4096 characters", OPENAI, lambda fields: 0 < len(_one(fields, "input", "")) <= 4096),
        Rule("a built-in voice", OPENAI, lambda fields: _one(fields, "voice") in _VOICES),
        Rule("speed from 0.25 to 4", OPENAI, lambda fields: 0.25 <= _one(fields, "speed", 1) <= 4),
        Rule("no unknown member", OPENAI, _is_known({
            "model", "input", "voice", "instructions", "response_format", "speed", "stream_format",
        })),
    ),
    "/v1/moderations": (
        Rule("the model is the one of this provider", OPENAI, lambda fields: _one(fields, "model") == "real-0"),
        Rule("an input", OPENAI, lambda fields: bool(_one(fields, "input"))),
        Rule("no unknown member", OPENAI, _is_known({"model", "input"})),
    ),
    "/v1/rerank": (
        Rule("the model is the one of this provider", COHERE, lambda fields: _one(fields, "model") == "real-0"),
        Rule("a query", COHERE, lambda fields: bool(_one(fields, "query"))),
        Rule("documents are texts", COHERE, lambda fields: all(isinstance(one, str) for one in _one(fields, "documents", [0]))),
        Rule("no unknown member", COHERE, _is_known({
            "model", "query", "documents", "top_n", "max_tokens_per_doc", "priority",
        })),
    ),
}  # fmt: skip
_SPOKEN: Final = whole(b"ID3" + bytes(500), kind="audio/mpeg")
_ANSWERS: Final = {
    "/v1/audio/transcriptions": whole(b'{"text":"hello","usage":{"type":"duration","seconds":3}}'),
    "/v1/audio/translations": whole(b'{"text":"hello"}'),
    "/v1/audio/speech": _SPOKEN,
    "/v1/moderations": whole(
        b'{"id":"modr-1","model":"omni-moderation-2024-09-26","results":[{"flagged":true,"categories":{},"category_scores":{},'
        b'"category_applied_input_types":{}}]}'
    ),
    "/v1/rerank": whole(
        b'{"id":"r","results":[{"index":1,"relevance_score":0.9}],"meta":{"billed_units":{"search_units":1}}}'
    ),
}  # fmt: skip


def fields_of(received: Received) -> Fields:
    """The members of a request: of a form, read by Python's own parser, or of a JSON object."""
    kind = received.headers.get("content-type", "")
    if not kind.startswith("multipart/"):
        return {name: [value] for name, value in json.loads(received.body).items()}
    head = f"content-type: {kind}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + received.body)
    fields: Fields = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        fields.setdefault(name, []).append(part.get_payload(decode=True))
        if (filename := part.get_filename()) is not None:
            fields[f"{name}.name"] = [filename]
    return fields


def answer(received: Received) -> bytes:
    """The answer of a strict provider: a 400 that names the rule and its source, or the documented shape."""
    path = received.line.split(" ")[1]
    fields = fields_of(received)
    for rule in RULES[path]:
        if not rule.keeps(fields):
            error = {"error": {"message": f"{rule.says} ({rule.source})", "type": "invalid_request_error", "code": None}}
            return whole(json.dumps(error).encode(), status="400 Bad Request")
    return _ANSWERS[path]
