"""Compiles what a configuration says about the dashboard. (Contract §12.)"""

from __future__ import annotations

from urllib.parse import urlsplit

from kyma_proxy.config.snapshot import Dashboard
from kyma_proxy.core.http.web_pages import is_loopback
from kyma_proxy.loading.credentials import Report
from kyma_proxy.loading.document import Document
from kyma_proxy.loading.web_pages import find_origin_problem


def compile_dashboard(document: Document, report: Report) -> Dashboard | None:
    """The dashboard; None if it is off. Reports what is wrong with it."""
    written = document.dashboard
    if not written.enabled:
        return None
    if not document.accounts.required:
        report("dashboard.enabled", "the dashboard shows accounts, and there are none; set accounts.required to true")
    if written.public_url is None:
        report("dashboard", "public_url is missing: the address by which browsers find the gateway, https://llm.example.com")
        return None
    public_url = written.public_url.removesuffix("/")
    problem = _find_problem(public_url)
    if problem is not None:
        report("dashboard.public_url", problem)
    return Dashboard(public_url=public_url)


def _find_problem(public_url: str) -> str | None:
    scheme, _, rest = public_url.partition("://")
    if scheme not in ("http", "https") or "*" in rest or find_origin_problem(public_url) is not None:
        return "must be a scheme and a host, such as https://llm.example.com, in small letters, without a path"
    if scheme == "http" and not is_loopback(urlsplit(public_url).hostname or ""):
        return "must begin with https, as keys are typed there; http is for this machine only, such as http://127.0.0.1:8080"
    return None
