"""Builds the request of a health check, in the source's dialect. (Contract §9.)"""

from __future__ import annotations

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.http.body import with_members
from kyma_proxy.core.http.headers import encode_request_head
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.dialect.registry import DIALECTS


def check_request(source: Source) -> list[bytes | memoryview]:
    """Return the bytes of a request for one token."""
    path, body = DIALECTS[source.provider.dialect].health_check(source)
    body = with_members(body, source.body) if source.body else body
    inbound = Inbound(b"POST", path, b"", [(b"content-type", b"application/json")], body, "health-check", 0.0, False, True)
    return [encode_request_head(inbound, path, source, len(body)) + body]
