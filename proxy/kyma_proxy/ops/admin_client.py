"""Calls the admin API: requests and answers in JSON over one connection. (Contract §1, §8.)

It blocks, as commands may; a process that also runs an event loop calls it in a thread.
"""

from __future__ import annotations

import http.client
import socket
from typing import Any, Final

import orjson

from kyma_proxy.config.snapshot import Address, TcpAddress
from kyma_proxy.errors import StartError

Document = dict[str, Any]

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 15.0
"""Longer than the store waits for the disk, so that the store's own error comes first."""
_LOOPBACK_OF_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (what listens everywhere is called on loopback)


class AdminApiError(Exception):
    """The admin API refused a request; `message` is its own, `code` one of the contract's §5."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class AdminClient:
    """A client of the admin API. `server` is what errors call the other side."""

    def __init__(self, connected: socket.socket, token: str, server: str) -> None:
        connected.settimeout(_ANSWER_S)
        self.server = server
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = connected
        self._connection.auto_open = 0  # never connect anew: that would be to another server
        self._headers = {"Authorization": b"Bearer " + token.encode(errors="surrogateescape")} if token else {}

    def request(self, method: str, path: str, document: Document | None = None) -> Document:
        """The document of the answer. Raises AdminApiError; StartError if there is no answer or it is not a gateway's."""
        try:
            body = None if document is None else orjson.dumps(document)
        except orjson.JSONEncodeError:
            raise AdminApiError(400, "invalid_json", "An argument is not UTF-8 text.") from None
        try:
            status, answer = self._exchange(method, path, body, self._headers)
        except (OSError, http.client.HTTPException) as error:
            advice = "" if method == "GET" else "; look whether it was done before you try again"
            raise StartError(f"{self.server} does not answer ({_reason(error)}){advice}") from None
        except ValueError:
            raise StartError("admin.token can't be sent: it has characters that no header may have; choose another") from None
        try:
            result = orjson.loads(answer)
            if status < 400:
                return dict(result)
            raise AdminApiError(status, str(result["error"]["code"]), str(result["error"]["message"]))
        except (ValueError, TypeError, KeyError):
            raise StartError(
                f"{self.server} answered with status {status} and a body that is not understood here; its log may say more"
            ) from None

    def is_gateway(self) -> bool:
        """True if the server seems to be a gateway. The token is not sent, as it may be any server.

        Raises StartError if it does not answer.
        """
        try:
            status, answer = self._exchange("GET", "/livez", None, {})
            return status == 200 and bool(orjson.loads(answer) == {"status": "ok"})
        except (http.client.HTTPException, ValueError):
            return False
        except OSError as error:
            raise StartError(f"{self.server} does not answer ({_reason(error)})") from None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, bytes]) -> tuple[int, bytes]:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def connect(address: Address, setting: str = "admin.listen") -> socket.socket | None:
    """A connection to a listener; None if nothing listens there.

    Raises StartError if that is not certain; it names `setting`.
    """
    try:
        if isinstance(address, TcpAddress):
            host = _LOOPBACK_OF_ANY.get(address.host, address.host)
            connected = socket.create_connection((host, address.port), _CONNECT_S)
        else:
            connected = _connect_unix(address.path)
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except OSError as error:
        raise StartError(f"{setting} {address}: {_reason(error)}") from None
    if connected.getsockname() == connected.getpeername() and isinstance(address, TcpAddress):
        connected.close()  # the kernel chose the very port that was dialled: the socket is connected to itself
        return None
    return connected


def _connect_unix(path: str) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(_CONNECT_S)
        connected.connect(path)
    except BaseException:
        connected.close()
        raise
    return connected


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).lower()
