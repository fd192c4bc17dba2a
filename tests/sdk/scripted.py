"""A provider that plays a script, checks every request against the types of its dialect's own SDK, and keeps them."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from anthropic.types import message_create_params as anthropic_params
from openai.types.chat import completion_create_params as openai_params
from pydantic import TypeAdapter, ValidationError

from deploy.trial.strict_provider import check_deeply

Json = dict[str, Any]
_TYPES: dict[str, dict[bool, TypeAdapter[Any]]] = {
    "/v1/chat/completions": {
        False: TypeAdapter(openai_params.CompletionCreateParamsNonStreaming),
        True: TypeAdapter(openai_params.CompletionCreateParamsStreaming),
    },
    "/v1/messages": {
        False: TypeAdapter(anthropic_params.MessageCreateParamsNonStreaming),
        True: TypeAdapter(anthropic_params.MessageCreateParamsStreaming),
    },
}


class ScriptedProvider:
    """Plays one answer a request, in the order given: a document is a whole answer, a list the events of a stream."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.requests: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.models: list[str] = []
        """The names of its models, for whoever asks for a list of them."""
        self._answers: deque[tuple[int, Json | list[Any]]] = deque()

    def plays(self, *answers: Json | list[Any], status: int = 200) -> None:
        """Play these for the next requests."""
        self._answers.extend((status, answer) for answer in answers)

    def reset(self) -> None:
        """Begin anew."""
        self.requests.clear()
        self.headers.clear()
        self._answers.clear()

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """The answer to a request: its status, its type and its body."""
        request = json.loads(body)
        if path not in _TYPES:
            return 404, "text/plain", b"not found"
        try:
            check_deeply(_TYPES[path][request.get("stream", False)].validate_python(request))
        except ValidationError as error:
            return 422, "text/plain", f"it is not what {path} takes: {error}".encode()
        self.requests.append(request)
        self.headers.append(headers)
        status, answer = self._answers.popleft()
        if isinstance(answer, list):
            return status, "text/event-stream", b"".join(map(_event, answer))
        return status, "application/json", json.dumps(answer).encode()


def _event(event: Any) -> bytes:
    """An event of a stream, with its name if it is one of Anthropic's."""
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of an error; that the gateway has closed a connection is none."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def scripted_provider() -> Iterator[ScriptedProvider]:
    """A provider that runs until the end of the block, in threads of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, kind, answer = provider.answer(self.path, headers, body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            listed = [{"id": name, "object": "model", "created": 1, "owned_by": "it"} for name in provider.models]
            answer = json.dumps({"object": "list", "data": listed}).encode()
            self.send_response(200 if listed and self.path == "/v1/models" else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        provider = ScriptedProvider(f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
