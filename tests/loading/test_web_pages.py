"""The origins and names of a configuration are checked, and a pattern allows no more than it says."""

from __future__ import annotations

import pytest

from kyma_proxy.config.snapshot import DEFAULT_ORIGINS
from kyma_proxy.loading.web_pages import compile_origins, find_host_problem, find_origin_problem


@pytest.mark.parametrize(
    "origin",
    [
        "*", "https://app.example.com", "http://localhost:3000", "http://localhost:*", "https://app.example.com:*", "http://[::1]:*",
        "http://[::1]", "http://*", "https://*", "app://*", "app://obsidian.md", "file://", "tauri://localhost",
        "vscode-webview://*", "chrome-extension://abcdef", "moz-extension://*",
    ],
)  # fmt: skip
def test_an_origin_may_be_exact_or_end_with_a_star(origin: str) -> None:
    assert find_origin_problem(origin) is None


@pytest.mark.parametrize(
    "origin",
    [
        "", "null", "app.example.com", "https://", "https://a.example/", "https://a.example/*", "https://a b", "https://u@a.example",
        "https://a.example:x", "http://[::1", "app:*", "app", "*://a", "app://*x", "a,b://c", "loopback",
        "https://app.example:65536", "https://app.example:0",
    ],
)  # fmt: skip
def test_anything_else_is_a_problem(origin: str) -> None:
    assert find_origin_problem(origin) is not None


@pytest.mark.parametrize(
    ("origin", "better"),
    [
        ("https://App.example", "https://app.example"), ("HTTPS://app.example", "https://app.example"),
        ("https://app.example:443", "https://app.example"), ("http://app.example:80", "http://app.example"),
        ("https://app.example/", "https://app.example"), ("https://app.example/path?a=b", "https://app.example"),
        ("http://Localhost:*", "http://localhost:*"), ("http://localhost:3000/", "http://localhost:3000"),
        ("http://localhost:08080", "http://localhost:8080"), ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[::FFFF]:*", "http://[::ffff]:*"), ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("tauri://localhost/", "tauri://localhost"),
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_a_problem_that_says_what_they_send(origin: str, better: str) -> None:
    assert find_origin_problem(origin) == f"a browser never writes an origin so, but {better}"
    assert find_origin_problem(better) is None


@pytest.mark.parametrize(
    "scheme",
    ["javascript", "data", "blob", "about", "vbscript", "view-source", "filesystem", "ws", "wss", "JavaScript"],
)
def test_a_scheme_whose_pages_have_no_origin_is_a_problem(scheme: str) -> None:
    for origin in (f"{scheme}://*", f"{scheme}://app.example", f"{scheme}:*"):
        assert find_origin_problem(origin) == f"no page has an origin that begins with {scheme.lower()}:"


@pytest.mark.parametrize(
    "origin",
    [
        "app://obsidian*",
        "chrome-extension://abc*",
        "tauri://localhost:1*",
        "https://app.example.com*",
        "https://app.*",
        "http://192.168.1.*",
        "https://*.example.com",
        "http://localhost*",
    ],
)
def test_a_star_within_a_name_is_a_problem_since_it_would_allow_other_names(origin: str) -> None:
    assert find_origin_problem(origin) is not None


def test_without_a_list_the_default_origins_apply_and_an_empty_list_has_none() -> None:
    assert compile_origins(None) == DEFAULT_ORIGINS
    assert compile_origins([]) == frozenset()


@pytest.mark.parametrize(
    ("host", "is_good"),
    [
        ("gateway.internal", True), ("kyma", True), ("10.0.0.1", True), ("::1", True), ("kyma:8080", False),
        ("http://kyma", False), ("", False), ("*", False), ("[::1]", False), ("a b", False),
    ],
)  # fmt: skip
def test_a_host_is_a_name_or_an_address_without_a_port(host: str, is_good: bool) -> None:
    assert (find_host_problem(host) is None) is is_good
