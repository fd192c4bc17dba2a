"""Requests and exchanges for tests, with every member that a test does not care for filled in."""

from __future__ import annotations

from proxy.core.body import read_head
from proxy.core.endpoints import RELAYED
from proxy.core.exchange import Exchange
from proxy.core.inbound import Headers, Inbound
from tests.snapshots import default_snapshot

BODY = b'{"model":"fast","stream":true}'


def inbound(*, headers: Headers | None = None, path: bytes = b"/v1/chat/completions", query: bytes = b"") -> Inbound:
    """A request that came at second 100."""
    return Inbound(b"POST", path, query, headers or [], BODY, "request-1", 100.0, False, True)


def exchange(path: bytes = b"/v1/chat/completions") -> Exchange:
    """A request that has just come in."""
    return Exchange(inbound(path=path), RELAYED[path], default_snapshot())


def routed(path: bytes = b"/v1/chat/completions") -> Exchange:
    """A request whose model has been found under an alias."""
    routed = exchange(path)
    routed.head = read_head(BODY)
    routed.alias = "fast"
    routed.model = routed.snapshot.models["small"]
    return routed
