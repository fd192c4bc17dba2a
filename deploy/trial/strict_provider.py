"""A stand-in for OpenAI that refuses what OpenAI refuses, and streams `gpt-4o` word by word.

    python -m deploy.trial.strict_provider --key sk-trial [--key sk-next] [--pace SECONDS]

It checks each request against the types of OpenAI's own SDK, so that it needs that package. It prints its base URL, and serves
until its standard input is closed; a line there, `revoke KEY`, makes it refuse a key. At its end it prints as JSON how many
requests it has answered and refused, and why.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, get_type_hints

from openai.types.chat import completion_create_params as params
from pydantic import TypeAdapter, ValidationError

MODEL: Final = "gpt-4o"
MAX_OUTPUT_TOKENS: Final = 16384
_TYPES: Final = {False: params.CompletionCreateParamsNonStreaming, True: params.CompletionCreateParamsStreaming}
_MEMBERS: Final = {stream: frozenset(get_type_hints(kind)) for stream, kind in _TYPES.items()}
_CHECKS: Final = {stream: TypeAdapter[Any](kind) for stream, kind in _TYPES.items()}
_FOREIGN_HEADERS: Final = ("cookie", "x-api-key", "x-forwarded-for", "forwarded", "via")


class Refused(Exception):
    """A request that OpenAI would not answer: the status, the message, and the code of its error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def check(path: str, headers: dict[str, str], body: bytes, keys: Collection[str]) -> dict[str, Any]:
    """The request, if OpenAI would answer it. Raises Refused."""
    if headers.get("authorization") not in [f"Bearer {key}" for key in keys]:
        raise Refused(401, "Incorrect API key provided.", "invalid_api_key")
    foreign = [name for name in _FOREIGN_HEADERS if name in headers]
    if foreign:
        raise Refused(400, f"A header that is none of a provider's business: {', '.join(foreign)}")
    if path != "/v1/chat/completions":
        raise Refused(404, f"Invalid URL (POST {path})")
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "Unsupported content type.")
    try:
        request = json.loads(body)
        stream = request.get("stream") or False
        unknown = sorted(set(request) - _MEMBERS[stream])
    except (ValueError, AttributeError, KeyError, TypeError):
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if unknown:
        raise Refused(400, f"Unrecognized request argument supplied: {', '.join(unknown)}", "unknown_parameter")
    _check_values(request, stream=stream)
    return dict(request)


def _check_values(request: dict[str, Any], *, stream: bool) -> None:
    if request.get("model") != MODEL:
        raise Refused(404, f"The model `{request.get('model')}` does not exist.", "model_not_found")
    if not request.get("messages"):
        raise Refused(400, "Invalid 'messages': empty array.", "empty_array")
    try:
        check_deeply(_CHECKS[stream].validate_python(request, strict=False))
    except ValidationError as error:
        raise Refused(400, str(error).replace("\n", " "), "invalid_type") from None
    if {"max_tokens", "max_completion_tokens"} <= request.keys():
        raise Refused(400, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    limit = request.get("max_tokens") or request.get("max_completion_tokens") or 1
    if not 1 <= limit <= MAX_OUTPUT_TOKENS:
        raise Refused(400, f"max_tokens is too large: {limit}. This model supports at most {MAX_OUTPUT_TOKENS}.")
    if request.get("stream_options") is not None and not stream:
        raise Refused(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")


def check_deeply(value: Any) -> None:
    """Go through every list: pydantic checks the items of an iterable only then."""
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, str | int | float | None):
        return
    for each in value:
        check_deeply(each)


def words_of(prompt: str) -> Iterator[str]:
    """The words of the answer: the prompt is a name and a number, and the answer is that name so many times, numbered."""
    name, _, count = prompt.rpartition(" ")
    yield from (f"{name}-{number} " for number in range(int(count)))


def whole(text: str, ident: str) -> dict[str, Any]:
    """An answer that is not streamed."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"id": ident, "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage(text)}


def usage(text: str) -> dict[str, int]:
    """The tokens of an answer, roughly."""
    count = len(text.split())
    return {"prompt_tokens": 8, "completion_tokens": count, "total_tokens": 8 + count}


def events(words: Iterator[str], ident: str, *, include_usage: bool) -> Iterator[bytes]:
    """The events of a streamed answer, each when its word is there."""
    frame = {"id": ident, "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    said = []
    yield _event({**frame, "choices": [_choice({"role": "assistant", "content": "", "refusal": None}, None)]})
    for word in words:
        said.append(word)
        yield _event({**frame, "choices": [_choice({"content": word}, None)]})
    yield _event({**frame, "choices": [_choice({}, "stop")]})
    if include_usage:
        yield _event({**frame, "choices": [], "usage": usage("".join(said))})
    yield b"data: [DONE]\n\n"


def _choice(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, keys: Collection[str], pace_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys = set(keys)
        self.pace_s = pace_s
        self.refused: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has left is counted, and no traceback."""
        if isinstance(sys.exception(), ConnectionError):
            self.counts["left"] += 1
        else:
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "system"}]}
        self._send_json(200, listed)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            request = check(self.path, headers, body, self.server.keys)
        except Refused as error:
            self.server.refused[str(error)] += 1
            kind = "invalid_request_error"
            self._send_json(error.status, {"error": {"message": str(error), "type": kind, "param": None, "code": error.code}})
            return
        ident = f"chatcmpl-{time.monotonic_ns()}"
        words = words_of(str(request["messages"][-1]["content"]))
        if not request.get("stream"):
            self._send_json(200, whole("".join(words), ident))
        else:
            options = request.get("stream_options") or {}
            self._stream(events(words, ident, include_usage=bool(options.get("include_usage"))))
        self.server.counts["answered"] += 1

    def _stream(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(self.server.pace_s)
        self.wfile.write(b"0\r\n\r\n")

    def _send_json(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


def main() -> None:
    """Serve until standard input is closed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.trial.strict_provider", description=__doc__.partition("\n")[0])
    parser.add_argument("--key", action="append", required=True, help="a key that it accepts; may be given several times")
    parser.add_argument("--pace", type=float, default=0.05, help="seconds between two words of a stream")
    options = parser.parse_args()
    with _Server(options.key, options.pace) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
        for line in sys.stdin:
            server.keys.discard(line.removeprefix("revoke ").strip())
        server.shutdown()
        print(json.dumps({"answered": server.counts["answered"], "left": server.counts["left"], "refused": server.refused}))


if __name__ == "__main__":
    main()
