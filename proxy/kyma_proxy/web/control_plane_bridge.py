"""Connects the public listener to the aiohttp application of the control plane, one request at a time.

The downstream connection owns the socket. It has parsed the request and applied its limits; the bridge feeds the request to
aiohttp's protocol as plain HTTP, over a transport that writes to the caller's. When aiohttp has finished its response, the
downstream connection reads on. So a caller may mix relayed and control-plane requests on one connection.

Every request that is served has exactly one line in the access log: `ControlPlaneBridge.finished` writes it when the response
has been written, and `leave` if the connection ends before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from aiohttp import web

from kyma_proxy.core.accounts.accounts import Key
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.core.http.request_head import MAX_TARGET_BYTES
from kyma_proxy.dialect.registry import dialect_at
from kyma_proxy.errors import GatewayError, Kind, internal_error
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.telemetry.record import Record
from kyma_proxy.telemetry.recording import other_record

CALLER: Final = web.RequestKey("caller", Key)
"""A handler stores the caller's key in its request under this name, for the access log."""
ERROR_HEADERS: Final[web.RequestKey[dict[str, str]]] = web.RequestKey("error_headers")
"""A handler stores headers here that its response gets if it raises an error."""
WHEN_SENT: Final[web.RequestKey[Callable[[], None]]] = web.RequestKey("when_sent")
"""A handler stores a function here; it is called when the response has been written and the caller is still connected."""
REQUEST_ID_HEADER = "X-Kyma-Request-Id"
"""Carries the request id into the application; a caller's header of this name is removed."""


_log: Final = logging.getLogger("kyma-proxy")
_NO_LOG: Final = logging.getLogger("kyma-proxy.control")
_NO_LOG.disabled = True
_CLIENT_CLOSED_REQUEST: Final = 499
_NEVER_S: Final = 10 * 365 * 86_400.0


class BridgeTransport(asyncio.Transport):
    """The transport that aiohttp writes to; it writes to the caller's transport."""

    def __init__(self, connection: DownstreamConnection, bridge: ControlPlaneBridge) -> None:
        super().__init__()
        self._connection = connection
        self._bridge = bridge

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._connection.is_open:
            self._connection.transport.write(bytes(data))

    def is_closing(self) -> bool:
        return not self._connection.is_answerable

    def close(self) -> None:
        if self._bridge.is_serving and self._connection.is_answerable:  # otherwise it is not aiohttp's to close
            self._bridge.fail()
            self._connection.transport.close()

    def abort(self) -> None:
        if self._bridge.is_serving:
            self._bridge.fail()
            self._connection.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._connection.transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Does nothing: aiohttp gets one whole request at a time, so there is nothing to pause."""

    def resume_reading(self) -> None:
        """Does nothing; see `pause_reading`."""

    def is_reading(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Does nothing: the limits of the downstream connection apply."""

    def get_write_buffer_size(self) -> int:
        return self._connection.transport.get_write_buffer_size()


class ControlPlaneProtocol(web.RequestHandler):
    """aiohttp's protocol, which also tells the bridge when a response is complete."""

    bridge: ControlPlaneBridge

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self.bridge.begin_response(resp)
        response, was_reset = await super().finish_response(request, resp, start_time)
        self.bridge.finished(request, response)
        return response, was_reset

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun, so only closing the connection can report the error")
        return self.bridge.error_response(status, exc, message)


