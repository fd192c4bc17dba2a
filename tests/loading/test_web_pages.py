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
    ],
)  # fmt: skip
def test_anything_else_is_a_problem(origin: str) -> None:
    assert find_origin_problem(origin) is not None


@pytest.mark.parametrize("origin", ["https://app.example.com*", "https://app.*", "http://192.168.1.*", "https://*.example.com"])
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
