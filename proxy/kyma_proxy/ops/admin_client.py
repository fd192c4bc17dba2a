"""This file speaks to an admin listener: requests and answers in JSON over one connection. (Contract §1, §8.)

It waits, as commands do; a loop that serves at the same time runs it in a thread.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Final

from kyma_proxy.config.snapshot import Address, TcpAddress
from kyma_proxy.errors import StartError

Document = dict[str, Any]

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 15.0
"""More than the store's patience with the disk, so that its own words come first."""
_ANY_HOST: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (what listens everywhere is asked nearby)


class Refused(Exception):
    """The admin API does not do what it was asked to; the message is its own, `code` as in the contract's §5."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class AdminClient:
    """Whoever asks at an admin listener. `where` is what errors call it."""

    def __init__(self, connected: socket.socket, token: str, where: str) -> None:
        connected.settimeout(_ANSWER_S)
        self.where = where
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = connected
        self._connection.auto_open = 0  # what is connected is what was asked for; a second try would be somewhere else
        self._headers = {"Authorization": b"Bearer " + token.encode(errors="surrogateescape")} if token else {}

    def ask(self, method: str, path: str, document: Document | None = None) -> Document:
        """The answer's document. Raises Refused; StartError where there is no answer or one that is not a gateway's."""
        body = None if document is None else json.dumps(document).encode()
        try:
            status, answer = self._exchange(method, path, body, self._headers)
        except (OSError, http.client.HTTPException) as error:
            advice = "" if method == "GET" else "; look whether it was done before you try again"
            raise StartError(f"{self.where} does not answer ({_words(error)}){advice}") from None
        except ValueError:
            raise StartError("admin.token can't be sent: it has characters that no header may have; choose another") from None
        try:
            told = json.loads(answer)
            if status < 400:
                return dict(told)
            raise Refused(status, str(told["error"]["code"]), str(told["error"]["message"]))
        except (ValueError, TypeError, KeyError):
            raise StartError(f"{self.where} said {status} and nothing that is understood here; its log may say more") from None

    def is_gateway(self) -> bool:
        """Whether what listens there seems to be a gateway. It is asked without the token, as it may be anything.

        Raises StartError where it does not answer.
        """
        try:
            status, answer = self._exchange("GET", "/livez", None, {})
            return status == 200 and bool(json.loads(answer) == {"status": "ok"})
        except (http.client.HTTPException, ValueError):
            return False
        except OSError as error:
            raise StartError(f"{self.where} does not answer ({_words(error)})") from None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, bytes]) -> tuple[int, bytes]:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def connect(address: Address) -> socket.socket | None:
    """A connection to an admin listener; None where nothing listens. Raises StartError where that can't be told."""
    try:
        if isinstance(address, TcpAddress):
            host = _ANY_HOST.get(address.host, address.host)
            connected = socket.create_connection((host, address.port), _CONNECT_S)
        else:
            connected = _connect_unix(address.path)
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except OSError as error:
        raise StartError(f"admin.listen {address}: {_words(error)}") from None
    if connected.getsockname() == connected.getpeername() and isinstance(address, TcpAddress):
        connected.close()  # the kernel chose the very port that is asked for, and this is a conversation with ourselves
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


def _words(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return (said or str(error) or type(error).__name__).lower()
