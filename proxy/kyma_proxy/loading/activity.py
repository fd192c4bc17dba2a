"""Compiles what a configuration says about the requests of accounts that are kept."""

from __future__ import annotations

from kyma_proxy.config.activity_bounds import ActivityBounds
from kyma_proxy.loading.credentials import Report
from kyma_proxy.loading.document import Document


def compile_activity(document: Document, report: Report, warn: Report) -> ActivityBounds | None:
    """The bounds of what is kept; None if nothing is. Reports what it would lack."""
    activity = document.activity
    if activity is None:
        return None
    if not document.accounts.required:
        warn("activity", "has no effect while accounts.required is false: it is the requests of accounts that are kept")
    if document.access_log is None:
        report("activity", "is made of the access log's lines; set access_log, or leave activity out")
    return ActivityBounds(activity.days, activity.rows)
