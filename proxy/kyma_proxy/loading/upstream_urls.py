"""Parses the base URL of a provider: http, https, or a unix socket.

A socket is written as in nginx: `unix:/run/vllm.sock:/v1` or `http://unix:/run/vllm.sock:/v1`. The path of the URL stands after
that of the socket and a colon.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from kyma_proxy.config.addresses import is_host

_SOCKET: Final = re.compile(r"(?:http://)?unix:(/[\x21-\x39\x3b-\x7e]+)(?::(/[\x21-\x7e]*)?)?")
_MAX_SOCKET_BYTES: Final = 107
_UNFIT: Final = re.compile(r"[^\x21-\x7e]|[?#\\]")
_BRACES: Final = re.compile(r"\{[^{}]*\}")
_ENDPOINT: Final = re.compile(
    r"/(?:chat/completions|completions|embeddings|responses|moderations|rerank|messages(?:/count_tokens)?|models|"
    r"audio/(?:speech|transcriptions|translations)|images/(?:generations|edits))/?$"
)
_NO_SCHEME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?(?:/[A-Za-z0-9/._-]*)?")
_VERSION: Final = re.compile(r"/v[0-9]")
MODEL: Final = "{model}"
"""Stands for the model of a source, as it is written in a URL."""


class BaseUrl(NamedTuple):
    """The parts of a base URL. `socket` is the path of a unix socket; `path` may have `{model}` in it."""

    scheme: str
    host: str
    port: int
    socket: str | None
    path: str

    def with_version(self, version: str) -> BaseUrl:
        """The same with the part of the path that client libraries add, if it has no version and may lack one."""
        return self if _VERSION.search(self.path) or MODEL in self.path else self._replace(path=self.path + version)

    def path_for(self, model: str) -> str:
        """The path for a source with this model."""
        return self.path.replace(MODEL, quote(model, safe=""))


def parse_base_url(text: str) -> BaseUrl:
    """The parts of a base URL. Raises ValueError, whose message says how to write one."""
    socket = _SOCKET.fullmatch(text)
    if socket is not None and not _UNFIT.search(text):
        if len(socket[1].encode()) > _MAX_SOCKET_BYTES:
            raise ValueError(f"the path of a unix socket has {_MAX_SOCKET_BYTES} bytes at most")
        return BaseUrl("http", "localhost", 80, socket[1], (socket[2] or "").rstrip("/"))
    if text.startswith(("unix:", "http://unix:")):
        raise ValueError("a unix socket is unix:, its absolute path, a colon and a path, such as unix:/run/vllm.sock:/v1")
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        url, host, port = urlsplit(""), "", None
    is_plain = url.username is None and not _UNFIT.search(text)
    if url.scheme not in ("http", "https") or not is_host(host) or not is_plain or port == 0:
        raise ValueError(
            "a base URL is http:// or https://, a host and a path, with no user, query or fragment, "
            f"such as https://api.openai.com/v1{_hint(text)}"
        )
    endpoint = _ENDPOINT.search(url.path)
    if endpoint is not None:
        base = text.rstrip("/").removesuffix(endpoint[0].rstrip("/"))
        raise ValueError(f"{endpoint[0]} is added by the gateway, to each request; write {base}")
    if any(one != MODEL for one in _BRACES.findall(url.path)):
        raise ValueError(f"the path of a base URL may have {MODEL} in braces, and nothing else")
    return BaseUrl(url.scheme, host, port or {"http": 80, "https": 443}[url.scheme], None, url.path.rstrip("/"))


def _hint(text: str) -> str:
    if text != text.strip():
        return "; this one has a space at its beginning or end"
    if _NO_SCHEME.fullmatch(text):
        local = text.startswith(("localhost", "127.", "10.", "192.168."))
        return f"; write {'http' if local else 'https'}://{text}"
    return ""