class ControlPlaneBridge:
    """The control plane's end of one downstream connection."""

    def __init__(
        self, application: web.AppRunner, connection: DownstreamConnection, max_head: int, log: Callable[[Record], None]
    ) -> None:
        """`application` is set up."""
        server = application.server
        assert server is not None  # noqa: S101
        self._connection = connection
        self._log = log
        self._inbound: Inbound | None = None
        self._request: web.Request | None = None
        self._response: web.StreamResponse | None = None
        self._has_failed = False
        self._bytes_in = 0
        self._was_unreadable = False
        # The downstream connection limits size and time; aiohttp's own limits are set so high that they never apply.
        self._protocol = ControlPlaneProtocol(
            server, loop=asyncio.get_running_loop(), access_log=_NO_LOG, tcp_keepalive=False,
            max_line_size=MAX_TARGET_BYTES * 2, max_field_size=max_head, max_headers=max_head,
            keepalive_timeout=_NEVER_S,
        )  # fmt: skip
        self._protocol.bridge = self
        self._protocol.connection_made(BridgeTransport(connection, self))

    def serve(self, inbound: Inbound) -> None:
        """Pass a request to the application."""
        self._inbound = inbound
        self._request = self._response = None
        self._bytes_in = len(inbound.body)
        if self._connection.is_writable:
            self.resume()
        else:
            self.pause()
        dropped = (b"connection", b"content-length", b"transfer-encoding", b"expect", REQUEST_ID_HEADER.lower().encode())
        lines = [
            b"%b: %b\r\n" % (name, value) for name, value in inbound.headers if name.lower() not in dropped and b"_" not in name
        ]
        target = b"%b?%b" % (inbound.path, inbound.query) if inbound.query else inbound.path
        self._protocol.data_received(
            b"%b %b HTTP/1.%d\r\n%b%b: %b\r\nconnection: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (
                inbound.method,
                target,
                0 if inbound.is_http_10 else 1,
                b"".join(lines),
                REQUEST_ID_HEADER.encode(),
                inbound.request_id.encode(),
                b"keep-alive" if inbound.keep_alive else b"close",
                len(inbound.body),
                inbound.body,
            )
        )
        inbound.body = b""  # aiohttp has it; do not keep a second copy while a slow response is made

    def begin_handling(self, request: web.Request) -> None:
        """The application has the request: from now on the log knows its route, and its key once it is known."""
        self._request = request

    def begin_response(self, response: web.StreamResponse) -> None:
        """A response is about to be written."""
        self._response = response

    def fail(self) -> None:
        """aiohttp gives up the request that is being served: its connection is closed."""
        self._has_failed = True

    def finished(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """The application's response has been written: log it, and let the downstream connection go on."""
        if not self._connection.is_answerable:
            return  # `leave` follows, and logs the request
        inbound, self._inbound = self._inbound, None
        handled = request if isinstance(request, web.Request) else None
        when_sent = None if handled is None else handled.get(WHEN_SENT)
        if when_sent is not None:
            when_sent()
        if inbound is not None:
            self._write_log(inbound, handled, response.status, bytes_out=response.content_length or 0)
        self._connection.finish(close=not response.keep_alive)

    def _write_log(
        self, inbound: Inbound, request: web.Request | None, status: int, *, bytes_out: int = 0, ending: str | None = None
    ) -> None:
        self._log(
            other_record(
                inbound.request_id,
                "-" if self._was_unreadable or request is None else _endpoint(request),
                status,
                time.time(),
                duration_s=monotonic() - inbound.received,
                bytes_in=self._bytes_in,
                bytes_out=bytes_out,
                key=None if request is None else request.get(CALLER),
                ending=ending,
            )
        )

    def error_response(self, status: int, exception: BaseException | None, message: str | None) -> web.Response:
        """The response to a request that aiohttp itself rejects: one with a header that may occur only once, for example."""
        inbound = self._inbound
        self._was_unreadable = True  # such a request has no route, and its connection is closed
        request_id = "" if inbound is None else inbound.request_id
        if status < 500:
            reason = (message or "it can't be read").strip().rstrip(".")
            error = GatewayError(Kind.BAD_HTTP, f"The request can't be served: {reason}.")
        else:
            _log.error("request %s failed inside the control plane", request_id, exc_info=exception)
            error = internal_error()
        body = dialect_at(b"" if inbound is None else inbound.path).error_body(error, request_id)
        response = web.Response(status=error.kind.status, body=body, content_type="application/json")
        response.headers["X-Request-Id"] = request_id
        response.headers["Connection"] = "close"
        response.force_close()
        return response

    @property
    def cors(self) -> bytes:
        """The lines that let a web page read the response under way."""
        return b"" if self._inbound is None else self._inbound.cors

    @property
    def is_serving(self) -> bool:
        """True if aiohttp still owes the caller a response."""
        return self._inbound is not None

    def pause(self) -> None:
        """Stop writing: the caller is slow."""
        if not self._protocol.writing_paused:
            self._protocol.pause_writing()

    def resume(self) -> None:
        """Write again: the caller has caught up."""
        if self._protocol.writing_paused:
            self._protocol.resume_writing()

    def leave(self) -> None:
        """The downstream connection is closed: log the request that was being served, and cancel its handler."""
        inbound, self._inbound = self._inbound, None
        if inbound is not None:
            response = self._response  # its status may have reached the caller, all of it has not
            status = _CLIENT_CLOSED_REQUEST if response is None else response.status
            self._write_log(inbound, self._request, status, ending=self._unfinished())
        self._protocol.connection_lost(None)
        self._request = self._response = None

    def _unfinished(self) -> str:
        """The ending of a request whose connection has ended before its response had been written."""
        if self._has_failed:
            return "broken"
        return "drained" if self._connection.is_aborted else "client_gone"


def begin_handling(request: web.Request) -> None:
    """Tell the bridge over which a request came that the application has it; a request of another listener has no bridge."""
    if isinstance(request.protocol, ControlPlaneProtocol):
        request.protocol.bridge.begin_handling(request)


def cors_of(request: web.Request) -> bytes:
    """The lines that let the web page that sent this request read the response; b"" for any other caller."""
    return request.protocol.bridge.cors if isinstance(request.protocol, ControlPlaneProtocol) else b""


def _endpoint(request: web.Request) -> str:
    """The route's pattern, so that a caller's path can't put text into the log; "-" if there is no route."""
    resource = request.match_info.route.resource
    return "-" if resource is None else resource.canonical.removeprefix("/v1/")
