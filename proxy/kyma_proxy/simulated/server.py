"""Serves a provider that costs nothing: it speaks OpenAI, Anthropic and fal.ai's queue, and says that no model ran.

It is for the demo, and for trying the gateway without a key. It accepts any credential and any model id. The modules
beside this one decide the answers; this one listens, paces and sends. It logs nothing, and keeps nothing but requests for
images: in memory, for ten minutes.

An image prompt that contains "fail" gets a 500 instead of an image.

    python -m kyma_proxy.simulated.server --listen 127.0.0.1:9100 --pace 50ms
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from aiohttp import web

from kyma_proxy.config.addresses import parse_address
from kyma_proxy.config.snapshot import TcpAddress
from kyma_proxy.config.units import parse_duration
from kyma_proxy.simulated import answers, anthropic_answers, embeddings, judging, model_list, openai_answers, sound
from kyma_proxy.simulated.answers import Answer
from kyma_proxy.simulated.http_json import (
    bad_request_response,
    http_error_response,
    json_response,
    read_form,
    read_json_object,
    request_id_header,
)
from kyma_proxy.simulated.image_service import REAL_CLOCK, Clock, ImageService
from kyma_proxy.simulated.request_fields import BadRequest, Json

MAX_BODY_BYTES: Final = 64 * 2**20
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Endpoint(NamedTuple):
    """The functions of an endpoint: one reads the request, the others encode the answer as one body or as a stream."""

    answer: Callable[[Json], Answer]
    body: Callable[[Answer, str, int], Json]
    events: Callable[[Answer, str, int], Iterator[bytes]]


_ENDPOINTS: Final = {
    "/v1/chat/completions": _Endpoint(answers.answer_chat, openai_answers.chat_completion, openai_answers.chat_events),
    "/v1/completions": _Endpoint(
        answers.answer_completion, openai_answers.text_completion, openai_answers.text_completion_events
    ),
    "/v1/responses": _Endpoint(answers.answer_response, openai_answers.response, openai_answers.response_events),
    "/v1/messages": _Endpoint(
        answers.answer_message,
        lambda answer, ident, now: anthropic_answers.message(answer, ident),
        lambda answer, ident, now: anthropic_answers.message_events(answer, ident),
    ),
}
_FUNCTIONS: Final[dict[str, Callable[[Json], Json]]] = {
    "/v1/embeddings": embeddings.embed,
    "/v1/moderations": judging.moderate,
    "/v1/rerank": judging.rerank,
    "/v1/messages/count_tokens": anthropic_answers.count_tokens,
}


def application(pace_s: float, clock: Clock) -> web.Application:
    """Returns the provider. A stream waits `pace_s` between events, and images take a multiple of it; at 0 nothing waits."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_error_middleware])
    app.router.add_get("/v1/models", _list_models)
    for path, endpoint in _ENDPOINTS.items():
        app.router.add_post(path, _generation_handler(endpoint, pace_s))
    for path, function in _FUNCTIONS.items():
        app.router.add_post(path, _function_handler(function))
    app.router.add_post("/v1/audio/speech", _speak)
    for task in ("transcriptions", "translations"):
        app.router.add_post(f"/v1/audio/{task}", _transcribe)
    ImageService(pace_s, clock).add_routes(app.router)
    return app


async def serve(listen_host: str, port: int, pace_s: float, *, clock: Clock = REAL_CLOCK) -> web.AppRunner:
    """Returns once the provider listens; port 0 takes a free one, in `runner.addresses[0]`. The caller cleans up."""
    runner = web.AppRunner(application(pace_s, clock), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, listen_host, port).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


def main(argv: list[str] | None = None) -> int:
    """Runs the command: prints the address, then serves until SIGTERM or SIGINT. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kyma_proxy.simulated.server", description="A simulated LLM provider.")
    parser.add_argument("--listen", type=_tcp_address, default="127.0.0.1:9100", help="host:port; port 0 is any free one")
    parser.add_argument("--pace", type=_duration, default="50ms", help="time between the events of a stream, such as 50ms")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    options = parser.parse_args(argv)

    def announce(url: str) -> None:
        print(f"simulated provider on {url}", flush=True)

    try:
        asyncio.run(_serve_until_stopped(options.listen, options.pace, options.until_stdin_closes, announce))
    except OSError as error:
        address = f"{options.listen.host}:{options.listen.port}"
        print(f"can't listen on {address}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


async def _serve_until_stopped(
    address: TcpAddress, pace_s: float, until_stdin_closes: bool, announce: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runner = await serve(address.host, address.port, pace_s)
    try:
        host, port = runner.addresses[0][:2]
        announce(f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1")
        if until_stdin_closes:
            threading.Thread(target=_watch_stdin, args=(loop, stopped), daemon=True).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    """Waits in a thread for the end of standard input: the process that holds its other end has then ended.

    It reads the file descriptor, because `sys.stdin` holds a lock while it waits, which breaks the interpreter's exit.
    """
    with suppress(OSError):
        while os.read(0, 65536):
            pass
    with suppress(RuntimeError):  # the loop is closed: a signal came first
        loop.call_soon_threadsafe(stopped.set)


def _tcp_address(text: str) -> TcpAddress:
    try:
        address = parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(address, TcpAddress):
        raise argparse.ArgumentTypeError("the simulated provider listens on host:port")
    return address


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _generation_handler(endpoint: _Endpoint, pace_s: float) -> _Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        answer = endpoint.answer(await read_json_object(request))
        ident, now = secrets.token_hex(12), int(time.time())
        if not answer.stream:
            return json_response(200, endpoint.body(answer, ident, now), request)
        return await _stream(request, endpoint.events(answer, ident, now), pace_s)

    return respond


def _function_handler(function: Callable[[Json], Json]) -> _Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        return json_response(200, function(await read_json_object(request)), request)

    return respond


async def _speak(request: web.Request) -> web.StreamResponse:
    spoken = sound.speak(await read_json_object(request))
    return web.Response(body=spoken, content_type="audio/wav", headers=request_id_header(request))


async def _transcribe(request: web.Request) -> web.StreamResponse:
    fields, heard = await read_form(request)
    task = "translate" if request.path.endswith("translations") else "transcribe"
    transcript = sound.transcribe(fields, heard, task=task)
    if isinstance(transcript, str):
        return web.Response(text=transcript, headers=request_id_header(request))
    return json_response(200, transcript, request)


async def _list_models(request: web.Request) -> web.StreamResponse:
    return json_response(200, model_list.list_models(anthropic="anthropic-version" in request.headers), request)


async def _stream(request: web.Request, events: Iterator[bytes], pace_s: float) -> web.StreamResponse:
    """Sends each event by itself. If the client disconnects, the wait is cancelled or the next write fails."""
    response = web.StreamResponse(headers={"cache-control": "no-cache", **request_id_header(request)})
    response.content_type = "text/event-stream"
    with suppress(ConnectionResetError):
        await response.prepare(request)
        await response.write(next(events))
        for event in events:
            if pace_s:
                await asyncio.sleep(pace_s)
            await response.write(event)
        await response.write_eof()
    return response


@web.middleware
async def _error_middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turns errors into responses in the dialect of the request."""
    try:
        return await handler(request)
    except BadRequest as error:
        return bad_request_response(request, error)
    except web.HTTPException as error:
        return http_error_response(request, error)


if __name__ == "__main__":
    sys.exit(main())
