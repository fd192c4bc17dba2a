"""Reads the HTTP proxy that leads to a provider: a URL, or `environment` for the variables that curl and others obey."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from kyma_proxy.config.addresses import is_host
from kyma_proxy.config.origin import Proxy

ENVIRONMENT: Final = "environment"
_HOW: Final = (
    "a proxy is http://host:port, with user:password@ before the host if it asks for them (characters such as @ and : "
    "percent-encoded), or `environment` for HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"
)
_DEFAULT_PORT: Final = 3128


def parse_proxy(text: str) -> tuple[Proxy, tuple[str, ...]]:
    """The proxy of a URL, and the secrets in it. Raises ValueError, whose message never quotes the URL."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ValueError(_HOW) from None
    if url.scheme != "http" or not is_host(host) or port == 0 or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(_HOW)
    if url.username is None:
        return Proxy(host, port or _DEFAULT_PORT), ()
    user, password = unquote(url.username), unquote(url.password or "")
    credential = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Proxy(host, port or _DEFAULT_PORT, f"Basic {credential}"), (credential, password)


def proxy_of_environment(environment: Mapping[str, str], scheme: str, host: str, port: int) -> str | None:
    """The URL of the proxy for a server, as the environment has it; None if there is none.

    A variable in lower case wins over one in capitals, as with curl.
    """
    if _is_excepted(_value(environment, "no_proxy") or "", host, port):
        return None
    return _value(environment, f"{scheme}_proxy") or _value(environment, "all_proxy")


def _value(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(name) or environment.get(name.upper()) or None


def _is_excepted(exceptions: str, host: str, port: int) -> bool:
    """True if NO_PROXY names the host: itself, a domain above it, a network that holds its address, or `*`."""
    host = host.lower().rstrip(".")
    for one in exceptions.replace(",", " ").split():
        name, colon, after = one.lower().rpartition(":")
        if not (colon and after.isdecimal() and "]" not in after and (":" not in name or name.startswith("["))):
            name, after = one.lower(), ""
        if after and int(after) != port:
            continue
        name = name.strip("[]").removeprefix("*").strip(".")
        if one == "*" or (name and (host == name or host.endswith(f".{name}"))) or _holds(name, host):
            return True
    return False


def _holds(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
