"""A provider that costs nothing: it speaks OpenAI, Anthropic and fal.ai's queue, and says plainly that no model ran.

It is for the demo and for trying a gateway before there is a key. Any credential and any model id will do; what it
answers is decided in the files beside this one, and here it is only listened for, paced and sent. Nothing is logged, and
nothing kept but requests for pictures: in memory, ten minutes long.

A prompt of a picture that contains "fail" fails: with a 500, where its answer or its result is due.

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
from kyma_proxy.simulated import anthropic, embeddings, openai, reading
from kyma_proxy.simulated.reading import Answer, BadRequest, Json
from kyma_proxy.simulated.shapes import answered, read_object, refused, request_id, unserved
from kyma_proxy.simulated.studio import REAL, Clock, Studio

MAX_BODY_BYTES: Final = 64 * 2**20
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Endpoint(NamedTuple):
    """How an endpoint's request is read, and how its answer is said whole and as events."""

    read: Callable[[Json], Answer]
    whole: Callable[[Answer, str, int], Json]
    events: Callable[[Answer, str, int], Iterator[bytes]]


_ENDPOINTS: Final = {
    "/v1/chat/completions": _Endpoint(reading.read_chat, openai.chat_whole, openai.chat_events),
    "/v1/completions": _Endpoint(reading.read_completion, openai.completion_whole, openai.completion_events),
    "/v1/responses": _Endpoint(reading.read_response, openai.response_whole, openai.response_events),
    "/v1/messages": _Endpoint(
        reading.read_message,
        lambda answer, ident, now: anthropic.message_whole(answer, ident),
        lambda answer, ident, now: anthropic.message_events(answer, ident),
    ),
}
_LOOKUPS: Final[dict[str, Callable[[Json], Json]]] = {
    "/v1/embeddings": embeddings.embeddings,
    "/v1/messages/count_tokens": anthropic.count_tokens,
}


def application(pace_s: float, clock: Clock) -> web.Application:
    """The provider; a stream waits `pace_s` between its events, pictures take a multiple, and nothing waits when it is 0."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
    app.router.add_get("/v1/models", _models)
    for path, endpoint in _ENDPOINTS.items():
        app.router.add_post(path, _generation(endpoint, pace_s))
    for path, lookup in _LOOKUPS.items():
        app.router.add_post(path, _looked_up(lookup))
    Studio(pace_s, clock).open(app.router)
    return app


async def serve(listen_host: str, port: int, pace_s: float, *, clock: Clock = REAL) -> web.AppRunner:
    """Returns once it listens; `runner.addresses[0]` tells the port that 0 stood for. The caller owns the clean-up."""
    runner = web.AppRunner(application(pace_s, clock), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, listen_host, port).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


def main(argv: list[str] | None = None) -> int:
    """The command. Prints where it listens and serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m kyma_proxy.simulated.server", description="A simulated LLM provider.")
    parser.add_argument("--listen", type=_address, default="127.0.0.1:9100", help="host:port; port 0 is any free one")
    parser.add_argument("--pace", type=_pace, default="50ms", help="time between the events of a stream, such as 50ms")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    options = parser.parse_args(argv)

    def announce(url: str) -> None:
        print(f"simulated provider on {url}", flush=True)

    try:
        asyncio.run(_serve_until_told(options.listen, options.pace, options.until_stdin_closes, announce))
    except OSError as error:
        where = f"{options.listen.host}:{options.listen.port}"
        print(f"can't listen on {where}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


async def _serve_until_told(
    address: TcpAddress, pace_s: float, until_stdin_closes: bool, announce: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    runner = await serve(address.host, address.port, pace_s)
    try:
        host, port = runner.addresses[0][:2]
        announce(f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1")
        if until_stdin_closes:
            threading.Thread(target=_watch_stdin, args=(loop, told), daemon=True).start()
        await told.wait()
    finally:
        await runner.cleanup()


def _watch_stdin(loop: asyncio.AbstractEventLoop, told: asyncio.Event) -> None:
    """Waits for the end of standard input: whoever holds its other end is then gone. Runs in a thread of its own.

    It reads the descriptor, as `sys.stdin` holds a lock while it waits and would trip the interpreter's exit.
    """
    with suppress(OSError):
        while os.read(0, 65536):
            pass
    with suppress(RuntimeError):  # the loop has closed: it was told already
        loop.call_soon_threadsafe(told.set)


def _address(text: str) -> TcpAddress:
    try:
        address = parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(address, TcpAddress):
        raise argparse.ArgumentTypeError("the simulated provider listens on host:port")
    return address


def _pace(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _generation(endpoint: _Endpoint, pace_s: float) -> _Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        answer = endpoint.read(await read_object(request))
        ident, now = secrets.token_hex(12), int(time.time())
        if not answer.stream:
            return answered(200, endpoint.whole(answer, ident, now), request)
        return await _stream(request, endpoint.events(answer, ident, now), pace_s)

    return respond


def _looked_up(lookup: Callable[[Json], Json]) -> _Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        return answered(200, lookup(await read_object(request)), request)

    return respond


async def _models(request: web.Request) -> web.StreamResponse:
    return answered(200, embeddings.models(anthropic="anthropic-version" in request.headers), request)


async def _stream(request: web.Request, events: Iterator[bytes], pace_s: float) -> web.StreamResponse:
    """Sends each event by itself. A client that leaves cancels this where it waits, or refuses the next event."""
    response = web.StreamResponse(headers={"cache-control": "no-cache", **request_id(request)})
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
async def _errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Gives every refusal the shape of the dialect that was spoken."""
    try:
        return await handler(request)
    except BadRequest as error:
        return refused(request, error)
    except web.HTTPException as error:
        return unserved(request, error)


if __name__ == "__main__":
    sys.exit(main())
