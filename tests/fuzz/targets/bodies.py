"""The reading of request bodies: the fields of routing, the one value that is replaced, and what metering looks at."""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from typing import Any

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.accounts.charging import hold_for
from kyma_proxy.core.accounts.estimate import answers_asked, estimated_prompt_tokens, most_output
from kyma_proxy.core.accounts.extras import refuse_unpriced, with_extras
from kyma_proxy.core.accounts.media import MAX_PIECES, Piece, media_in
from kyma_proxy.core.http.body import includes_usage, patched, read_routing_fields
from kyma_proxy.core.jobs.request import read_image_request
from kyma_proxy.errors import GatewayError
from tests.factories import default_snapshot
from tests.fuzz.mutators import JsonGrammar, json_mutator
from tests.fuzz.target import Target

_PICTURE = base64.b64encode(bytes(range(256)) * 12)
_PLACE = b"@@"  # stands for a picture that is too large for a corpus
_STRING = re.compile(rb'"([^"]{64,})"')
_MODEL = b'"vendor/small-1"'
_INSERTION = b'"max_tokens":4096,'
_CHAT: dict[str, Any] = {
    "model": "small", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 10, "n": 2,
    "service_tier": "flex",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}, {"type": "web_search", "max_uses": 3}],
    "web_search_options": {}, "modalities": ["text"], "enable_search": False,
}  # fmt: skip
_BODIES: tuple[dict[str, Any], ...] = (
    {"model": "small", "messages": []},
    _CHAT,
    {"model": "small", "prompt": ["a", "b"], "best_of": 3, "max_completion_tokens": "5"},
    {
        "model": "small", "max_output_tokens": 5,
        "input": [{"type": "message", "content": [{"type": "input_image", "image_url": "data:image/png;base64,@@"}]}],
        "tools": [{"type": "shell", "environment": {"type": "local"}}, {"type": "namespace", "tools": []}],
    },
    {"model": "small", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}},
        {"type": "input_audio", "input_audio": {"data": "@@", "format": "wav"}},
        {"type": "file", "file": {"file_data": "@@", "filename": "a.pdf"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "@@"}},
        {"type": "tool_result", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "@@"}},
        ]},
    ]}]},
)  # fmt: skip
_IMAGES: tuple[dict[str, Any], ...] = (
    {"model": "picture", "prompt": "a cat", "n": 2, "size": "1024x1024", "user": "u", "idempotency_key": "k",
     "extra": {"seed": 1}, "image_url": "https://a.example/x.png", "response_format": "url"},
    {"model": "picture", "prompt": "a cat", "image_urls": ["data:image/png;base64,AAAA"], "stream": None},
)  # fmt: skip
_PRICE = Price(input=1, output=2)
_RICH_PRICE = Price(input=1, output=2, per_search=5, priority=2000, flex=500, included=("web_search", "audio"))


def routing_fields(data: bytes) -> None:
    """A body is refused with a GatewayError, or it is an object with that model and only the model's bytes change."""
    try:
        fields = read_routing_fields(data)
    except GatewayError:
        return
    with suppress(RecursionError):  # Python's own reader gives up earlier
        document = _read(data)
        assert isinstance(document, dict), "no object"
        assert document.get("model") == fields.model, "another model"
        for insertion in (b"", _INSERTION):
            sent = b"".join(patched(data, fields, _MODEL, insertion))
            brace = data.index(b"{") + 1
            assert sent == data[:brace] + insertion + data[brace : fields.start] + _MODEL + data[fields.end :], "other bytes"
            expected = ({"max_tokens": "4096"} if insertion else {}) | document | {"model": "vendor/small-1"}
            assert _read(sent) == expected, "another meaning"


def _read(text: bytes) -> Any:
    """The document; a value that is not looked at may have bytes that are no UTF-8, and is passed on as it is."""
    return json.loads(text.decode("utf-8", "surrogateescape"), parse_int=str, parse_float=str)


def metered(data: bytes) -> None:
    """Metering refuses a body with a GatewayError, or finds amounts that are no nonsense."""
    body = data.replace(_PLACE, _PICTURE)
    try:
        fields = read_routing_fields(body, is_metered=True)
    except GatewayError:
        return
    written = fields.written
    assert written is not None
    size, tokens = media_in(body, [Piece(*string.span(1)) for string in _STRING.finditer(body)][:MAX_PIECES])
    assert 0 <= size <= len(body), "more media than body"
    assert tokens >= 0
    prompt = estimated_prompt_tokens(body)
    assert 0 < prompt <= -(-len(body) // 4) + 1, "media counts more than its text"
    most = most_output(written.max_tokens, None, 8192, 4096) * answers_asked(written.copies)
    assert most > 0, "no output"
    assert isinstance(includes_usage(written.stream_options), bool)
    for price in (_PRICE, _RICH_PRICE):
        extras = written.extras
        if extras is not None:
            try:
                refuse_unpriced(extras, price)
            except GatewayError:
                continue
        assert hold_for(prompt, most, price, extras) > 0, "a request for nothing"
        assert with_extras(1, None, extras, price) >= 0


def image_jobs(data: bytes) -> None:
    """A request for images is refused with a GatewayError, or can be sent to its source."""
    with suppress(GatewayError):
        read_image_request(data, default_snapshot(), None)


def _json(documents: tuple[dict[str, Any], ...]) -> list[bytes]:
    return [json.dumps(one).encode() for one in documents] + [json.dumps(documents[-1], separators=(",", ":")).encode()]


_WORDS = (b'"model":', b'"stream":true', b"\\u006d", b"@@", b"null", b'"type":', b"},{", b'\\"')
_ODD = (
    b' \t{ "x" : 1.0e+2,"m\\u006fdel"\n:"small" , "y":-0,"\xc3\xa9\\u00e9":{"model":"a","model":"b"}}\r\n',
    b'{"model":"a","model":"b"}',
)
TARGETS = (
    Target("routing_fields", routing_fields, lambda: [*_json(_BODIES), *_ODD], None, _WORDS, 1024),
    Target("metered", metered, lambda: [*_json(_BODIES), *_ODD], json_mutator(JsonGrammar(_BODIES)), _WORDS),
    Target("image_jobs", image_jobs, lambda: _json(_IMAGES), json_mutator(JsonGrammar(_IMAGES)), _WORDS),
)
