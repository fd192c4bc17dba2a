"""Proxies are read from URLs, and from the environment as curl reads it."""

from __future__ import annotations

import pytest

from kyma_proxy.config.origin import Proxy
from kyma_proxy.loading.proxies import parse_proxy, proxy_of_environment


@pytest.mark.parametrize(("text", "proxy", "secrets"), [
    ("http://proxy.example:8080", Proxy("proxy.example", 8080), ()),
    ("proxy.example:8080", Proxy("proxy.example", 8080), ()),
    ("http://proxy.example/", Proxy("proxy.example", 3128), ()),
    ("http://[::1]:3128", Proxy("::1", 3128), ()),
    ("http://u:p%40ss@proxy:1", Proxy("proxy", 1, "Basic dTpwQHNz"), ("dTpwQHNz", "p@ss")),
    ("http://u@proxy:1", Proxy("proxy", 1, "Basic dTo="), ("dTo=", "")),
])  # fmt: skip
def test_a_proxys_url_has_an_address_and_may_have_a_credential(text: str, proxy: Proxy, secrets: tuple[str, ...]) -> None:
    assert parse_proxy(text) == (proxy, secrets)
    assert "Basic" not in repr(parse_proxy(text)[0])


@pytest.mark.parametrize("text", [
    "https://secret@proxy:1", "socks5://secret@proxy:1", "http://", "http://proxy:0", "http://proxy:99999", "http://proxy:1/secret",
    "http://proxy:1?secret", "http://two words:1", "http://[::1:1", "secret:secret",
])  # fmt: skip
def test_a_text_that_is_no_http_proxy_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="a proxy is http://host:port") as refused:
        parse_proxy(text)
    assert "secret" not in str(refused.value)


ENVIRONMENT = {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1", "HTTP_PROXY": "http://plain:1"}


@pytest.mark.parametrize(("environment", "scheme", "found"), [
    (ENVIRONMENT, "https", "http://lower:1"),
    (ENVIRONMENT, "http", "http://plain:1"),
    ({"ALL_PROXY": "http://all:1"}, "https", "http://all:1"),
    ({"ALL_PROXY": "http://all:1", "HTTP_PROXY": ""}, "http", "http://all:1"),
    ({"HTTP_PROXY": "http://plain:1"}, "https", None),
    ({}, "https", None),
])  # fmt: skip
def test_the_environment_names_a_proxy_by_scheme(environment: dict[str, str], scheme: str, found: str | None) -> None:
    assert proxy_of_environment(environment, scheme, "api.example.com", 443) == found


@pytest.mark.parametrize(("exceptions", "host", "is_excepted"), [
    ("*", "api.example.com", True),
    ("example.com", "api.example.com", True),
    ("example.com", "example.com", True),
    (".example.com", "api.example.com", True),
    ("*.example.com", "api.example.com", True),
    ("API.EXAMPLE.COM", "api.example.com", True),
    ("example.com:443", "api.example.com", True),
    ("example.com:8443", "api.example.com", False),
    ("ample.com", "api.example.com", False),
    ("other.com, example.com", "api.example.com", True),
    ("other.com example.com", "api.example.com", True),
    ("10.0.0.0/8", "10.1.2.3", True),
    ("10.0.0.0/8", "11.1.2.3", False),
    ("10.0.0.0/8", "api.example.com", False),
    ("10.1.2.3", "10.1.2.3", True),
    ("::1", "::1", True),
    ("[::1]:443", "::1", True),
    ("fd00::/8", "fd00::1", True),
    ("", "api.example.com", False),
    (",", "api.example.com", False),
])  # fmt: skip
def test_no_proxy_excepts_hosts_domains_and_networks(exceptions: str, host: str, is_excepted: bool) -> None:
    found = proxy_of_environment({**ENVIRONMENT, "NO_PROXY": exceptions}, "https", host, 443)
    assert (found is None) == is_excepted
