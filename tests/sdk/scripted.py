"""A provider that plays a script, holds every request to the types of its dialect's own SDK, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from anthropic.types import message_create_params as anthropic_params
from openai.types.chat import completion_create_params as openai_params
from pydantic import TypeAdapter, ValidationError

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


class Scripted:
    """Plays one answer a request, in their order: a document is a whole answer, a list the events of a stream."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.asked: list[Json] = []
        self.fields: list[dict[str, str]] = []
        self._answers: deque[tuple[int, Json | list[Any]]] = deque()

    def plays(self, *answers: Json | list[Any], status: int = 200) -> None:
        """Play these for the next requests."""
        self._answers.extend((status, answer) for answer in answers)

    def forget(self) -> None:
        """Begin anew."""
        self.asked.clear()
        self.fields.clear()
        self._answers.clear()

    def answer(self, path: str, fields: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """The answer to a request: its status, its type and its body."""
        asked = json.loads(body)
        try:
            _whole(_TYPES[path][asked.get("stream", False)].validate_python(asked))
        except (KeyError, ValidationError) as error:
            return 422, "text/plain", f"it is not what {path} takes: {error}".encode()
        self.asked.append(asked)
        self.fields.append(fields)
        status, said = self._answers.popleft()
        if isinstance(said, list):
            return status, "text/event-stream", b"".join(map(_event, said))
        return status, "application/json", json.dumps(said).encode()


def _event(said: Any) -> bytes:
    """An event, with its name where it is one of Anthropic's."""
    if isinstance(said, str):
        return f"data: {said}\n\n".encode()
    name = f"event: {said['type']}\n" if "type" in said else ""
    return f"{name}data: {json.dumps(said)}\n\n".encode()


def _whole(value: Any) -> None:
    """Look into all of it: lists are held to their types only when they are gone through."""
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, str | int | float | None):
        return
    for each in value:
        _whole(each)


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A provider that runs until the end of the block; its connections are its own threads'."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            fields = {name.lower(): value for name, value in self.headers.items()}
            status, kind, said = provider.answer(self.path, fields, body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        provider = Scripted(f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
